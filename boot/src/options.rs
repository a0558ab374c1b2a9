//! The options that describe a machine, common to `run`, `gdb` and `bench`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use oxen_harness::{Disk, DiskBus, Firmware, Images, Machine, Nic, NicModel, images};

use crate::bochs::{self, Bochs};
use crate::embedded::{self, Vendor};
use crate::initramfs;
use crate::iso::{self, Choice};
use crate::unpacked::unpacked_kernel;

#[derive(Args, Clone, Debug)]
pub(crate) struct MachineOptions {
    /// Memory of the machine (a bare number is MiB)
    #[arg(long, default_value = "4G", value_parser = size_mib)]
    pub(crate) mem: u32,
    /// Processors of the machine
    #[arg(long, default_value_t = 2)]
    pub(crate) cpus: u32,
    /// Memory of dom0
    #[arg(long, default_value = "1G", value_parser = size_mib)]
    dom0_mem: u32,
    /// Virtual processors of dom0 (all that the machine has, if not given)
    #[arg(long)]
    dom0_cpus: Option<u32>,
    /// More arguments for the hypervisor
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    append_xen: String,
    /// More arguments for dom0's kernel
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    append_dom0: String,
    /// Start from UEFI firmware (OVMF) instead of a BIOS
    #[arg(long)]
    uefi: bool,
    /// Use Bochs instead of QEMU: an Intel machine with VT-x (one CPU and 1 GiB unless told
    /// otherwise)
    #[arg(long, conflicts_with_all = ["uefi", "qemu", "cpu", "disk", "nic", "trace"])]
    pub(crate) bochs: bool,
    /// Bochs' CPU model
    #[arg(long, default_value = bochs::MODEL)]
    bochs_cpu: String,
    /// dom0 without drivers and stock guests: for slow emulators
    #[arg(long)]
    small: bool,
    /// Puts what stock guests boot into dom0, its kernel unpacked as /boot/vmlinux: unpacking takes
    /// minutes in Bochs
    #[arg(long)]
    stock_guest: bool,
    /// The QEMU to use (one that was unpacked somewhere finds its own data)
    #[arg(long, default_value = "qemu-system-x86_64")]
    qemu: PathBuf,
    /// QEMU's CPU model
    #[arg(long, default_value = "max")]
    cpu: String,
    /// QEMU's AMD-V without nested paging: dom0 and guests run on shadows of their page tables
    #[arg(long, conflicts_with = "bochs")]
    no_npt: bool,
    /// A disk image, as FILE or FILE:BUS with the bus ahci, nvme or virtio; may be repeated
    #[arg(long, value_parser = disk)]
    disk: Vec<Disk>,
    /// A network card; may be repeated
    #[arg(long, value_enum)]
    nic: Vec<Card>,
    /// QEMU's interrupts, exceptions and resets, into this file
    #[arg(long)]
    trace: Option<PathBuf>,
    /// How to boot
    #[arg(long, value_enum, default_value_t = Way::Disc)]
    boot: Way,
    /// Start the embedded image for the CPUs of this vendor
    #[arg(long, value_enum, value_name = "VENDOR", conflicts_with = "boot")]
    embedded: Option<Vendor>,
    /// GRUB's menu entry
    #[arg(long, default_value = "multiboot2-gz")]
    entry: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// GRUB, from the disc
    Disc,
    /// QEMU's multiboot loader: seconds faster
    Direct,
    /// dom0's system alone, without the hypervisor
    Linux,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Card {
    Virtio,
    E1000e,
}

impl MachineOptions {
    /// dom0's initramfs.
    pub(crate) fn initrd(&self) -> Result<PathBuf> {
        let images = Images::in_target();
        let initrd = if self.small {
            images.small_initrd
        } else {
            images.initrd
        };
        if self.stock_guest {
            initramfs::with_stock_guest(&initrd)
        } else {
            Ok(initrd)
        }
    }

    /// Builds what this machine boots.
    pub(crate) fn build(&self, quiet: bool) -> Result<()> {
        if self.boot == Way::Linux {
            return crate::dom0(quiet);
        }
        if let Some(vendor) = self.embedded {
            let note = embedded::build(vendor)?;
            if !quiet {
                println!("{note}");
            }
        }
        crate::image(quiet)
    }

    /// The machine for Bochs, which boots the disc only.
    pub(crate) fn bochs(&self, initrd: Option<&Path>, name: &str) -> Result<Bochs> {
        if self.boot != Way::Disc {
            bail!("Bochs boots the disc only: leave out --boot, or --bochs");
        }
        Images::built()?;
        // The defaults are for QEMU.
        let (cpus, memory_mib, dom0_mem) = match (self.cpus, self.mem, self.dom0_mem) {
            (2, 4096, 1024) => (1, 1024, 384),
            given => given,
        };
        let mut xen = format!("dom0_mem={dom0_mem}M");
        if let Some(cpus) = self.dom0_cpus {
            xen += &format!(" dom0_max_vcpus={cpus}");
        }
        let dom0 = images::join(images::DOM0_ARGS, bochs::DOM0_ARGS);
        let initrd = match initrd {
            Some(initrd) => initrd.to_owned(),
            None => self.initrd()?,
        };
        let choice = Choice {
            entry: self.entry.clone(),
            xen: images::join(images::XEN_ARGS, &images::join(&xen, &self.append_xen)),
            dom0: images::join(&dom0, &self.append_dom0),
            kernel: Some(unpacked_kernel()?),
            hypervisor: self.embedded.map(Vendor::image),
            ..Choice::default()
        };
        Ok(Bochs {
            model: self.bochs_cpu.clone(),
            cpus,
            memory_mib,
            disc: iso::variant(&choice, Some(&initrd), name)?,
            limit: None,
        })
    }

