//! The description of a machine, and the QEMU command line that makes it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The machine to start. Plain data: change the fields that matter, keep the rest.
#[derive(Clone, Debug)]
pub struct Machine {
    pub qemu: PathBuf,
    pub cpus: u32,
    pub memory_mib: u32,
    /// QEMU's CPU model; `max` is the reference.
    pub cpu: String,
    pub boot: Boot,
    pub firmware: Firmware,
    pub disks: Vec<Disk>,
    pub nics: Vec<Nic>,
    pub serial: Serial,
    /// End QEMU at a guest's reset instead of restarting the machine.
    pub no_reboot: bool,
    /// Wait for gdb on this port of 127.0.0.1 before the first instruction.
    pub gdb: Option<u16>,
    /// Interrupts, exceptions and resets as QEMU sees them, into this file (huge).
    pub trace: Option<PathBuf>,
    /// A socket for QEMU's machine protocol (screendump, quit, ...).
    pub qmp: Option<PathBuf>,
    /// The machine's clock counts executed instructions, one nanosecond each, whatever the host's
    /// load (QEMU's `-icount`): two equal runs take equally long on it. Time in which all CPUs halt
    /// is skipped to the next timer.
    pub counted: bool,
    /// More arguments, at the end of the line.
    pub extra: Vec<OsString>,
}

/// The way in which the machine boots.
#[derive(Clone, Debug)]
pub enum Boot {
    /// The GRUB disc: the path of users.
    Iso(PathBuf),
    /// QEMU's own multiboot1 loader: no firmware, no GRUB, some seconds faster.
    Multiboot {
        kernel: PathBuf,
        command_line: String,
        modules: Vec<Module>,
    },
    /// A plain Linux without hypervisor: tests the initramfs alone.
    Linux {
        kernel: PathBuf,
        initrd: PathBuf,
        command_line: String,
    },
}

/// A multiboot module with its command line.
#[derive(Clone, Debug)]
pub struct Module {
    pub file: PathBuf,
    pub command_line: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    Bios,
    Uefi,
}

#[derive(Clone, Debug)]
pub struct Disk {
    pub file: PathBuf,
    pub bus: DiskBus,
    pub read_only: bool,
    /// Writes go to a temporary overlay and are lost at the end.
    pub snapshot: bool,
    pub limit: Option<Limit>,
}

/// The most that a disk does in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub bytes: u64,
    pub requests: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskBus {
    Ahci,
    Nvme,
    Virtio,
}

#[derive(Clone, Debug)]
pub struct Nic {
    pub model: NicModel,
    /// More options of the user-mode back end, such as `hostfwd=tcp:127.0.0.1:2222-:22`.
    pub options: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NicModel {
    Virtio,
    E1000e,
}

/// Where COM1 goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serial {
    /// QEMU's stdin and stdout as they are: for pipes.
    Pipes,
    /// The user's terminal. Ctrl-] x ends QEMU; Ctrl-A is left to the hypervisor.
    Terminal,
}

impl Machine {
    pub fn new(boot: Boot) -> Self {
        Self {
            qemu: "qemu-system-x86_64".into(),
            cpus: 1,
            memory_mib: 2048,
            cpu: "max".into(),
            boot,
            firmware: Firmware::Bios,
            disks: Vec::new(),
            nics: Vec::new(),
            serial: Serial::Pipes,
            no_reboot: true,
            gdb: None,
            trace: None,
            qmp: None,
            counted: false,
            extra: Vec::new(),
        }
    }

