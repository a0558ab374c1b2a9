//! The two systems that are compared: the same machine, kernel and initramfs; only the hypervisor
//! differs, and with it the toolset that the initramfs starts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use oxen_harness::{Boot, Images, Machine, Module, Vm, images};

use super::counter::{Counter, Mark};
use super::{boot, xen};
use crate::compile::write_whole;
use crate::initramfs::{self, cpio::Archive};
use crate::iso;

/// Features of QEMU 7.2's processor that stock Xen 4.17 cannot bear are masked for both
/// (docs/performance.md).
const CPU: &str = "max,-smap,-rdtscp,-xsave,-xsaveopt,-avx,-avx2,-fma,-f16c,-vaes,-vpclmulqdq,-pku";
const XEN_ARGS: &str = "com1=115200,8n1 console=com1 loglvl=warning guest_loglvl=error noreboot \
                        dom0_mem=1024M,max:1024M";
pub(super) const LIMIT: Duration = Duration::from_secs(1800);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    Oxen,
    Xen,
}

/// How a system starts. The clock counts instructions if nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Start {
    /// By QEMU's own loader: what comes before dom0's prompt does not matter.
    Direct,
    /// The same on a machine with two CPUs, of which dom0 uses one.
    DirectTwo,
    /// dom0's kernel and initramfs without any hypervisor, whatever the system.
    Bare,
    /// From a GRUB disc, as users start it.
    Disc,
    /// The same with a clock that tells the time.
    DiscTimed,
    /// From the disc on a machine with an IOMMU, with `dom0=pvh`, which Xen has no other way to
    /// run.
    DiscPvh,
}

impl System {
    pub(crate) const BOTH: [Self; 2] = [Self::Oxen, Self::Xen];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oxen => "oxen",
            Self::Xen => "xen",
        }
    }
}

/// Both systems' files.
pub(crate) struct Bench {
    oxen: PathBuf,
    pub(super) xen: Option<xen::Hypervisor>,
    kernel: PathBuf,
    /// dom0's initramfs with both toolsets and the benchmarks' scripts.
    initrd: Vec<u8>,
    /// Every machine runs with the counter, and what it wrote is kept.
    profile: bool,
}

impl Bench {
    /// Collects what was built; fetches Xen unless only Oxen is looked at.
    pub(crate) fn new(with_xen: bool, profile: bool) -> Result<Self> {
        let images = Images::built()?;
        let mut archive = Archive::default();
        let scripts = images::root().join("boot/bench");
        for script in [
            "lib.sh",
            "micro.sh",
            "cpus.sh",
            "domains.sh",
            "timed.sh",
            "load.sh",
            "work.sh",
        ] {
            archive.copy(&format!("bench/{script}"), &scripts.join(script))?;
        }
        archive.file("bench/tsc", true, &boot::clock_reader())?;
        archive.file("bench/guest.cpio", false, &working_guest(&scripts)?)?;
        let toolset = "toolset-xl";
        archive.copy(&format!("etc/oxen/{toolset}"), &scripts.join(toolset))?;
        let xen = if with_xen {
            xen::tools(&mut archive)?;
            Some(xen::hypervisor()?)
        } else {
            None
        };
        let mut initrd = fs::read(&images.initrd).context("cannot read dom0's initramfs")?;
        initrd.extend(archive.finish()?);
        Ok(Self {
            oxen: images.hypervisor,
            xen,
            kernel: images.kernel,
            initrd,
            profile,
        })
    }

    /// Measures another image of Oxen's, an ELF file.
    pub(super) fn replace_oxen(&mut self, elf: PathBuf) {
        self.oxen = elf;
    }

    /// Does the same with each system (or each machine of it), two at once, each on a thread and so
    /// a CPU of its own: what is counted does not depend on the host's load.
    pub(crate) fn on_each<K: Copy + Ord + Send, T: Send>(
        systems: &[K],
        work: impl Fn(K) -> Result<T> + Sync,
    ) -> Result<BTreeMap<K, T>> {
        let work = &work;
        let mut done = BTreeMap::new();
        for two in systems.chunks(2) {
            thread::scope(|scope| {
                let started: Vec<_> = two
                    .iter()
                    .map(|&system| (system, scope.spawn(move || work(system))))
                    .collect();
                for (system, thread) in started {
                    let result = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
                    done.insert(system, result?);
                }
                anyhow::Ok(())
            })?;
        }
        Ok(done)
    }

    /// Starts a system, runs a command in its dom0, and powers it off.
    pub(crate) fn run(&self, system: System, start: Start, command: &str) -> Result<Vec<String>> {
        if self.profile {
            let counted = self.run_counting(system, start, command);
            return counted.map(|(lines, _)| lines);
        }
        self.run_with(system, start, command, &[])
    }

