//! The short set: the same checks on each back end (a vendor's virtualization in some emulator,
//! started by some firmware), and the table of what ran where.
//!
//! One boot of dom0 runs all of a back end's checks by a script, and reports each on a line of its
//! own. The results are kept in target/backends/, and target/tests-by-backend.md is written anew
//! after each run; `./x test --write-table` copies it into docs/.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use oxen_harness::images;
use regex_lite::Regex;
use serde_json::{Value, json};

use crate::lab::BAD_LINES;
use crate::runner;

/// A machine that runs the set.
pub struct Backend {
    pub id: &'static str,
    pub title: &'static str,
    /// Of `./x run`.
    pub options: &'static [&'static str],
    /// Options of dom0's kernel and the hypervisor are in the log; so is this.
    pub log_has: &'static str,
    /// Of the stock guest.
    pub vcpus: u32,
    /// More of each guest's configuration.
    pub guests: &'static str,
    /// The least that `fpu` must have covered, as bits of XCR0.
    pub components: u64,
    /// The longest that it may take, in seconds, on a busy host.
    pub limit: u32,
    /// The cases that are not run, and why.
    pub without: &'static [(&'static str, &'static str)],
}

/// The reason for cases that take most of a minute of Bochs' time: the long runs have them.
const SLOW: &str = "slow in Bochs: see the long runs";

/// The stock guest takes most of the time.
const ELSEWHERE: &str = "the full image runs it";

const AVX: u64 = 0x7;
const AVX512: u64 = 0xe7;

pub const BACKENDS: &[Backend] = &[
    Backend {
        id: "svm-qemu-bios",
        title: "AMD-V, QEMU, BIOS",
        options: &["--cpus", "2"],
        log_has: "hardware: Svm",
        vcpus: 2,
        guests: "",
        components: AVX,
        limit: 1200,
        without: &[],
    },
    Backend {
        id: "svm-qemu-uefi",
        title: "AMD-V, QEMU, UEFI",
        options: &["--cpus", "2", "--uefi"],
        log_has: "hardware: Svm",
        vcpus: 2,
        guests: "",
        components: AVX,
        limit: 1200,
        without: &[],
    },
    Backend {
        id: "svm-qemu-10",
        title: "AMD-V, QEMU 10.0",
        options: &["--cpus", "2"],
        log_has: "hardware: Svm",
        vcpus: 2,
        guests: "",
        components: AVX,
        limit: 1200,
        without: &[],
    },
    Backend {
        id: "vmx-haswell",
        title: "VT-x, Bochs, Haswell",
        options: &["--bochs", "--small", "--stock-guest"],
        log_has: "hardware: Vmx",
        vcpus: 1,
        guests: "",
        components: AVX,
        limit: 1500,
        without: &[("control-registers", SLOW), ("io", SLOW)],
    },
    Backend {
        id: "svm-embedded",
        title: "AMD-V, QEMU, embedded image",
        options: &["--cpus", "2", "--small", "--embedded", "amd"],
        log_has: "hardware: Svm",
        vcpus: 2,
        guests: "",
        components: AVX,
        limit: 1200,
        without: &[("linux", ELSEWHERE)],
    },
    Backend {
        id: "vmx-embedded",
        title: "VT-x, Bochs, embedded image",
        options: &["--bochs", "--small", "--embedded", "intel"],
        log_has: "hardware: Vmx",
        vcpus: 1,
        guests: "",
        components: AVX,
        limit: 1500,
        without: &[
            ("control-registers", SLOW),
            ("io", SLOW),
            ("linux", ELSEWHERE),
            (
                "timers",
                "its periods of 0.2 and 1 ms are 10,000 and 50,000 of Bochs' instructions; the \
                 image that is made for size takes longer for both interrupts, and the guest does \
                 nothing else",
            ),
        ],
    },
    Backend {
        id: "vmx-haswell-linux",
        title: "VT-x, Bochs, Haswell, full dom0",
        options: &["--bochs", "--stock-guest"],
        log_has: "hardware: Vmx",
        vcpus: 1,
        guests: "",
        components: AVX,
        limit: 2400,
        without: &[],
    },
    Backend {
        id: "vmx-ivy-bridge",
        title: "VT-x, Bochs, Ivy Bridge, two CPUs",
        options: &[
            "--bochs",
            "--small",
            "--stock-guest",
            "--cpus",
            "2",
            "--mem",
            "1G",
            "--dom0-mem",
            "384M",
            "--bochs-cpu",
            "corei7_ivy_bridge_3770k",
            // While all CPUs are halted, time there nearly stands still: dom0's only vcpu never
            // halts.
            "--dom0-cpus",
            "1",
            "--append-dom0",
            "idle=poll",
        ],
        log_has: "hardware: Vmx",
        vcpus: 2,
        guests: "",
        components: AVX,
        limit: 3000,
        without: &[],
    },
    Backend {
        id: "vmx-skylake",
        title: "VT-x, Bochs, Skylake-X",
        options: &[
            "--bochs",
            "--small",
            "--stock-guest",
            "--bochs-cpu",
            "corei7_skylake_x",
        ],
        log_has: "hardware: Vmx",
        vcpus: 1,
        guests: "",
        components: AVX512,
        limit: 1800,
        without: &[],
    },
    Backend {
        id: "vmx-lynnfield",
        title: "VT-x, Bochs, Lynnfield (restricted guests)",
        options: &[
            "--bochs",
            "--small",
            "--stock-guest",
            "--bochs-cpu",
            "corei5_lynnfield_750",
        ],
        log_has: "hardware: Vmx",
        // The second one starts in real mode.
        vcpus: 2,
        guests: "",
        components: 0,
        limit: 1800,
        without: &[("fpu", "the CPU has no XSAVE")],
    },
    Backend {
        id: "vmx-penryn",
        title: "VT-x, Bochs, Penryn (no EPT: all on shadows)",
        options: &[
            "--bochs",
            "--small",
            "--stock-guest",
            "--bochs-cpu",
            "core2_penryn_t9600",
        ],
        log_has: "hardware: Vmx",
        vcpus: 1,
        guests: "",
        components: 0x3,
        limit: 3000,
        without: &[(
            "hypercalls",
            "what it overwrites of itself may leave it in faults with interrupts off, and such a guest keeps a \
             machine in Bochs that has no preemption timer",
        )],
    },
    Backend {
        id: "vmx-haswell-shadow",
        title: "VT-x, Bochs, Haswell, guests on shadows",
        // Bochs tells a wrong event when a fault interrupts the delivery of a virtual interrupt:
        // docs/testing.md.
        options: &[
            "--bochs",
            "--small",
            "--stock-guest",
            "--append-xen",
            "apicv=0",
        ],
        log_has: "hardware: Vmx",
        vcpus: 1,
        guests: "hap = 0",
        components: AVX,
        limit: 2400,
        without: &[],
    },
    Backend {
        id: "svm-trinity",
        title: "AMD-V, Bochs, Trinity",
        options: &[
            "--bochs",
            "--small",
            "--stock-guest",
            "--bochs-cpu",
            "trinity_apu",
        ],
        log_has: "hardware: Svm",
        vcpus: 1,
        guests: "",
        components: AVX,
        limit: 1800,
        without: &[(
            "triple",
            "Bochs 2.7 itself stops there: its SVM has no shutdown intercept",
        )],
    },
];