    /// The command that runs it. Standard streams are left for the caller to set.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.qemu);
        for data in own_data(&self.qemu) {
            command.arg("-L").arg(data);
        }
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(["-machine", "q35", "-cpu", &self.cpu]);
        let accelerator = if self.counted {
            command.args(["-icount", "shift=0,sleep=off"]);
            command.args(["-rtc", "base=2026-01-01T00:00:00,clock=vm"]);
            "tcg"
        } else if host_has_svm() {
            "kvm"
        } else {
            // With a thread for each CPU, QEMU loses state of CPU 0: each XRSTOR elsewhere rewrites
            // its flags without a lock (docs/testing.md).
            "tcg,thread=single"
        };
        command.args(["-accel", accelerator]);
        command.args(["-smp", &self.cpus.to_string()]);
        command.args(["-m", &format!("{}M", self.memory_mib)]);
        if self.no_reboot {
            command.arg("-no-reboot");
        }
        if self.firmware == Firmware::Uefi {
            for (file, mode) in [
                ("OVMF_CODE_4M.fd", "readonly=on"),
                ("OVMF_VARS_4M.fd", "snapshot=on"),
            ] {
                command.arg("-drive").arg(format!(
                    "if=pflash,format=raw,{mode},file=/usr/share/OVMF/{file}"
                ));
            }
        }
        self.serial_arguments(&mut command);
        self.boot_arguments(&mut command);
        for (index, disk) in self.disks.iter().enumerate() {
            disk.arguments(index, &mut command);
        }
        for (index, nic) in self.nics.iter().enumerate() {
            nic.arguments(index, &mut command);
        }
        if let Some(port) = self.gdb {
            command.args(["-gdb", &format!("tcp:127.0.0.1:{port}"), "-S"]);
        }
        if let Some(file) = &self.trace {
            command
                .args(["-d", "int,cpu_reset,guest_errors", "-D"])
                .arg(file);
        }
        if let Some(socket) = &self.qmp {
            command
                .arg("-qmp")
                .arg(joined("unix:", socket, ",server=on,wait=off"));
        }
        command.args(&self.extra);
        command
    }

    fn serial_arguments(&self, command: &mut Command) {
        match self.serial {
            Serial::Pipes => {
                command.args([
                    "-chardev",
                    "stdio,id=com1,signal=off",
                    "-serial",
                    "chardev:com1",
                ]);
            }
            Serial::Terminal => {
                // Three Ctrl-A are a key of the hypervisor, so QEMU's escape moves to Ctrl-].
                command.args(["-echr", "0x1d", "-serial", "mon:stdio"]);
            }
        }
    }

    fn boot_arguments(&self, command: &mut Command) {
        match &self.boot {
            Boot::Iso(iso) => {
                command.arg("-drive").arg(joined(
                    "if=none,id=cd,media=cdrom,readonly=on,format=raw,file=",
                    iso,
                    "",
                ));
                command.args(["-device", "ide-cd,drive=cd,bus=ide.2,bootindex=0"]);
            }
            Boot::Multiboot {
                kernel,
                command_line,
                modules,
            } => {
                command
                    .arg("-kernel")
                    .arg(kernel)
                    .args(["-append", command_line]);
                let mut list = OsString::new();
                for module in modules {
                    if !list.is_empty() {
                        list.push(",");
                    }
                    list.push(&module.file);
                    if !module.command_line.is_empty() {
                        list.push(" ");
                        // A comma ends a module; a doubled one is a comma.
                        list.push(module.command_line.replace(',', ",,"));
                    }
                }
                command.arg("-initrd").arg(list);
            }
            Boot::Linux {
                kernel,
                initrd,
                command_line,
            } => {
                command
                    .arg("-kernel")
                    .arg(kernel)
                    .arg("-initrd")
                    .arg(initrd)
                    .args(["-append", command_line]);
            }
        }
    }
}

impl Disk {
    pub fn new(file: impl Into<PathBuf>, bus: DiskBus) -> Self {
        Self {
            file: file.into(),
            bus,
            read_only: false,
            snapshot: false,
            limit: None,
        }
    }

    fn arguments(&self, index: usize, command: &mut Command) {
        let flag = |set: bool| if set { "on" } else { "off" };
        let limit = self.limit.map_or_else(String::new, |limit| {
            let Limit { bytes, requests } = limit;
            format!("throttling.bps-total={bytes},throttling.iops-total={requests},")
        });
        let options = format!(
            "if=none,id=disk{index},format=raw,cache=unsafe,discard=unmap,readonly={},snapshot={},{limit}file=",
            flag(self.read_only),
            flag(self.snapshot)
        );
        command.arg("-drive").arg(joined(&options, &self.file, ""));
        // SATA ports from the end: ide.2 is the disc's.
        command.arg("-device").arg(match self.bus {
            DiskBus::Ahci => format!(
                "ide-hd,drive=disk{index},bus=ide.{}",
                [0, 1, 3, 4, 5][index % 5]
            ),
            DiskBus::Nvme => format!("nvme,drive=disk{index},serial=oxen{index}"),
            DiskBus::Virtio => format!("virtio-blk-pci,drive=disk{index}"),
        });
    }
}

