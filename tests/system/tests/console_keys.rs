//! The hypervisor's console: input switches with three Ctrl-A, debug keys answer, dom0 gets its
//! input back; reboot from the keys works; a panic names its place, and an NMI what the CPUs do.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use system_tests::{Lab, plain};

const SHORT: Duration = Duration::from_secs(15);

#[test]
fn keys_answer_and_input_goes_back_to_dom0() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "console-keys")?;
    let vm = &mut lab.vm;
    vm.switch_input()?;
    vm.expect(r"\(OXEN\).*input", SHORT)?;
    for (key, answer) in [
        ("h", r"\(OXEN\).*domains and their vcpus"),
        (
            "q",
            r"\(OXEN\).*d0: [^\n]*\n[^\n]*frames[^\n]*\n[^\n]*v0 on",
        ),
        ("e", r"\(OXEN\).*d0:"),
        ("g", r"\(OXEN\).*d0: \d+ of \d+ frames"),
        ("d", r"\(OXEN\).*CPU0: (d0v|idle)"),
        ("r", r"\(OXEN\).*"),
        (
            "m",
            r"\(OXEN\).*\d+ frames, \d+ free, \d+ with the heap, \d+ bytes of heap",
        ),
        ("s", r"\(OXEN\).*kHz, system time"),
        ("~", r"\(OXEN\).*no debug key '~'"),
    ] {
        vm.send(key)?;
        vm.expect(answer, SHORT)?;
    }
    vm.switch_input()?;
    vm.expect(r"\(OXEN\).*input", SHORT)?;
    ensure!(lab.sh("echo it is $((6 * 7))")? == "it is 42");
    // The same keys by xm, into the log.
    lab.sh("xm debug-keys q && xm dmesg | grep -q 'v0 on'")?;
    // A key that ends the machine.
    lab.vm.switch_input()?;
    lab.vm.send("R")?;
    lab.vm.expect(r"\(OXEN\).*reboot", SHORT)?;
    ensure!(lab.vm.wait(SHORT)?.success());
    Ok(())
}

#[test]
fn a_panic_tells_where_and_starts_the_machine_again() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "panic")?;
    lab.sh("echo before")?;
    lab.vm.switch_input()?;
    lab.vm.expect(r"\(OXEN\).*input", SHORT)?;
    lab.vm.send("C")?;
    lab.vm
        .expect(r"PANIC on CPU\d+: asked for by debug key", SHORT)?;
    lab.vm.expect(r"at hypervisor/vmm/src/keys.rs:\d+", SHORT)?;
    // By name out of the table in the image: the key's place, and what called it.
    lab.vm.expect(r"oxen_vmm::keys::crash\+0x", SHORT)?;
    lab.vm.expect(r"oxen_vmm::run::cpu_loop\+0x", SHORT)?;
    lab.vm.expect("reboot in five seconds", SHORT)?;
    ensure!(lab.vm.wait(Duration::from_secs(30))?.success());
    Ok(())
}

/// The button of a real machine's front: each CPU tells where it is, and all goes on.
#[test]
fn an_nmi_tells_what_the_cpus_do() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut machine = plain()?;
    let socket = directory.path().join("qmp");
    machine.qmp = Some(socket.clone());
    let mut lab = Lab::start(&machine, "nmi")?;
    for round in 1..=3 {
        command(&socket, "inject-nmi")?;
        for _ in 0..2 {
            lab.vm.expect(r"\(OXEN\).*unknown NMI on CPU\d", SHORT)?;
            lab.vm.expect(r"rip [0-9a-f]{4}:[0-9a-f]{16}", SHORT)?;
            // An idle CPU is in the loop, one that runs a guest where that entered.
            lab.vm
                .expect(r"(oxen_vmm::run|oxen_virt::svm::switch)::\w+\+0x", SHORT)?;
        }
        ensure!(lab.sh(&format!("echo {round} and on"))? == format!("{round} and on"));
    }
    // While a CPU writes to the console, too: what it holds then stays held as long as the NMI
    // lasts.
    lab.vm
        .send("for i in $(seq 3000); do echo a line of noise; done; echo noise: $((6 * 7))\n")?;
    for _ in 0..8 {
        command(&socket, "inject-nmi")?;
        for _ in 0..2 {
            lab.vm.expect(r"unknown NMI on CPU\d", SHORT)?;
        }
    }
    lab.vm.expect("noise: 42", Duration::from_secs(60))?;
    lab.finish()
}

/// One command by QEMU's machine protocol, without arguments.
fn command(socket: &Path, name: &str) -> Result<()> {
    let mut stream = UnixStream::connect(socket).context("QEMU's socket")?;
    stream.set_read_timeout(Some(SHORT))?;
    let mut answers = BufReader::new(stream.try_clone()?).lines();
    for command in ["qmp_capabilities", name] {
        writeln!(stream, "{{\"execute\": \"{command}\"}}")?;
        loop {
            let line = answers.next().context("QEMU went away")??;
            let answer: serde_json::Value = serde_json::from_str(&line)?;
            if answer.get("return").is_some() {
                break;
            }
            if answer.get("error").is_some() {
                bail!("{command}: {line}");
            }
        }
    }
    Ok(())
}
