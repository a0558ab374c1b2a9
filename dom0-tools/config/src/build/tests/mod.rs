//! Whole files to configurations.

mod corpus;

use crate::*;
use proptest::prelude::*;

fn good(text: &str) -> Parsed {
    parse("demo.cfg", text.as_bytes(), &[]).expect("a good file")
}

fn bad(text: &str) -> String {
    let errors = parse("demo.cfg", text.as_bytes(), &[]).expect_err("a bad file");
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

const LEAST: &str = "type='pvh'\nname='demo'\nkernel='/boot/vmlinuz'\nmemory=192\n";

#[test]
fn the_least_file_gets_the_defaults() {
    let Parsed { config, warnings } = good(LEAST);
    assert_eq!(warnings, []);
    assert_eq!((config.memory_mib, config.maxmem_mib), (192, 192));
    assert_eq!((config.vcpus, config.max_vcpus), (1, 1));
    assert_eq!(config.actions, Actions::default());
    assert_eq!(config.cmdline, "");
}

#[test]
fn a_full_file() {
    let text = format!(
        "{LEAST}uuid='01234567-89ab-cdef-0123-456789abcdef'\nmaxmem=256\nvcpus=2\nmaxvcpus=4\ncpus='0-1'\n\
         cpu_weight=512\ncap=50\nramdisk='/i'\nroot='/dev/xvda1'\nextra='ro quiet'\non_crash='preserve'\n\
         on_reboot='rename_restart'\ndisk=['/d,raw,xvda']\nvif=['']\nlocaltime=1\nrtc_timeoffset=-3600\n\
         tsc_mode='native'\nhap=1\nshadow_memory=8\nnomigrate=1\nmax_grant_frames=32"
    );
    let config = good(&text).config;
    assert_eq!(config.cmdline, "root=/dev/xvda1 ro quiet");
    assert_eq!(
        (config.actions.crash, config.actions.reboot),
        (Action::Preserve, Action::RenameRestart)
    );
    assert_eq!(
        (config.vcpus, config.max_vcpus, config.rtc_timeoffset),
        (2, 4, -3600)
    );
    assert_eq!((config.disks.len(), config.vifs.len()), (1, 1));
    let json = serde_json::to_string(&config).expect("it has a JSON form");
    assert_eq!(
        serde_json::from_str::<DomainConfig>(&json).expect("and is read back"),
        config
    );
}

#[test]
fn a_slip_in_a_key_is_an_error_and_a_stranger_a_warning() {
    assert_eq!(
        bad(&format!("{LEAST}memroy=1")),
        "demo.cfg:5:1: unknown key \"memroy\"; did you mean \"memory\"?"
    );
    assert_eq!(
        good(&format!("{LEAST}\n  flavour=1")).warnings[0].to_string(),
        "demo.cfg:6:3: unknown key \"flavour\" is ignored, as xl does"
    );
}

#[test]
fn keys_of_xl_without_support_are_warnings() {
    let warnings = good(&format!("{LEAST}pci=['00:1f.0']\nvnc=1")).warnings;
    let texts: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "demo.cfg:5:1: pci is not supported yet and is ignored",
            "demo.cfg:6:1: vnc concerns type=\"hvm\" only and is ignored"
        ]
    );
}

#[test]
fn other_kinds_of_guest_are_refused_clearly() {
    assert!(
        bad(&LEAST.replace("pvh", "hvm"))
            .starts_with("demo.cfg:1:6: type=\"hvm\" is not supported; only")
    );
    assert!(bad("builder='hvm'\nname='a'\nkernel='k'\nmemory=1").contains("builder=\"hvm\""));
    assert_eq!(good(&LEAST.replace("type='pvh'", "")).warnings.len(), 1);
}

#[test]
fn what_is_missing_is_named() {
    let errors = bad("type='pvh'");
    for key in ["name is missing", "kernel is missing", "memory is missing"] {
        assert!(errors.contains(key), "{errors}");
    }
}

#[test]
fn values_out_of_range_or_order() {
    for (line, part) in [
        ("vcpus=0", "vcpus: 0 is outside 1 to 128"),
        ("vcpus=4\nmaxvcpus=2", "vcpus (4) is more than maxvcpus (2)"),
        ("maxmem=64", "memory (192) is more than maxmem (64)"),
        ("name='../x'", "not '/'"),
        ("name='..'", "directory"),
        ("name=''", "1 to 128"),
        ("memory='lots'", "\"lots\" is not a number"),
        ("memory=010", "leading zero"),
        ("memory=99999999999999999999", "too large"),
        ("memory=[1]", "expected a number, found a list"),
        ("on_crash='explode'", "none of destroy"),
        ("hap='maybe'", "0 or 1"),
        ("localtime='maybe'", "0 or 1"),
        ("disk='x'", "expected a list"),
        ("disk=['/a,raw,xvda','/b,raw,xvda']", "twice"),
        (
            "vif=['mac=00:16:3e:0:0:1','mac=00:16:3e:0:0:1']",
            "same mac",
        ),
        ("cap=101", "outside 0 to 100"),
        ("uuid='x'", "not a UUID"),
    ] {
        let errors = bad(&format!("{LEAST}{line}"));
        assert!(errors.contains(part), "{line}: {errors}");
    }
}