impl Nic {
    pub fn new(model: NicModel) -> Self {
        Self {
            model,
            options: String::new(),
        }
    }

    fn arguments(&self, index: usize, command: &mut Command) {
        let mut back_end = format!("user,id=net{index}");
        if !self.options.is_empty() {
            back_end.push(',');
            back_end.push_str(&self.options);
        }
        let device = match self.model {
            NicModel::Virtio => "virtio-net-pci",
            NicModel::E1000e => "e1000e",
        };
        command.arg("-netdev").arg(back_end);
        command.arg("-device").arg(format!(
            "{device},netdev=net{index},mac=52:54:00:0c:0e:{:02x}",
            index + 1
        ));
    }
}

/// KVM helps only where our own nested virtualization works on it.
fn host_has_svm() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let svm = flags
        .lines()
        .any(|line| line.starts_with("flags") && line.split_whitespace().any(|flag| flag == "svm"));
    svm && std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok()
}

/// The firmware and tables of a QEMU that was unpacked somewhere, instead of the installed one's.
fn own_data(qemu: &Path) -> Vec<PathBuf> {
    let installed = ["/usr/bin", "/usr/local/bin", ""].map(Path::new);
    let Some(bin) = qemu.parent().filter(|bin| !installed.contains(bin)) else {
        return Vec::new();
    };
    let directories = ["../share/qemu", "../share/seabios"].map(|data| bin.join(data));
    directories
        .into_iter()
        .filter(|data| data.is_dir())
        .collect()
}

/// A QEMU option with a path in it, whose commas are doubled as QEMU wants.
fn joined(before: &str, path: &Path, after: &str) -> OsString {
    format!(
        "{before}{}{after}",
        path.display().to_string().replace(',', ",,")
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(machine: &Machine) -> Vec<String> {
        machine
            .command()
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect()
    }

    fn value_of(line: &[String], option: &str) -> String {
        let at = line
            .iter()
            .position(|arg| arg == option)
            .expect("the option is there");
        line[at + 1].clone()
    }

    #[test]
    fn commas_inside_a_module_command_line_are_doubled() {
        let module = |file: &str, line: &str| Module {
            file: file.into(),
            command_line: line.into(),
        };
        let modules = vec![
            module("vmlinuz", "console=hvc0,115200"),
            module("initrd", ""),
        ];
        let boot = Boot::Multiboot {
            kernel: "oxen".into(),
            command_line: "com1=115200,8n1".into(),
            modules,
        };
        let line = line(&Machine::new(boot));
        assert_eq!(
            value_of(&line, "-initrd"),
            "vmlinuz console=hvc0,,115200,initrd"
        );
        assert_eq!(value_of(&line, "-append"), "com1=115200,8n1");
    }

    #[test]
    fn disks_get_distinct_ids_and_keep_off_the_disc_port() {
        let mut machine = Machine::new(Boot::Iso("a,b.iso".into()));
        machine.disks = vec![
            Disk::new("one", DiskBus::Ahci),
            Disk::new("two", DiskBus::Nvme),
        ];
        let line = line(&machine).join(" ");
        assert!(line.contains("file=a,,b.iso"));
        assert!(line.contains("ide-hd,drive=disk0,bus=ide.0"));
        assert!(line.contains("nvme,drive=disk1"));
    }

    #[test]
    fn the_terminal_keeps_control_a_for_the_hypervisor() {
        let mut machine = Machine::new(Boot::Iso("x.iso".into()));
        machine.serial = Serial::Terminal;
        assert_eq!(value_of(&line(&machine), "-echr"), "0x1d");
    }
}