/// Features that no machine of the table has, and the tests that stand in for them.
const NOWHERE: &[(&str, &str)] = &[
    (
        "posted interrupts of VT-x",
        "host tests of their descriptor; no emulator has them",
    ),
    (
        "XSAVES in guests",
        "QEMU has none, that of Bochs 2.7 is wrong and hidden",
    ),
    (
        "decode assists and clean bits of AMD-V",
        "host tests; no emulator has them",
    ),
    (
        "speculation controls",
        "host tests of the decisions and of what is written when",
    ),
    (
        "IA32_FEATURE_CONTROL unlocked, or locked without VT-x",
        "host tests; Bochs has it locked with VT-x",
    ),
];

/// Test guests that must say PASS, beside a neighbour that must go on answering.
const ATTACKS: &[&str] = &[
    "hypercalls",
    "hypercall-page",
    "cpuid",
    "msr",
    "xsetbv",
    "control-registers",
    "io",
    "mmio",
    "events",
    "grants",
    "memory",
    "pagetables",
    "reserved-bits",
    "timers",
    "exceptions",
    "nmis",
];

/// All checks, in the table's order, with what they show.
fn checks() -> Vec<(String, String)> {
    let named = [
        ("boot", "GRUB, the hypervisor, dom0 and its daemons"),
        ("hello", "a guest of our own kernel comes, speaks and goes"),
        ("linux", "a stock Linux guest reaches its shell and answers"),
        ("smp", "two vcpus of one guest send each other interrupts"),
        (
            "x2apic",
            "a local APIC in x2APIC mode: priorities, completion, faults",
        ),
        ("triple", "a triple fault ends its guest alone"),
        (
            "alignment",
            "an exception whose delivery raises it again keeps no CPU",
        ),
        (
            "task-switch",
            "a hardware task switch harms its guest alone",
        ),
        (
            "fpu",
            "extended state of two guests and dom0, each with its own patterns",
        ),
    ];
    let attacks = ATTACKS.iter().map(|name| (*name, "hostile guest"));
    let last = [("calm", "no complaint in any log at the end")];
    named
        .into_iter()
        .chain(attacks)
        .chain(last)
        .map(|(name, about)| (name.to_owned(), about.to_owned()))
        .collect()
}

