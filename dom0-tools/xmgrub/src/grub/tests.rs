//! Menus as generators write them, and what is wrong or hostile.

use super::*;
use crate::Error;
use std::collections::BTreeMap;

/// Files by `device path`, and devices by UUID.
#[derive(Default)]
struct Fake {
    files: BTreeMap<String, String>,
    uuids: BTreeMap<String, String>,
}

impl Fake {
    fn key(root: &str, path: &str) -> String {
        let (device, path) = split_device(path).unwrap_or((root, path));
        format!("{device} {path}")
    }

    fn with(mut self, key: &str, text: &str) -> Self {
        self.files.insert(key.to_owned(), text.to_owned());
        self
    }
}

impl Files for Fake {
    fn has(&self, root: &str, path: &str, filled: bool) -> bool {
        let found = self.files.get(&Self::key(root, path));
        found.is_some_and(|text| !filled || !text.is_empty())
    }

    fn text(&self, root: &str, path: &str) -> Result<String> {
        let found = self.files.get(&Self::key(root, path)).cloned();
        found.ok_or_else(|| Error::new("there is no such file"))
    }

    fn search(&self, what: Search<'_>) -> Option<String> {
        match what {
            Search::Uuid(uuid) => self.uuids.get(uuid).cloned(),
            Search::Label(_) => None,
            Search::File(path) => self
                .has("hd0,gpt1", path, false)
                .then(|| "hd0,gpt1".to_owned()),
        }
    }
}

fn choose(text: &str, files: &Fake, wanted: Option<&str>) -> Result<(String, Boot)> {
    run(text, files, "hd0,gpt1", "/boot/grub")?.choose(wanted)
}

fn kernel(text: &str) -> String {
    let (_, boot) = choose(text, &Fake::default(), None).expect("it boots");
    boot.kernel.expect("a kernel").path
}

/// The shape of what update-grub writes.
const GENERATED: &str = r#"
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
else
   set default="${saved_entry}"
