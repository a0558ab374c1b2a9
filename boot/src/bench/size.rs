//! How large the hypervisors' images are.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSegment};
use oxen_harness::Images;

use super::figures::{Measured, SIZE, Samples};
use super::system::Bench;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Measured>> {
    let images = Images::in_target();
    let oxen = sizes(&images.hypervisor, &images.hypervisor_gz)?;
    let xen = bench
        .xen
        .as_ref()
        .map(|xen| sizes(&xen.elf, &xen.packed))
        .transpose()?;
    let samples =
        |sizes: [u64; 2], index: usize| sizes.get(index).map(|it| Samples::from(*it as f64));
    let figures = SIZE.iter().enumerate();
    Ok(figures
        .map(|(index, figure)| {
            let xen = xen.and_then(|xen| samples(xen, index));
            Measured::new(figure, samples(oxen, index), xen)
        })
        .collect())
}

/// In the order of [`SIZE`].
fn sizes(elf: &Path, packed: &Path) -> Result<[u64; 2]> {
    let bytes = fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
    let file = object::File::parse(&*bytes)
        .with_context(|| format!("{} is no ELF file", elf.display()))?;
    let loaded = file.segments().map(|segment| segment.size()).sum();
    let packed = fs::metadata(packed)
        .with_context(|| format!("there is no {}", packed.display()))?
        .len();
    Ok([loaded, packed])
}