    /// The same, and what the machine had executed at each look at the clock.
    pub(crate) fn run_counting(
        &self,
        system: System,
        start: Start,
        command: &str,
    ) -> Result<(Vec<String>, Vec<Mark>)> {
        let counter = Counter::new(&label(system, start), self.profile)?;
        let lines = self.run_with(system, start, command, &counter.arguments())?;
        Ok((lines, counter.marks()?))
    }

    fn run_with(
        &self,
        system: System,
        start: Start,
        command: &str,
        extra: &[OsString],
    ) -> Result<Vec<String>> {
        let name = label(system, start);
        let file = images::target_dir()
            .join("run")
            .join(format!("{name}.cpio"));
        let mut initrd = self.initrd.clone();
        initrd.extend(initramfs::with_command(command)?);
        write_whole(&file, &initrd)?;
        let lines = self.start(system, start, file.clone(), &name, extra);
        let _ = fs::remove_file(&file);
        lines.with_context(|| format!("{command} on {}", system.name()))
    }

    fn start(
        &self,
        system: System,
        start: Start,
        initrd: PathBuf,
        name: &str,
        extra: &[OsString],
    ) -> Result<Vec<String>> {
        let xen = || self.xen.as_ref().context("Xen was not fetched");
        let (elf, packed, dom0) = match system {
            System::Oxen => (&self.oxen, None, images::DOM0_ARGS.to_owned()),
            System::Xen => (
                &xen()?.elf,
                Some(xen()?.packed.clone()),
                "console=hvc0 toolset=xl".to_owned(),
            ),
        };
        let more = match start {
            Start::DiscPvh => " dom0=pvh",
            Start::DirectTwo => " dom0_max_vcpus=1",
            _ => "",
        };
        let command_line = format!("{XEN_ARGS}{more}");
        let boot = if start == Start::Bare {
            Boot::Linux {
                kernel: self.kernel.clone(),
                initrd,
                command_line: "console=ttyS0".to_owned(),
            }
        } else if matches!(start, Start::Direct | Start::DirectTwo) {
            let module = |file, command_line| Module { file, command_line };
            Boot::Multiboot {
                kernel: elf.clone(),
                command_line,
                modules: vec![
                    module(self.kernel.clone(), dom0),
                    module(initrd, String::new()),
                ],
            }
        } else {
            let choice = iso::Choice {
                xen: command_line,
                dom0,
                hypervisor: packed,
                ..iso::Choice::default()
            };
            Boot::Iso(iso::variant(&choice, Some(&initrd), name)?)
        };
        let mut machine = Machine::new(boot.clone());
        CPU.clone_into(&mut machine.cpu);
        machine.memory_mib = 4096;
        machine.counted = start != Start::DiscTimed;
        machine.cpus = if start == Start::DirectTwo { 2 } else { 1 };
        if start == Start::DiscPvh {
            let iommu = ["-machine", "kernel-irqchip=split", "-device", "amd-iommu"];
            machine.extra = iommu.map(Into::into).to_vec();
        }
        machine.extra.extend_from_slice(extra);
        let lines = output(&mut Vm::start(&machine, name, LIMIT)?);
        if let Boot::Iso(disc) = boot {
            let _ = fs::remove_file(disc);
        }
        lines
    }
}

/// Names the files of one machine: machines run side by side.
fn label(system: System, start: Start) -> String {
    let kind = match start {
        Start::Direct => "",
        Start::DirectTwo => "-two",
        Start::Bare => "-bare",
        Start::Disc => "-disc",
        Start::DiscTimed => "-timed",
        Start::DiscPvh => "-disc-pvh",
    };
    format!("bench-{}{kind}-{}", system.name(), std::process::id())
}

/// The archive that follows the example guest's ramdisk and gives the guest its work.
fn working_guest(scripts: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    let first = fs::read(scripts.join("work-guest.sh"))?;
    archive.file("bench/init", true, &first)?;
    archive.copy("bench/work.sh", &scripts.join("work.sh"))?;
    archive.file("bench/tsc", true, &boot::clock_reader())?;
    archive.finish()
}

/// The lines of the command, which the initramfs marks.
pub(super) fn output(vm: &mut Vm) -> Result<Vec<String>> {
    vm.expect("<oxen-begin>\r?\n", LIMIT)?;
    let mut lines = Vec::new();
    loop {
        let seen = vm.expect(r"oxen\| [^\n]*\n|<oxen-status \d*>", LIMIT)?;
        if let Some((_, line)) = seen.rsplit_once("oxen| ") {
            lines.push(line.trim_end().to_owned());
            continue;
        }
        if !seen.ends_with("<oxen-status 0>") {
            return Err(vm.failure("the command failed"));
        }
        return Ok(lines);
    }
}