fi
if [ x"${feature_menuentry_id}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi
export menuentry_id_option
function load_video {
  if [ x$feature_all_video_module = xy ]; then
    insmod all_video
  else
    insmod efi_gop
  fi
}
if [ x$feature_timeout_style = xy ] ; then
  set timeout_style=menu
  set timeout=5
# Fallback normal timeout code
else
  set timeout=5
fi
menuentry 'Debian GNU/Linux' --class debian --class gnu-linux $menuentry_id_option 'simple-1' {
	load_video
	insmod gzio
	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
	set root='hd0,gpt9'
	if [ x$feature_platform_search_hint = xy ]; then
	  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt2 --hint='hd0,gpt2'  0815-aa
	else
	  search --no-floppy --fs-uuid --set=root 0815-aa
	fi
	echo	'Loading Linux 6.1 ...'
	linux	/vmlinuz-6.1 root=UUID=0815-aa ro  console=hvc0 quiet
	echo	'Loading initial ramdisk ...'
	initrd	/initrd.img-6.1
}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'advanced-1' {
	menuentry 'Debian, with Linux 6.1' $menuentry_id_option 'linux-6.1' {
		linux	/vmlinuz-6.1 root=/dev/xvda2
	}
	menuentry 'Debian, with Linux 5.10' $menuentry_id_option 'linux-5.10' {
		linux	(hd0,gpt3)/vmlinuz-5.10 root=/dev/xvda2 "dyndbg=module foo +p"
		initrd	/early.img /initrd.img-5.10
	}
}
if [ -f  ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
elif [ -z "${config_directory}" -a -f  $prefix/custom.cfg ]; then
  source $prefix/custom.cfg
fi
"#;

fn generated() -> Fake {
    let mut files = Fake::default();
    files.uuids.insert("0815-aa".into(), "hd0,gpt2".into());
    files
}

#[test]
fn a_generated_menu_boots_its_first_entry() {
    let (title, boot) = choose(GENERATED, &generated(), None).expect("it boots");
    assert_eq!(title, "Debian GNU/Linux");
    let kernel = boot.kernel.expect("a kernel");
    assert_eq!(
        (kernel.device.as_str(), kernel.path.as_str()),
        ("hd0,gpt2", "/vmlinuz-6.1")
    );
    assert_eq!(boot.arguments, "root=UUID=0815-aa ro console=hvc0 quiet");
    assert_eq!(boot.ramdisks.len(), 1);
    assert_eq!(boot.ramdisks[0].device, "hd0,gpt2");
    let files = generated();
    let menu = run(GENERATED, &files, "hd0,gpt2", "/boot/grub").expect("it runs");
    let submenu = "Advanced options for Debian GNU/Linux";
    assert_eq!(
        menu.entries(),
        [
            "Debian GNU/Linux".to_owned(),
            format!("{submenu}>Debian, with Linux 6.1"),
            format!("{submenu}>Debian, with Linux 5.10"),
        ]
    );
}

#[test]
fn entries_have_places_titles_and_ids() {
    let files = generated();
    for name in [
        "1>1",
        "advanced-1>linux-5.10",
        "Advanced options for Debian GNU/Linux>Debian, with Linux 5.10",
        "1>linux-5.10",
    ] {
        let (title, boot) = choose(GENERATED, &files, Some(name)).expect(name);
        assert_eq!(title, "Debian, with Linux 5.10", "{name}");
        assert_eq!(boot.kernel.expect("a kernel").device, "hd0,gpt3");
        assert_eq!(boot.arguments, "root=/dev/xvda2 dyndbg=\"module foo +p\"");
        assert_eq!(boot.ramdisks.len(), 2);
    }
    for name in ["7", "1>7", "0>1", "nobody", ""] {
        assert!(choose(GENERATED, &files, Some(name)).is_err(), "{name}");
    }
    // A submenu stands for its first entry.
    let (title, _) = choose(GENERATED, &files, Some("advanced-1")).expect("a submenu");
    assert_eq!(title, "Debian, with Linux 6.1");
}

#[test]
fn the_saved_entry_counts_and_the_one_for_next_time_does_not() {
    let block =
        "# GRUB Environment Block\nsaved_entry=advanced-1>linux-5.10\nnext_entry=simple-1\n####";
    let files = generated().with("hd0,gpt1 /boot/grub/grubenv", block);
    let (title, _) = choose(GENERATED, &files, None).expect("it boots");
    assert_eq!(title, "Debian, with Linux 5.10");
}

#[test]
fn other_files_are_sourced() {
    let custom = "set default=mine\nmenuentry mine { linux /mine a=1 }";
    let files = generated().with("hd0,gpt1 /boot/grub/custom.cfg", custom);
    let (title, boot) = choose(GENERATED, &files, None).expect("it boots");
    assert_eq!((title.as_str(), boot.arguments.as_str()), ("mine", "a=1"));
}

#[test]
fn words_quotes_and_conditions() {
    assert_eq!(kernel("menuentry a{b} { linux /x }"), "/x");
    assert_eq!(
        kernel("menuentry 'a' { linux '/with blank' }"),
        "/with blank"
    );
    assert_eq!(
        kernel("k=/y; menuentry \"a b\" --id=q { linux \"${k}z\" }"),
        "/yz"
    );
    assert_eq!(
        kernel("menuentry a { # not this: linux /n\n linux /a\\\nb }"),
        "/ab"
    );
    assert_eq!(
        kernel(
            "menuentry a {\nif false; then linux /1; elif [ 3 -gt 2 ]; then linux /2; else linux /3; fi\n}"
        ),
        "/2"
    );
    assert_eq!(
        kernel("if [ ! -e /x -a -z \"$y\" ]; then p=/t; fi\nmenuentry a { linux $p }"),
        "/t"
    );
    assert_eq!(
        kernel("for x in 1 2; do menuentry no { linux /no }; done\nmenuentry a { linux /yes }"),
        "/yes"
    );
    assert_eq!(kernel("function f { linux /f; }\nmenuentry a { f }"), "/f");
    let blanks = "v='/a b=1'; menuentry a { linux $v c }";
    let (_, boot) = choose(blanks, &Fake::default(), None).expect("it boots");
    assert_eq!(boot.arguments, "b=1 c");
}

#[test]
fn what_is_broken_is_named_with_its_line() {
    for (text, says) in [
        ("\nmenuentry 'a {", "line 2: a quote is not closed"),
        ("menuentry a {\n linux /x", "ends here"),
        ("}", "without"),
        ("if true; then", "ends here"),
        ("fi", "unexpected \"fi\""),
        ("menuentry a", "has no block"),
        ("function {", "has no name"),
        ("", "no entry"),
        ("submenu a { }", "no entry"),
    ] {
        let error = choose(text, &Fake::default(), None)
            .expect_err(text)
            .to_string();
        assert!(error.contains(says), "{text:?}: {error}");
    }
}

/// One command may hold a mebibyte of words.
#[test]
fn a_test_of_many_words_ends() {
    let ends = |text: &str| choose(text, &Fake::default(), None).map(drop);
    let denied = format!(
        "if [ {} x ]; then\nmenuentry a {{ linux /k }}\nfi\n",
        "! ".repeat(200_000)
    );
    assert_eq!(ends(&denied), Ok(()));
    let looks = |count: usize| {
        format!(
            "[ -f /x {}]\nmenuentry a {{ linux /k }}\n",
            "-o -f /x ".repeat(count)
        )
    };
    assert_eq!(ends(&looks(900)), Ok(()));
    let error = ends(&looks(100_000)).expect_err("too many").to_string();
    assert!(error.contains("looks for too many files"), "{error}");
}

#[test]
fn hostile_menus_end() {
    let deep = "if true; then ".repeat(100_000);
    let wide = "menuentry a { }\n".repeat(2000);
    // Each line doubles a variable.
    let growing = format!("v=xxxxxxxx\n{}", "v=\"$v$v\"\n".repeat(64));
    let calls = "function f { f; f; }\nf";
    let mut fan = String::from("function f0 { true; }\n");
    for n in 1..15 {
        let call = format!("f{};", n - 1).repeat(10);
        fan.push_str(&format!("function f{n} {{ {call} }}\n"));
    }
    fan.push_str("f14");
    for text in [&deep, &wide, &growing, calls, &fan] {
        assert!(choose(text, &Fake::default(), None).is_err());
    }
    let itself = Fake::default().with("hd0,gpt1 /a", "source /a; source /a");
    assert!(choose("source /a", &itself, None).is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(?s).{0,300}") {
        let _ = choose(&text, &Fake::default(), None);
    }

    #[test]
    fn no_mixture_of_its_words_makes_it_panic(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "if", "then", "elif", "else", "fi", "{", "}", "menuentry", "submenu", "'a'", "\"$x\"", "$x",
                "x=$x$x", "[", "]", "-a", "-o", "!", "\n", ";", "function", "f", "source", "/a", "linux",
                "initrd", "search", "--set=x", "load_env", "for", "do", "done", "set", "#", "\\", "'", "\"",
            ]),
            0..60,
        )
    ) {
        let files = Fake::default().with("hd0,gpt1 /a", "if [ x ]; then f; fi");
        let _ = choose(&words.join(" "), &files, Some("0>0"));
    }
}
