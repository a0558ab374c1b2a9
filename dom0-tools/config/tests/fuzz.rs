//! Configuration files from a seed: some grown from the grammar, some good ones damaged. A few in
//! the default run, as many as there is time for by `soak_fuzz` (`OXEN_SEED`, `OXEN_FUZZ_SECONDS`).

use oxen_config::{
    Diagnostic, DomainConfig, Parsed, check_name, keys, parse, parse_disk, parse_vif,
};
use oxen_fuzz::{Seed, Soak};
use std::time::{Duration, Instant};

/// No file takes longer, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(10);
/// No file has more to say.
const MOST_SAID: usize = 5000;

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// Counts of the files that were read.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    files: u64,
    good: u64,
}

/// Reads that many files made from a seed.
fn run(seed: u64, files: u64) -> Counts {
    let mut random = Random(seed);
    let mut counts = Counts::default();
    for file in 0..files {
        let _seed = Seed::new("config", seed).at("file", file);
        let text = match random.below(200) {
            0 => huge(&mut random),
            1..100 => grown(&mut random),
            _ => damaged(&mut random),
        };
        counts.files += 1;
        counts.good += u64::from(check(&text));
    }
    counts
}

/// One file: it is read in bounded time; what is taken is sound; what is refused is told with its
/// place.
fn check(text: &[u8]) -> bool {
    let start = Instant::now();
    let result = parse("fuzz", text, &[]);
    assert!(start.elapsed() < PATIENCE, "it took {:?}", start.elapsed());
    match result {
        Ok(Parsed { config, warnings }) => {
            places(&warnings, text);
            sound(&config);
            true
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a word");
            places(&errors, text);
            false
        }
    }
}

/// Each place is in the text, and what is said moves no cursor.
fn places(said: &[Diagnostic], text: &[u8]) {
    assert!(said.len() <= MOST_SAID, "{} complaints", said.len());
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    for diagnostic in said {
        let shown = diagnostic.to_string();
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert!(shown.len() < 4096 + text.len(), "{} bytes", shown.len());
        let Some(place) = diagnostic.place else {
            continue;
        };
        let line = (place.line as usize)
            .checked_sub(1)
            .and_then(|at| lines.get(at));
        let line = line.unwrap_or_else(|| panic!("no such line: {shown}"));
        assert!(
            place.column >= 1 && place.column as usize <= line.len() + 1,
            "{shown}"
        );
    }
}

/// Checks the properties of a configuration on which the rest of the toolset relies.
fn sound(config: &DomainConfig) {
    assert_eq!(check_name(&config.name), Ok(()));
    let absolute = DomainConfig {
        kernel: "/k".to_owned(),
        ..config.clone()
    };
    assert_eq!(absolute.check(), Ok(()));
    for disk in &config.disks {
        assert!(
            oxen_config::spec::vdev::number(&disk.vdev).is_some(),
            "{disk:?}"
        );
        assert!(disk.cdrom || !disk.target.is_empty(), "{disk:?}");
        assert_eq!(disk.refusal(), None);
    }
    for vif in &config.vifs {
        assert!(vif.mac.is_none_or(|mac| mac[0] & 1 == 0));
        assert!(vif.rate.is_none_or(|rate| rate.bytes > 0));
    }
    let json = serde_json::to_string(config).expect("a JSON form");
    assert_eq!(
        serde_json::from_str::<DomainConfig>(&json).expect("it is read back"),
        *config
    );
}

const GOOD: [&str; 3] = [
    "name = \"demo\" # a comment\ntype=\"pvh\"\nkernel = '/boot/vmlinuz'\nramdisk='/boot/initrd.img'\nmemory=0x80; vcpus = 2\n\
     maxvcpus=4\nextra = 'console=hvc0'\nextra += ' quiet'\ndisk = [ 'phy:/dev/vg/a,xvda,w',\n  \"/b.img,raw,xvdb,ro\", # why\n]\n\
     vif=['mac=00:16:3e:00:00:01,bridge=xenbr0,rate=10Mb/s']\non_crash='preserve'\ncpus='0-3,^2'\ncpus_soft=['0','1']\n",
    "name='web'\nbuilder='generic'\nbootloader='/usr/bin/pygrub'\nbootloader_args=['--entry=1>2']\nmemory='256'\nmaxmem=512\n\
     disk=[',hdc:cdrom,r','tap:aio:/a.img,d1p2,w!','format=qcow2,vdev=51712,target=/a,b=c']\nvif=['','ip=10.0.0.1 fe80::1,vlan=10p/20']\n\
     uuid='01234567-89ab-cdef-0123-456789abcdef'\nrtc_timeoffset=-3600\ntsc_mode='native'\ndhcp='dhcp'\n",
    "import os\nname='a'+os.uname()[1]\nif True:\n  memory=64\n",
];

