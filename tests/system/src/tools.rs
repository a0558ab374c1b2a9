//! fio and iperf3 in dom0 and in guests, for long tests. `./x soak` fetches them.

use std::fs;

use anyhow::{Context, Result, ensure};
use oxen_harness::{Boot, Images, Machine};

use crate::guest::Guest;
use crate::lab::Lab;

const RAMDISK: &str = "/boot/guest-tools.cpio";

/// Puts them into dom0's initramfs.
pub fn with_tools(machine: &mut Machine) -> Result<()> {
    let images = Images::built()?;
    ensure!(
        images.tools.exists(),
        "{} is missing: ./x soak makes it",
        images.tools.display()
    );
    let Boot::Multiboot { modules, .. } = &mut machine.boot else {
        anyhow::bail!("tools are for machines with QEMU's multiboot loader");
    };
    let initrd = modules.get_mut(1).context("dom0 has no initramfs")?;
    let whole = images.tools.with_file_name("dom0-tools.cpio");
    // The kernel unpacks archives that follow one another.
    let bytes = [fs::read(&initrd.file)?, fs::read(&images.tools)?].concat();
    fs::write(&whole, bytes).with_context(|| format!("cannot write {}", whole.display()))?;
    initrd.file = whole;
    Ok(())
}

impl Lab {
    /// Makes the ramdisk of [`Guest::with_tools`].
    pub fn prepare_tools(&mut self) -> Result<()> {
        // A packed archive may follow one that is not, whose end is aligned.
        self.sh(&format!(
            "cd / && cpio -o -H newc < /boot/tools > {RAMDISK} 2>/dev/null && cat /boot/guest.cpio.gz >> {RAMDISK} && cd /root"
        ))
        .map(drop)
    }
}

impl Guest {
    /// A stock guest that has them too.
    pub fn with_tools(name: &str) -> Self {
        Self::linux(name)
            .set("ramdisk", &format!("\"{RAMDISK}\""))
            .set("memory", "512")
    }
}
