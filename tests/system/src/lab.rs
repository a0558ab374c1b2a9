//! A machine under test, driven at dom0's prompt.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oxen_harness::{Images, Machine, Outcome, Vm};
use regex_lite::Regex;
use serde_json::Value;

use crate::guest::Guest;
use crate::turn::{self, Turn};

/// The way to dom0's prompt, on a busy host.
const BOOT: u64 = 150;
/// The longest life of any machine that does not ask for more.
const LIFE: u64 = 900;
/// dom0's own timers and queues come and go in the hypervisor's heap. A hundred guests that left no
/// more than the smallest object each would show beyond this.
const HEAP_NOISE: u64 = 8 * 100;
/// A command that only looks at something.
const SHORT: u64 = 30;
/// One that asks the daemons while guests spin on every CPU.
const LONG: u64 = 120;

/// All limits are multiplied by OXEN_PATIENCE, where the host has other work to do.
pub fn patient(seconds: u64) -> u64 {
    let times = std::env::var("OXEN_PATIENCE").ok();
    seconds * times.and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn limit(seconds: u64) -> Duration {
    Duration::from_secs(patient(seconds))
}

/// Lines that neither dom0's log nor the hypervisor's may hold after a test without faults.
pub const BAD_LINES: &str = r"WARNING:|\bBUG\b|unchecked MSR|lost interrupt|nobody cared|soft lockup|\bstall|PANIC|Oops|call trace|Call Trace|hung task";

/// Makes `xsls PATH` in dom0: the names in a directory of the store, by the kernel's connection
/// (xen/io/xs_wire.h: type, request, transaction, length, then the path).
const XSLS: &str = r#"cat > /bin/xsls <<'EOF'
exec 3<>/dev/xen/xenbus
len=$(printf %03o $((${#1} + 1)))
printf "\001\000\000\000\001\000\000\000\000\000\000\000\\$len\000\000\000$1\000" >&3
dd bs=4096 count=1 <&3 2>/dev/null | tail -c +17 | tr '\0' ' '
EOF
chmod +x /bin/xsls"#;

/// The usual machine: two CPUs, QEMU's multiboot loader.
pub fn plain() -> Result<Machine> {
    machine("dom0_mem=768M", "")
}

/// A machine with more arguments for the hypervisor and dom0's kernel.
pub fn machine(xen: &str, dom0: &str) -> Result<Machine> {
    let mut machine = Machine::new(Images::built()?.direct(xen, dom0));
    machine.cpus = 2;
    machine.memory_mib = 3072;
    Ok(machine)
}

/// dom0's prompt, and what is behind it.
pub struct Lab {
    pub vm: Vm,
    /// Given back when the machine is gone.
    _turn: Turn,
}

/// The figures that must be the same before and after guests came and went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Free frames and those of the heap together: the heap's pages come and go with its objects.
    pub free_frames: u64,
    pub heap_bytes: u64,
    /// The paths of the store's nodes.
    pub store: Vec<String>,
}

impl Totals {
    /// Guests have left nothing.
    pub fn same(&self, after: &Self) -> Result<()> {
        ensure!(
            after.free_frames == self.free_frames
                && after.store == self.store
                && after.heap_bytes.abs_diff(self.heap_bytes) < HEAP_NOISE,
            "{self:?} became {after:?}"
        );
        Ok(())
    }
}

impl Lab {
    /// Boots, and waits for the prompt.
    pub fn start(machine: &Machine, name: &str) -> Result<Self> {
        Self::start_for(machine, name, LIFE)
    }

    /// The same for a long life.
    pub fn start_for(machine: &Machine, name: &str, seconds: u64) -> Result<Self> {
        Self::start_in(turn::beside_others(), machine, name, seconds)
    }

    /// Without other machines on the host, for what is measured by the clock.
    pub fn start_alone(machine: &Machine, name: &str) -> Result<Self> {
        Self::start_in(turn::alone(), machine, name, LIFE)
    }

    fn start_in(turn: Turn, machine: &Machine, name: &str, seconds: u64) -> Result<Self> {
        let mut vm = Vm::start(machine, name, limit(seconds))?;
        vm.wait_for_dom0(limit(BOOT))?;
        let mut lab = Self { vm, _turn: turn };
        // Messages of dom0's kernel would break the lines that are looked for.
        lab.sh("dmesg -n 1")?;
        lab.sh(XSLS)?;
        Ok(lab)
    }

    /// A quick command that must succeed; its output.
    pub fn sh(&mut self, command: &str) -> Result<String> {
        self.sh_for(command, limit(SHORT))
    }

    /// The same with a limit of its own.
    pub fn sh_in(&mut self, command: &str, seconds: u64) -> Result<String> {
        self.sh_for(command, limit(seconds))
    }

    fn sh_for(&mut self, command: &str, limit: Duration) -> Result<String> {
        let output = self.vm.run_ok(command, limit)?;
        Ok(without_log(&output))
    }

    /// A command that may fail.
    pub fn outcome(&mut self, command: &str, seconds: u64) -> Result<Outcome> {
        let outcome = self.vm.run_command(command, limit(seconds))?;
        Ok(Outcome {
            output: without_log(&outcome.output),
            ..outcome
        })
    }

    /// Repeats a command in dom0 until it succeeds.
    pub fn until(&mut self, command: &str, seconds: u64) -> Result<String> {
        let (limit, seconds) = (limit(seconds + 30), patient(seconds));
        let script = format!(
            "end=$(($(date +%s) + {seconds})); until {{ {command}; }}; do [ $(date +%s) -lt $end ] || exit 1; sleep 0.3; done"
        );
        let outcome = self.vm.run_command(&format!("( {script} )"), limit)?;
        if outcome.status == 0 {
            return Ok(without_log(&outcome.output));
        }
        let last = outcome.output.lines().rev().take(10).collect::<Vec<_>>();
        let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
        Err(self.vm.failure(&format!(
            "{command:?} did not succeed in {seconds} s; at last:\n{last}"
        )))
    }

    /// A command's JSON.
    pub fn json(&mut self, command: &str) -> Result<Value> {
        let text = self.sh_in(command, LONG)?;
        serde_json::from_str(&text).with_context(|| format!("{command:?} printed {text:?}"))
    }

    /// The domains by `xm list`.
    pub fn domains(&mut self) -> Result<Vec<Value>> {
        match self.json("xm --json list")? {
            Value::Array(list) => Ok(list),
            other => anyhow::bail!("xm list printed {other}"),
        }
    }

    /// One domain's entry, if there is such a domain.
    pub fn domain(&mut self, name: &str) -> Result<Option<Value>> {
        Ok(self
            .domains()?
            .into_iter()
            .find(|domain| domain["name"] == name))
    }

    /// Free memory and heap of the hypervisor by its debug key, and the store's nodes.
    pub fn totals(&mut self) -> Result<Totals> {
        let log =
            self.sh("xm debug-keys m && sleep 0.3 && xm dmesg | tail -40 | sed 's/^(OXEN)//'")?;
        let line = Regex::new(r"\d+ frames, (\d+) free, (\d+) with the heap, (\d+) bytes of heap")?;
        let found = line
            .captures_iter(&log)
            .last()
            .with_context(|| format!("no memory figures in the log:\n{log}"))?;
        Ok(Totals {
            free_frames: found[1].parse::<u64>()? + found[2].parse::<u64>()?,
            heap_bytes: found[3].parse()?,
            store: self.store()?,
        })
    }

    /// The same once a first guest has come and gone. dom0's own tables in the hypervisor grow with
    /// the ports and mappings of its first guest, and stay as large.
    pub fn totals_after_a_guest(&mut self) -> Result<Totals> {
        let first = Guest::test("first", "test=echo").create(self)?;
        self.guest_says(&first, "READY", 20)?;
        self.destroy(&first)?;
        self.totals()
    }

    /// The names under each directory that guests leave traces in.
    fn store(&mut self) -> Result<Vec<String>> {
        let text = self.sh(
            "for d in /local/domain /vm /libxl /local/domain/0/backend/vbd /local/domain/0/backend/vif; do echo $d: $(xsls $d); done",
        )?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// dom0 answers, all of its daemons run, and neither log has anything bad.
    pub fn healthy(&mut self) -> Result<()> {
        self.sh("for d in xenstored xenconsoled xnetd xmd; do pidof $d >/dev/null || { echo $d is gone; exit 1; }; done")?;
        let bad = self.outcome(&format!("dmesg | grep -A 30 -E '{BAD_LINES}'"), 30)?;
        ensure!(bad.status == 1, "dom0's log holds:\n{}", bad.output);
        Ok(())
    }

    /// The checks of [`Lab::healthy`], then dom0 powers the machine off.
    pub fn finish(mut self) -> Result<()> {
        self.healthy()?;
        self.vm.refuse(r"\(OXEN\).*(PANIC|panicked|BUG)")?;
        self.vm.send("poweroff\n")?;
        let status = self.vm.wait(Duration::from_secs(60))?;
        ensure!(status.success(), "QEMU ended with {status}");
        Ok(())
    }
}

/// The hypervisor writes whole lines to the same console, whenever it has something to tell: they
/// are no command's output.
fn without_log(output: &str) -> String {
    let lines = output.lines().filter(|line| !line.starts_with("(OXEN) ["));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_hypervisor_tells_meanwhile_is_no_output() {
        let seen = "(OXEN) [  25.209140] d2 shut down, reason 0\n[\n  1\n]";
        assert_eq!(super::without_log(seen), "[\n  1\n]");
    }
}
