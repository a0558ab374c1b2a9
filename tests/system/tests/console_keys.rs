//! The hypervisor's console: input switches with three Ctrl-A, debug keys answer, dom0 gets its input
//! back; reboot from the keys works, and a panic names its place.

use std::time::Duration;

use anyhow::{Result, ensure};
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
        ("m", r"\(OXEN\).*\d+ frames, \d+ free, \d+ bytes of heap"),
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
    lab.vm
        .expect(r"at hypervisor/kernel/src/keys.rs:\d+", SHORT)?;
    // By name out of the table in the image: the key's place, and what called it.
    lab.vm.expect(r"oxen::keys::crash\+0x", SHORT)?;
    lab.vm.expect(r"oxen::run::cpu_loop\+0x", SHORT)?;
    lab.vm.expect("reboot in five seconds", SHORT)?;
    ensure!(lab.vm.wait(Duration::from_secs(30))?.success());
    Ok(())
}