/// A good file with bytes changed, moved, doubled or taken out.
fn damaged(random: &mut Random) -> Vec<u8> {
    let mut text = random.pick(&GOOD).as_bytes().to_vec();
    for _ in 0..1 + random.below(6) {
        let from = random.below(text.len().max(1)).min(text.len());
        let to = (from + random.below(24)).min(text.len());
        match random.below(6) {
            0 => drop(text.drain(from..to)),
            1 => {
                let part = text[from..to].to_vec();
                let at = random.below(text.len() + 1);
                text.splice(at..at, part);
            }
            2 => {
                let byte = random.next() as u8;
                if let Some(old) = text.get_mut(from) {
                    *old = byte;
                }
            }
            3 => {
                let word = value(random, 0);
                text.splice(from..from, word.bytes());
            }
            4 => {
                let byte = b"'\"[]\\=+,;#\n\0\xff\xe9"[random.below(14)];
                text.insert(from, byte);
            }
            _ => text.truncate(to),
        }
    }
    text
}

/// A file from the grammar, most of it meaningful.
fn grown(random: &mut Random) -> Vec<u8> {
    let all: Vec<&str> = keys::all().collect();
    let mut text = String::new();
    if random.below(4) > 0 {
        text.push_str("type='pvh'\nname='demo'\nkernel='/k'\nmemory=64\n");
    }
    for _ in 0..random.below(12) {
        let key = match random.below(12) {
            0 => word(random),
            1 => {
                // A slip.
                let mut key = random.pick(&all).to_owned();
                let at = random.below(key.len());
                key.remove(at);
                key
            }
            _ => random.pick(&all).to_owned(),
        };
        let sign = match random.below(40) {
            0 => "==",
            _ => random.pick(&["=", " = ", "+=", " ="]),
        };
        let end = random.pick(&["\n", ";", " # c\n", "\r\n", "\n\n"]);
        text.push_str(&format!("{key}{sign}{}{end}", value_of(random, &key)));
    }
    text.into_bytes()
}

/// A value that suits the key, mostly.
fn value_of(random: &mut Random, key: &str) -> String {
    let joined = |random: &mut Random, pieces: &[&str]| {
        let count = 1 + random.below(6);
        let words: Vec<&str> = (0..count).map(|_| random.pick(pieces)).collect();
        words.join(random.pick(&[",", ",", ",", ", ", ":", ""]))
    };
    let text = match key {
        "disk" => joined(random, &DISK),
        "vif" => joined(random, &VIF),
        "cpus" | "cpus_soft" => joined(
            random,
            &[
                "0", "0-3", "^2", "all", "4095", "4096", "nodes:0", "3-1", "-",
            ],
        ),
        _ => return value(random, 0),
    };
    // The small languages alone, too.
    let _ = (
        parse_disk(&text),
        parse_vif(&text),
        oxen_config::CpuSet::parse(&text),
    );
    format!("['{text}']")
}

const DISK: [&str; 34] = [
    "phy:/dev/a",
    "/a",
    "tap:aio:/a",
    "tap2:tapdisk:qcow2:/a",
    "drbd:r0",
    "npiv:a",
    "file:",
    "target=/a,b",
    "xvda",
    "xvdb1",
    "hdc:cdrom",
    "ioemu:hda",
    "d0",
    "d1p2",
    "0x1",
    "768",
    "xvdzzzz",
    "xvda256",
    "d99999999999",
    "",
    "raw",
    "qcow2",
    "empty",
    "w",
    "r",
    "w!",
    "vdev=xvdc",
    "format=vhd",
    "cdrom",
    "script=x",
    "discard",
    "backend=b",
    "backendtype=phy",
    "\u{fe}",
];
const VIF: [&str; 22] = [
    "mac=00:16:3e:0:0:1",
    "mac=ff:ff:ff:ff:ff:ff",
    "mac=",
    "bridge=br0",
    "network=nat",
    "network=private:a",
    "vlan=10p/20",
    "vlan=4095",
    "antispoof=ip",
    "ip=10.0.0.1 ::1",
    "ip=x",
    "rate=10Mb/s",
    "rate=1GB/s@20ms",
    "rate=99999999999GB/s",
    "rate=1b/s@4294967295s",
    "mtu=1500",
    "devid=65535",
    "trusted=1",
    "type=ioemu",
    "vifname=a/b",
    "accel",
    "",
];