/// Functions of the script. Every check ends in one line `RESULT name ok` or `RESULT name FAIL
/// why`.
const SCRIPT: &str = r#"
log() { cat "/var/log/xen/console/guest-$1.log" 2>/dev/null; }
ok() { echo "RESULT $1 ok"; }
bad() { echo "RESULT $1 FAIL $2"; log "$1" | tail -n 5; }
make() { # NAME VCPUS TEST [SEED [SECONDS]]
	printf 'name = "%s"\ntype = "pvh"\nkernel = "/boot/test-guest"\nmemory = 48\nvcpus = %s\ncmdline = "%s"\n' \
		"$1" "$2" "test=$3 seed=${4:-1} seconds=${5:-1}" >"/tmp/$1.cfg"
	printf 'on_%s = "preserve"\n' poweroff reboot crash watchdog >>"/tmp/$1.cfg"
	echo "$guests" >>"/tmp/$1.cfg"
	xm create -q "/tmp/$1.cfg"
}
neighbour() { xm console --send "$1\n" --expect "pong $1 at" --timeout 120 neighbour >/dev/null; }
ended() { # NAME
	tries=600
	until log "$1" | grep -qE '^(PASS|FAIL)' || [ $tries = 0 ]; do tries=$((tries - 1)); sleep 0.3; done
	log "$1" | grep -q '^PASS'
}
passes() { # NAME VCPUS TEST
	if ! make "$1" "$2" "$3"; then bad "$1" "it cannot be created"
	else
		ended "$1"
		if log "$1" | grep -q '^FAIL' || ! log "$1" | grep -q '^PASS'; then bad "$1" "it did not pass"
		elif neighbour "after-$1"; then ok "$1"
		else bad "$1" "the neighbour is silent"
		fi
	fi
	xm destroy "$1" >/dev/null
	rm -f /var/log/xen/console/guest-$1.log*
}
fpu() { # COMPONENTS
	make fpu 1 fpu 1 4 && make fpu2 1 fpu 2 4 && make fpu3 1 fpu-unannounced 3 4
	test-xstate 3 4 >/tmp/fpu.dom0
	own="$(cat /tmp/fpu.dom0)"
	if ! ended fpu || ! ended fpu2 || ! log fpu | grep -q '^PASS'; then bad fpu "a guest's state changed: $(log fpu2 | tail -n 1)"
	elif ! ended fpu3; then bad fpu "registers of another: $(log fpu3 | tail -n 1)"
	elif [ "${own%% *}" != PASS ]; then bad fpu "dom0's state changed: $own"
	elif ! { log fpu; log fpu2; cat /tmp/fpu.dom0; } | covers "$1"; then bad fpu "it covered less than $1: $own"
	elif neighbour after-fpu; then ok fpu
	else bad fpu "the neighbour is silent"
	fi
	for name in fpu fpu2 fpu3; do xm destroy $name >/dev/null; done
}
covers() { # COMPONENTS: all three lines have these
	all=0
	for mask in $(grep -o 'components=0x[0-9a-f]*'); do [ $((${mask#*=} & $1)) = $(($1)) ] && all=$((all + 1)); done
	[ $all = 3 ]
}
triple() {
	make triple 1 triple
	tries=300
	until xm --json list triple | grep -q '"shutdown_reason": "crash"' || [ $tries = 0 ]; do tries=$((tries - 1)); sleep 0.3; done
	if [ $tries = 0 ]; then bad triple "its end is not told"; elif neighbour after-triple; then ok triple; else bad triple "the neighbour is silent"; fi
	xm destroy triple >/dev/null
}
silent() { # TEST: it says nothing after that line, and nobody else notices
	if ! make "$1" 1 "$1"; then bad "$1" "it cannot be created"
	else
		tries=100
		until log "$1" | grep -q LEAVING || [ $tries = 0 ]; do tries=$((tries - 1)); sleep 0.3; done
		sleep 1
		if neighbour "after-$1" && xm destroy "$1" >/dev/null && neighbour "without-$1"; then ok "$1"
		else bad "$1" "the neighbour is silent"
		fi
	fi
}
linux() { # VCPUS
	kernel=/boot/vmlinux
	[ -e $kernel ] || kernel=/boot/vmlinuz
	printf 'name = "linux"\ntype = "pvh"\nkernel = "%s"\nramdisk = "/boot/guest.cpio.gz"\nmemory = 192\nvcpus = %s\ncmdline = "%s"\n' \
		"$kernel" "$1" "console=hvc0 mitigations=off nopti rodata=off cryptomgr.notests" >/tmp/linux.cfg
	echo "$guests" >>/tmp/linux.cfg
	if ! xm create -q /tmp/linux.cfg; then bad linux "it cannot be created"
	elif ! xm console --expect OXEN-GUEST-READY --timeout 1500 linux >/dev/null; then bad linux "it did not come up"
	elif ! xm console --send 'echo cpus=$(nproc)\n' --expect "cpus=$1" --timeout 300 linux >/dev/null; then bad linux "it does not answer"
	elif neighbour after-linux; then ok linux
	else bad linux "the neighbour is silent"
	fi
	xm destroy linux >/dev/null
}
"#;

/// Runs the set on one back end, keeps the results, and fails if one of them is bad.
pub fn run(id: &str) -> Result<()> {
    run_with(id, &[])
}

/// The same with more options of `./x run`.
pub fn run_with(id: &str, more: &[&str]) -> Result<()> {
    let backend = BACKENDS.iter().find(|backend| backend.id == id);
    let backend = backend.with_context(|| format!("no back end is called {id}"))?;
    let wanted: Vec<_> = checks().into_iter().map(|(name, _)| name).collect();
    let wanted: Vec<_> = wanted
        .iter()
        .filter(|name| skipped(backend, name).is_none())
        .collect();
    let mut script = format!("guests='{}'\n{SCRIPT}", backend.guests);
    script += "dmesg -n 1\nok boot\nmake neighbour 1 echo && xm console --expect READY --timeout 300 neighbour >/dev/null\n";
    for name in &wanted {
        script += &match name.as_str() {
            "boot" | "calm" => String::new(),
            "triple" => "triple\n".to_owned(),
            "alignment" | "task-switch" => format!("silent {name}\n"),
            "linux" => format!("linux {}\n", backend.vcpus),
            "hello" => "passes hello 1 hello\n".to_owned(),
            "fpu" => format!("fpu {:#x}\n", backend.components),
            "smp" => "passes smp 2 ipis\n".to_owned(),
            test => format!("passes {test} 1 {test}\n"),
        };
    }
    let _ = writeln!(
        script,
        "dmesg | grep -E '{BAD_LINES}' && bad calm \"dom0's log\" || ok calm"
    );
    script += "xm destroy neighbour";
    let run = runner::run(&[backend.options, more].concat(), &script, backend.limit)?;
    let mut results = parse(&run.output);
    if !run.console.contains(backend.log_has) {
        results.insert(
            "boot".to_owned(),
            format!("FAIL the log lacks {:?}", backend.log_has),
        );
    }
    if let Some(line) = complaint(&run.console)? {
        results.insert("calm".to_owned(), format!("FAIL {line}"));
    }
    for name in &wanted {
        results
            .entry((*name).clone())
            .or_insert_with(|| "FAIL no result".to_owned());
    }
    keep(backend, &results)?;
    write_table()?;
    let bad: Vec<_> = results
        .iter()
        .filter(|(_, result)| *result != "ok")
        .collect();
    ensure!(
        bad.is_empty() && run.status == 0,
        "status {}, {bad:#?}\n{}\n{}",
        run.status,
        run.output,
        tail(&run.console)
    );
    Ok(())
}

fn skipped(backend: &Backend, check: &str) -> Option<&'static str> {
    backend
        .without
        .iter()
        .find(|(name, _)| *name == check)
        .map(|(_, why)| *why)
}

/// Each check's last word.
fn parse(output: &str) -> BTreeMap<String, String> {
    let lines = output
        .lines()
        .filter_map(|line| line.strip_prefix("RESULT "));
    lines
        .filter_map(|line| line.split_once(' '))
        .map(|(name, result)| (name.to_owned(), result.to_owned()))
        .collect()
}

/// A panic or an entry that the CPU refused.
fn complaint(console: &str) -> Result<Option<&str>> {
    let bad = Regex::new(r"\(OXEN\).*(PANIC|panicked|entry to a guest failed)")?;
    Ok(console.lines().find(|line| bad.is_match(line)))
}

fn tail(console: &str) -> String {
    let lines: Vec<_> = console.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn keep(backend: &Backend, results: &BTreeMap<String, String>) -> Result<()> {
    let directory = images::target_dir().join("backends");
    fs::create_dir_all(&directory)?;
    let text = serde_json::to_string_pretty(&json!({ "results": results }))?;
    fs::write(directory.join(format!("{}.json", backend.id)), text)?;
    Ok(())
}

fn kept(backend: &Backend) -> Result<Option<BTreeMap<String, String>>> {
    let file = images::target_dir()
        .join("backends")
        .join(format!("{}.json", backend.id));
    let Ok(text) = fs::read_to_string(&file) else {
        return Ok(None);
    };
    let value: Value =
        serde_json::from_str(&text).with_context(|| format!("{}", file.display()))?;
    let Some(results) = value["results"].as_object() else {
        bail!("{} holds no results", file.display());
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Some(
        results
            .iter()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect(),
    ))
}

/// Of all results that are kept.
pub fn write_table() -> Result<()> {
    let mut columns = Vec::new();
    for backend in BACKENDS {
        if let Some(results) = kept(backend)? {
            columns.push((backend, results));
        }
    }
    fs::write(
        images::target_dir().join("tests-by-backend.md"),
        table(&columns),
    )?;
    Ok(())
}

/// One row for each check, one column for each back end that ran; a note for each cell that is
/// empty.
fn table(columns: &[(&Backend, BTreeMap<String, String>)]) -> String {
    let mut text =
        "# Tests by back end\n\nWritten by the run (`./x test --write-table`); the set is in \
        `tests/system/src/backends.rs`.\n\n| check | what it shows |"
            .to_owned();
    for (backend, _) in columns {
        let _ = write!(text, " {} |", backend.title);
    }
    text += "\n|---|---|";
    text += &"---|".repeat(columns.len());
    text.push('\n');
    let mut notes: Vec<String> = Vec::new();
    for (check, about) in checks() {
        let _ = write!(text, "| {check} | {about} |");
        for (backend, results) in columns {
            let cell = match (
                results.get(&check).map(String::as_str),
                skipped(backend, &check),
            ) {
                (Some("ok"), _) => "passes".to_owned(),
                (None, Some(why)) => format!("- ({})", note(&mut notes, why)),
                (Some(result), _) => format!("FAILS ({})", note(&mut notes, result)),
                (None, None) => format!(
                    "- ({})",
                    note(&mut notes, "added since this back end ran last")
                ),
            };
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text.push('\n');
    for (index, note) in notes.iter().enumerate() {
        let _ = writeln!(text, "{}. {note}", index + 1);
    }
    text += "\nIn no column:\n\n";
    for (what, instead) in NOWHERE {
        let _ = writeln!(text, "- {what}: {instead}");
    }
    let missing = BACKENDS
        .iter()
        .filter(|backend| columns.iter().all(|(ran, _)| ran.id != backend.id));
    let missing: Vec<_> = missing.map(|backend| backend.title).collect();
    if !missing.is_empty() {
        let _ = writeln!(
            text,
            "\nWithout a finished run so far: {}.",
            missing.join("; ")
        );
    }
    text
}

/// The number of a note.
fn note(notes: &mut Vec<String>, text: &str) -> usize {
    let index = notes
        .iter()
        .position(|note| note == text)
        .unwrap_or_else(|| {
            notes.push(text.to_owned());
            notes.len() - 1
        });
    index + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_told_from_other_lines() {
        let results =
            parse("noise\nRESULT hello ok\nRESULT msr FAIL it did not pass\nRESULT hello ok\n");
        assert_eq!(results["hello"], "ok");
        assert_eq!(results["msr"], "FAIL it did not pass");
        assert_eq!(results.len(), 2);
    }

    #[test]
    fn no_cell_is_empty_without_a_reason() {
        let mut results = parse("RESULT boot ok\nRESULT msr FAIL no\n");
        results.remove("hello");
        let haswell = BACKENDS.iter().find(|backend| backend.id == "vmx-haswell");
        let text = table(&[(haswell.expect("it is listed"), results)]);
        assert!(text.contains("| boot | GRUB, the hypervisor, dom0 and its daemons | passes |\n"));
        assert!(text.contains("| control-registers | hostile guest | - ("));
        assert!(text.contains(SLOW) && text.contains(". FAIL no\n"));
        assert!(!text.contains("|  |"));
        assert!(text.contains("Without a finished run so far: AMD-V, QEMU, BIOS; "));
        assert!(text.contains("- posted interrupts of VT-x: host tests"));
    }

    #[test]
    fn every_reason_is_about_a_check() {
        for (name, _) in BACKENDS.iter().flat_map(|backend| backend.without) {
            assert!(checks().iter().any(|(check, _)| check == name), "{name}");
        }
    }
}
