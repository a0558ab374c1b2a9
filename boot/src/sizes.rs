//! `./x build --sizes`: what each feature of the hypervisor costs in bytes of the shipped image.

use std::fs;

use anyhow::{Context, Result};
use oxen_harness::images::{self, Images};

use crate::compile::{self, BARE, cargo};
use crate::embedded::{self, Vendor};
use crate::exec::run;

const FEATURES: [&str; 4] = ["amd", "intel", "shadow", "names"];

/// Builds the full image, then one without each feature, then the embedded images, and prints their
/// sizes.
pub(crate) fn print() -> Result<()> {
    let full = size(&FEATURES)?;
    println!("full image: {full} bytes");
    for left_out in FEATURES {
        let rest: Vec<_> = FEATURES
            .into_iter()
            .filter(|name| *name != left_out)
            .collect();
        println!("{left_out}: {} bytes", full.saturating_sub(size(&rest)?));
    }
    for vendor in Vendor::ALL {
        println!("{}", embedded::build(vendor)?);
    }
    Ok(())
}

/// Bytes of the image with these features, as it would be shipped.
fn size(features: &[&str]) -> Result<usize> {
    let list = features.join(",");
    let mut build = cargo();
    build.args(["build", "-q", "--release", "--target", BARE, "-p", "oxen"]);
    run(build.args(["--no-default-features", "--features", &list]))?;
    let built = images::target_dir().join(BARE).join("release/oxen");
    let elf = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let file = Images::in_target().hypervisor.with_extension("sized");
    let (_, _, packed) = compile::packed(elf, &file)?;
    fs::remove_file(&file)?;
    Ok(packed.len())
}