#[test]
fn a_name_of_digits_is_taken_with_a_warning() {
    let parsed = good(&LEAST.replace("demo", "25"));
    assert_eq!(parsed.config.name, "25");
    assert_eq!(
        parsed.warnings[0].to_string(),
        "demo.cfg:2:1: name 25: xm's commands take it for a domain's number first"
    );
}

#[test]
fn cmdline_wins_over_root_and_extra() {
    let parsed = good(&format!("{LEAST}cmdline='a'\nextra='b'"));
    assert_eq!(parsed.config.cmdline, "a");
    assert_eq!(parsed.warnings.len(), 1);
}

#[test]
fn overrides_win_and_are_named_as_their_source() {
    let words = ["memory=256".to_owned(), "name=other".to_owned()];
    let config = parse("f", LEAST.as_bytes(), &words).expect("good").config;
    assert_eq!((config.memory_mib, config.name.as_str()), (256, "other"));
    let errors = parse("f", LEAST.as_bytes(), &["vcpus=1000".to_owned()]).expect_err("too many");
    assert!(
        errors[0].to_string().starts_with("command line:1:7: vcpus"),
        "{}",
        errors[0]
    );
}

proptest! {
    #[test]
    fn no_values_panic(key in prop::sample::select(keys::all().collect::<Vec<_>>()), value in "\\PC{0,30}", form in 0..3) {
        let quoted = format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
        let value = match form { 0 => value, 1 => quoted, _ => format!("[{quoted}]") };
        let _ = parse("t", format!("{LEAST}{key}={value}").as_bytes(), &[]);
    }
}

/// The files that users start from are good, without a warning.
#[test]
fn the_examples_are_good() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for file in std::fs::read_dir(directory).expect("the examples") {
        let path = file.expect("a file").path();
        let parsed = parse("example", &std::fs::read(&path).expect("its text"), &[]);
        let parsed = parsed.unwrap_or_else(|errors| panic!("{}: {}", path.display(), errors[0]));
        assert_eq!(parsed.warnings, [], "{}", path.display());
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn what_did_not_come_from_a_file_is_checked_too() {
    let config = good(LEAST).config;
    assert_eq!(config.check(), Ok(()));
    for spoilt in [
        DomainConfig {
            name: "a/b".into(),
            ..config.clone()
        },
        DomainConfig {
            vcpus: 0,
            ..config.clone()
        },
        DomainConfig {
            vcpus: 2,
            ..config.clone()
        },
        DomainConfig {
            vcpus: 200,
            max_vcpus: 200,
            ..config.clone()
        },
        DomainConfig {
            memory_mib: 0,
            ..config.clone()
        },
        DomainConfig {
            maxmem_mib: 1,
            ..config.clone()
        },
        DomainConfig {
            memory_mib: u32::MAX,
            maxmem_mib: u32::MAX,
            ..config.clone()
        },
        DomainConfig {
            kernel: "vmlinuz".into(),
            ..config.clone()
        },
        DomainConfig {
            cmdline: "a\0b".into(),
            ..config
        },
    ] {
        assert!(spoilt.check().is_err(), "{spoilt:?}");
    }
}

#[test]
fn a_boot_loader_stands_in_for_a_kernel() {
    let head = "type='pvh'\nname='a'\nmemory=64\n";
    let disk = "disk=['/a.img,raw,xvda,w']\n";
    let good = |text: &str| {
        parse("test", format!("{head}{text}").as_bytes(), &[]).map_err(|errors| {
            let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
            texts.join("\n")
        })
    };
    for name in ["xmgrub", "pygrub", "/usr/lib/xen/bin/pygrub"] {
        let parsed = good(&format!("{disk}bootloader='{name}'")).expect(name);
        assert_eq!(parsed.config.bootloader, Some(Bootloader::default()));
        assert!(parsed.config.kernel.is_empty() && parsed.warnings.is_empty());
        parsed.config.check().expect("it can be built");
    }
    for arguments in ["'--entry=1>2'", "['--quiet', '--entry', '1>2']"] {
        let text = format!("{disk}bootloader='xmgrub'\nbootloader_args={arguments}");
        let entry = good(&text).expect(arguments).config.bootloader;
        assert_eq!(entry.and_then(|it| it.entry).as_deref(), Some("1>2"));
    }
    let both = good(&format!("{disk}bootloader='xmgrub'\nkernel='/k'")).expect("a warning");
    assert_eq!(both.warnings.len(), 1);
    let none = good("bootloader=''\nkernel='/k'").expect("no loader");
    assert_eq!(
        (none.config.bootloader, none.config.kernel.as_str()),
        (None, "/k")
    );
    for (text, says) in [
        (format!("{disk}bootloader='lilo'"), "only \"xmgrub\""),
        ("bootloader='xmgrub'".to_owned(), "no disk to boot from"),
        (
            format!("{disk}bootloader='xmgrub'\nbootloader_args='--entry='"),
            "no menu entry",
        ),
        (
            format!("{disk}bootloader='xmgrub'\nbootloader_args='-x'"),
            "is not known",
        ),
    ] {
        let error = good(&text).expect_err(&text);
        assert!(error.contains(says), "{text}: {error}");
    }
}
