//! Where things are: the images that `./x image` builds, and the logs of tests.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::machine::{Boot, Module};

/// The hypervisor's command line unless a test says otherwise.
pub const XEN_ARGS: &str = "com1=115200,8n1 console=com1 loglvl=all guest_loglvl=all";
/// dom0's command line. dom0's DMA goes through bounce buffers, which are identity-mapped, as long
/// as there is no IOMMU driver.
pub const DOM0_ARGS: &str = "console=hvc0 swiotlb=force";

/// The root of the checkout.
pub fn root() -> PathBuf {
    match std::env::var_os("OXEN_ROOT") {
        Some(root) => root.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .components()
            .collect(),
    }
}

/// Cargo's target directory, in which all that is built lies.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => root().join(target),
        None => root().join("target"),
    }
}

/// The log of a test's console.
pub fn test_log(name: &str) -> PathBuf {
    let safe: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '-'
            }
        })
        .collect();
    target_dir().join("test-logs").join(format!("{safe}.log"))
}

/// The files of `./x image`.
#[derive(Clone, Debug)]
pub struct Images {
    /// The hypervisor, an ELF file.
    pub hypervisor: PathBuf,
    /// The same, as shipped.
    pub hypervisor_gz: PathBuf,
    /// Debian's stock kernel.
    pub kernel: PathBuf,
    /// dom0's initramfs.
    pub initrd: PathBuf,
    /// The same without drivers and stock guests: a third of the way to the prompt in slow
    /// emulators.
    pub small_initrd: PathBuf,
    /// The ramdisk that the guests of the example configurations boot.
    pub guest_initrd: PathBuf,
    /// The tools that long tests add to dom0's ramdisk: fio and iperf3. Only `./x soak` and `./x
    /// bench io` make it.
    pub tools: PathBuf,
    /// GRUB and all of the above.
    pub iso: PathBuf,
}

impl Images {
    /// The paths, whether built or not.
    pub fn in_target() -> Self {
        let directory = target_dir().join("image");
        let file = |name: &str| directory.join(name);
        Self {
            hypervisor: file("oxen"),
            hypervisor_gz: file("oxen.gz"),
            kernel: file("vmlinuz"),
            initrd: file("dom0.cpio"),
            small_initrd: file("dom0-small.cpio"),
            guest_initrd: file("guest.cpio.gz"),
            tools: file("tools.cpio"),
            iso: file("oxen.iso"),
        }
    }

    /// The paths, or a clear error if something was not built.
    pub fn built() -> Result<Self> {
        let images = Self::in_target();
        for file in [
            &images.hypervisor,
            &images.kernel,
            &images.initrd,
            &images.iso,
        ] {
            ensure!(
                file.exists(),
                "{} is missing: run ./x image first",
                file.display()
            );
        }
        Ok(images)
    }

    /// A boot through QEMU's multiboot loader, with more arguments for hypervisor and dom0.
    pub fn direct(&self, xen_args: &str, dom0_args: &str) -> Boot {
        let module = |file: &Path, line: String| Module {
            file: file.to_owned(),
            command_line: line,
        };
        Boot::Multiboot {
            kernel: self.hypervisor.clone(),
            command_line: join(XEN_ARGS, xen_args),
            modules: vec![
                module(&self.kernel, join(DOM0_ARGS, dom0_args)),
                module(&self.initrd, String::new()),
            ],
        }
    }

    /// The disc, with the command lines that it was built with.
    pub fn disc(&self) -> Boot {
        Boot::Iso(self.iso.clone())
    }

    /// dom0's system on the bare machine, without a hypervisor.
    pub fn linux(&self, args: &str) -> Boot {
        Boot::Linux {
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            command_line: join("console=ttyS0", args),
        }
    }
}

/// Two command lines as one.
pub fn join(first: &str, second: &str) -> String {
    format!("{first} {second}").trim().to_owned()
}
