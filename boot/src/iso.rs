//! GRUB discs for BIOS and UEFI machines: one standard disc, and copies of it with other command
//! lines.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oxen_harness::{Images, images};

use crate::compile::{make_parent, write_whole};
use crate::exec::{command, output};

/// The part of a disc that differs from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The id of a menu entry in boot/grub/grub.cfg.
    pub(crate) entry: String,
    pub(crate) timeout: u32,
    pub(crate) xen: String,
    pub(crate) dom0: String,
    /// Instead of Debian's kernel as it is packed.
    pub(crate) kernel: Option<PathBuf>,
    /// Another packed hypervisor.
    pub(crate) hypervisor: Option<PathBuf>,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            entry: "multiboot2-gz".to_owned(),
            timeout: 0,
            xen: images::XEN_ARGS.to_owned(),
            dom0: images::DOM0_ARGS.to_owned(),
            kernel: None,
            hypervisor: None,
        }
    }
}

/// Builds the standard disc; returns a note on it.
pub(crate) fn build() -> Result<String> {
    let images = Images::in_target();
    make(&Choice::default(), &images.initrd, &images.iso)?;
    Ok(format!(
        "disc: {} bytes, {}",
        fs::metadata(&images.iso)?.len(),
        images.iso.display()
    ))
}

/// A disc with another menu, and optionally another initramfs of dom0. It costs a fraction of a
/// second.
pub(crate) fn variant(choice: &Choice, initrd: Option<&Path>, name: &str) -> Result<PathBuf> {
    let images = Images::in_target();
    if *choice == Choice::default() && initrd.is_none() {
        return Ok(images.iso);
    }
    let disc = images::target_dir().join("run").join(format!("{name}.iso"));
    make(choice, initrd.unwrap_or(&images.initrd), &disc)?;
    Ok(disc)
}

fn make(choice: &Choice, initrd: &Path, disc: &Path) -> Result<()> {
    let images = Images::in_target();
    let tree = disc.with_extension("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    let boot = tree.join("boot");
    for (file, name) in [
        (images.hypervisor.as_path(), "oxen"),
        (
            choice.hypervisor.as_ref().unwrap_or(&images.hypervisor_gz),
            "oxen.gz",
        ),
        (choice.kernel.as_ref().unwrap_or(&images.kernel), "vmlinuz"),
        (initrd, "dom0.cpio"),
    ] {
        make_parent(&boot.join(name))?;
        fs::hard_link(file, boot.join(name))
            .with_context(|| format!("cannot link {}", file.display()))?;
    }
    write_whole(&boot.join("grub/grub.cfg"), config(choice)?.as_bytes())?;
    // Only what the menu uses, and the partition tables that grub-mkrescue's own script asks for:
    // the disc is read through the firmware, block by block.
    let modules = "multiboot multiboot2 linux serial terminal iso9660 gzio normal test part_acorn part_amiga \
                   part_apple part_bsd part_dfly part_dvh part_gpt part_msdos part_plan part_sun part_sunpc";
    let mut mkrescue = command(
        "grub-mkrescue",
        ["--locales=", "--themes=", "--fonts=", "--compress=no"],
    );
    mkrescue
        .arg(format!("--install-modules={modules}"))
        .arg("-o")
        .arg(disc)
        .arg(&tree);
    output(&mut mkrescue)?;
    fs::remove_dir_all(&tree)?;
    Ok(())
}

fn config(choice: &Choice) -> Result<String> {
    let template = images::root().join("boot/grub/grub.cfg");
    let template = fs::read_to_string(&template)
        .with_context(|| format!("cannot read {}", template.display()))?;
    if !template.contains(&format!("--id {} ", choice.entry)) {
        bail!(
            "the menu has no entry {:?} (see boot/grub/grub.cfg)",
            choice.entry
        );
    }
    Ok(template
        .replace("@ENTRY@", &choice.entry)
        .replace("@TIMEOUT@", &choice.timeout.to_string())
        .replace("@XEN@", &quoted(&choice.xen))
        .replace("@DOM0@", &quoted(&choice.dom0)))
}

/// Words that GRUB's shell takes as they are.
fn quoted(line: &str) -> String {
    let words = line
        .split_whitespace()
        .map(|word| format!("'{}'", word.replace('\'', "'\\''")));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_reach_the_menu_quoted() {
        let choice = Choice {
            xen: "com1=115200,8n1 x;y".to_owned(),
            ..Choice::default()
        };
        let menu = config(&choice).expect("the template is there");
        assert!(menu.contains("multiboot2 /boot/oxen.gz 'com1=115200,8n1' 'x;y'\n"));
        assert!(!menu.contains('@'));
    }

    #[test]
    fn an_unknown_entry_is_named() {
        let choice = Choice {
            entry: "nothing".to_owned(),
            ..Choice::default()
        };
        let error = config(&choice).expect_err("there is no such entry");
        assert!(error.to_string().contains("nothing"));
    }
}