fn value(random: &mut Random, depth: usize) -> String {
    const NUMBERS: [&str; 14] = [
        "0",
        "1",
        "4",
        "64",
        "-1",
        "0x10",
        "128",
        "129",
        "2147483648",
        "4294967296",
        "-9223372036854775808",
        "99999999999999999999",
        "010",
        "12k",
    ];
    match random.below(10) {
        0..3 => random.pick(&NUMBERS).to_owned(),
        3 => format!("'{}'", random.pick(&NUMBERS)),
        4..7 => format!("'{}'", word(random)),
        7 => format!("\"{}\"", word(random)),
        8 if depth < 20 => {
            let items: Vec<String> = (0..random.below(4))
                .map(|_| value(random, depth + 1))
                .collect();
            format!("[{}{}]", items.join(","), random.pick(&["", ",", "\n"]))
        }
        _ => random
            .pick(&[
                "", "[", "]", "'", "word", "'a' 'b'", "'\\q'", "'\\x41'", "'\\777'", "(1,2)",
            ])
            .to_owned(),
    }
}

fn word(random: &mut Random) -> String {
    const WORDS: [&str; 26] = [
        "pvh",
        "hvm",
        "demo",
        "../x",
        "a b",
        "25",
        "café",
        "/boot/vmlinuz",
        "xmgrub",
        "destroy",
        "rename_restart",
        "native",
        "all",
        "1>2",
        "\u{202e}",
        "\u{1b}[2J",
        "\u{7f}",
        "yes",
        "off",
        "default",
        "linux",
        "generic",
        "x=y",
        "--entry=a",
        ".",
        "",
    ];
    match random.below(4) {
        0 => (0..random.below(40))
            .map(|_| char::from(32 + random.below(95) as u8))
            .collect(),
        _ => random.pick(&WORDS).to_owned(),
    }
}

/// One thing again and again, up to a mebibyte.
fn huge(random: &mut Random) -> Vec<u8> {
    let piece = random.pick(&[
        "a",
        "[",
        "'",
        "\\",
        "x=1\n",
        "x='a'\n",
        "@\n",
        "x+=[1]\n",
        "x+='aa'\n",
        "memory=1;",
        "#",
        "\u{e9}",
        "\n",
        "\"\n",
        "disk+=['/a,raw,xvda']\n",
        "vif+=['']\n",
    ]);
    let start = "type='pvh'\nname='demo'\nkernel='/k'\nmemory=64\n";
    let size = 1 + random.below(oxen_config::syntax::MAX_BYTES + 2000);
    match random.below(4) {
        // Each a key of its own.
        0 => {
            let lines = (0..size / 12).map(|n| format!("k{n}=1\n"));
            format!("{start}{}", lines.collect::<String>()).into_bytes()
        }
        1 => {
            let items = (0..size / 24).map(|n| format!("'/a{n},raw,d{},w',", n % 1_000_000));
            format!("{start}disk=[{}]", items.collect::<String>()).into_bytes()
        }
        2 => format!("{start}extra='{}'", piece.repeat(size / piece.len())).into_bytes(),
        _ => format!("{start}{}", piece.repeat(size / piece.len())).into_bytes(),
    }
}

#[test]
fn files_from_a_few_seeds_are_read_or_refused() {
    let counts = run(1, 1000);
    // Else it does not try what it should.
    assert!(
        counts.good > counts.files / 20 && counts.good < counts.files * 9 / 10,
        "{counts:?}"
    );
}

#[test]
#[ignore = "soak: runs for OXEN_FUZZ_SECONDS"]
fn soak_fuzz() {
    let soak = Soak::from_env();
    let mut sum = Counts::default();
    soak.run(|seed| {
        let counts = run(seed, 200);
        sum.files += counts.files;
        sum.good += counts.good;
    });
    let seed = soak.seed;
    println!(
        "fuzz config: seed={seed} files={} good={}",
        sum.files, sum.good
    );
}