    /// The machine; `initrd` replaces dom0's initramfs, `name` distinguishes concurrent runs'
    /// files.
    pub(crate) fn machine(&self, initrd: Option<&Path>, name: &str) -> Result<Machine> {
        let mut images = Images::in_target();
        let mut xen = format!("dom0_mem={}M", self.dom0_mem);
        if let Some(cpus) = self.dom0_cpus {
            xen += &format!(" dom0_max_vcpus={cpus}");
        }
        let xen = images::join(&xen, &self.append_xen);
        if self.uefi && self.boot != Way::Disc {
            bail!("UEFI firmware boots the disc only: leave out --boot, or --uefi");
        }
        if self.boot != Way::Linux {
            images = Images::built()?;
        }
        let boot = match self.boot {
            Way::Disc => {
                let choice = Choice {
                    entry: self.entry.clone(),
                    xen: images::join(images::XEN_ARGS, &xen),
                    dom0: images::join(images::DOM0_ARGS, &self.append_dom0),
                    hypervisor: self.embedded.map(Vendor::image),
                    ..Choice::default()
                };
                let other = match initrd {
                    Some(initrd) => Some(initrd.to_owned()),
                    None if self.small || self.stock_guest => Some(self.initrd()?),
                    None => None,
                };
                images.iso = iso::variant(&choice, other.as_deref(), name)?;
                images.disc()
            }
            Way::Direct | Way::Linux => {
                images.initrd = match initrd {
                    Some(initrd) => initrd.to_owned(),
                    None => self.initrd()?,
                };
                if self.boot == Way::Direct {
                    images.direct(&xen, &self.append_dom0)
                } else {
                    images.linux(&self.append_dom0)
                }
            }
        };
        let mut machine = Machine::new(boot);
        machine.qemu.clone_from(&self.qemu);
        machine.cpus = self.cpus;
        machine.memory_mib = self.mem;
        machine.cpu.clone_from(&self.cpu);
        if self.no_npt {
            machine.cpu += ",-npt";
        }
        machine.firmware = if self.uefi {
            Firmware::Uefi
        } else {
            Firmware::Bios
        };
        machine.disks.clone_from(&self.disk);
        machine.nics = self.nic.iter().map(|card| Nic::new(card.model())).collect();
        machine.trace.clone_from(&self.trace);
        Ok(machine)
    }
}

impl Card {
    fn model(self) -> NicModel {
        match self {
            Self::Virtio => NicModel::Virtio,
            Self::E1000e => NicModel::E1000e,
        }
    }
}

/// "512", "512M" or "4G", in MiB.
fn size_mib(text: &str) -> Result<u32, String> {
    let (digits, factor) = match text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) {
        digits if digits.len() == text.len() => (digits, 1),
        digits => match text[digits.len()..].to_ascii_uppercase().as_str() {
            "M" | "MB" | "MIB" => (digits, 1),
            "G" | "GB" | "GIB" => (digits, 1024),
            unit => return Err(format!("unknown unit {unit:?}; use M or G")),
        },
    };
    let number: u32 = digits.parse().map_err(|error| format!("{error}"))?;
    number
        .checked_mul(factor)
        .filter(|size| *size > 0)
        .ok_or_else(|| "out of range".to_owned())
}

fn disk(text: &str) -> Result<Disk, String> {
    let (file, bus) = text.rsplit_once(':').unwrap_or((text, "virtio"));
    let bus = match bus {
        "ahci" => DiskBus::Ahci,
        "nvme" => DiskBus::Nvme,
        "virtio" => DiskBus::Virtio,
        other => return Err(format!("unknown bus {other:?}; use ahci, nvme or virtio")),
    };
    if !Path::new(file).exists() {
        return Err(format!("there is no file {file}"));
    }
    Ok(Disk::new(file, bus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size_mib("512"), Ok(512));
        assert_eq!(size_mib("512m"), Ok(512));
        assert_eq!(size_mib("4G"), Ok(4096));
        assert!(size_mib("4T").is_err());
        assert!(size_mib("0").is_err());
        assert!(size_mib("9999999G").is_err());
    }

    #[test]
    fn disks_name_their_bus() {
        let this = std::env::current_exe().expect("a path");
        let text = format!("{}:nvme", this.display());
        assert_eq!(disk(&text).map(|disk| disk.bus), Ok(DiskBus::Nvme));
        assert!(disk("/nonexistent:nvme").is_err());
        assert!(disk(&format!("{}:floppy", this.display())).is_err());
    }
}
