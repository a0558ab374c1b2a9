//! `./x build --embedded intel|amd`: the hypervisor for one vendor's CPUs, with hardware paging
//! alone, as small as it gets.
//!
//! The image is packed (hypervisor/pack) and has a first stage that unpacks it (hypervisor/stage).
//! A gzip around both is what GRUB loads. The names of functions lie beside the image, for `./x
//! names`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSegment, ObjectSymbol};
use oxen_harness::images::{self, Images};

use crate::compile::{BARE, gzip_small, make_parent, small_cargo, strip, write_whole};
use crate::exec::run;
use crate::symbols;

/// Bytes that an embedded image should have at most, as it is shipped.
const AIM: usize = 128 << 10;
/// Bytes that it may have until the aim is met: what it has, and 1 % (docs/performance-log.md).
const MOST: usize = 165_000;

const PROFILE: &str = "embedded";

/// Whose CPUs an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Vendor {
    /// Intel: VT-x with EPT.
    Intel,
    /// AMD: AMD-V with nested paging.
    Amd,
}

impl Vendor {
    pub(crate) const ALL: [Self; 2] = [Self::Intel, Self::Amd];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Intel => "intel",
            Self::Amd => "amd",
        }
    }

    /// The image as it is shipped.
    pub(crate) fn image(self) -> PathBuf {
        Images::in_target()
            .hypervisor
            .with_file_name(format!("oxen-embedded-{}.gz", self.name()))
    }

    /// The hypervisor in it as an ELF file, as QEMU loads it.
    pub(crate) fn elf(self) -> PathBuf {
        self.image().with_extension("elf")
    }

    /// The names of the image's functions, one a line behind its address.
    pub(crate) fn names(self) -> PathBuf {
        self.image().with_extension("names")
    }
}

/// Builds the image of a vendor and its names; returns a note on them.
///
/// # Errors
/// The compiler's and the linker's, and if the image is larger than [`MOST`].
pub(crate) fn build(vendor: Vendor) -> Result<String> {
    let elf = compile(
        "oxen",
        &["--no-default-features", "--features", vendor.name()],
    )?;
    let file = Elf::parse(&*elf).context("the hypervisor is not an ELF file")?;
    let (names, count) = symbols::list(&file);
    let image = Flat::of(&file)?;
    let stage = compile("oxen-stage", &[])?;
    let stage = Flat::of(&Elf::parse(&*stage).context("the first stage is not an ELF file")?)?;
    let packed = wrap(&stage, &image)?;
    let shipped = gzip_small(&packed)?;
    make_parent(&vendor.image())?;
    write_whole(&vendor.image(), &shipped)?;
    write_whole(&vendor.names(), names.as_bytes())?;
    strip(&vendor.elf(), &elf)?;
    ensure!(
        shipped.len() <= MOST,
        "the embedded image for {} has {} bytes, {} more than {MOST}",
        vendor.name(),
        shipped.len(),
        shipped.len() - MOST
    );
    Ok(format!(
        "embedded, {}: {} bytes of code, {} of data; packed {}; shipped {} (aim {AIM}), {count} names beside it",
        vendor.name(),
        image.text,
        image.bytes.len() - image.text,
        packed.len() - stage.bytes.len(),
        shipped.len()
    ))
}

type Elf<'data> = ElfFile64<'data, Endianness>;

fn compile(package: &str, features: &[&str]) -> Result<Vec<u8>> {
    let mut build = small_cargo();
    build.args(["build", "-q", "--profile", PROFILE, "--target", BARE]);
    // With other libraries than the rest, which cargo cannot tell from them.
    let target = images::target_dir().join("small");
    build.arg("--target-dir").arg(&target);
    run(build.args(["-p", package]).args(features))?;
    let built = target.join(BARE).join(PROFILE).join(package);
    fs::read(&built).with_context(|| format!("cannot read {}", built.display()))
}

/// An image as it lies in memory.
struct Flat {
    bytes: Vec<u8>,
    /// Bytes of its first segment, which is code.
    text: usize,
    /// Physical address of the 32-bit entry.
    entry: u32,
}

impl Flat {
    fn of(file: &Elf<'_>) -> Result<Self> {
        let (mut bytes, mut text) = (Vec::new(), 0);
        let mut base = None;
        for segment in file.segments() {
            let data = segment.data()?;
            let start = *base.get_or_insert(segment.address());
            let at = usize::try_from(segment.address() - start)?;
            if text == 0 {
                text = data.len();
            }
            bytes.resize(at, 0);
            bytes.extend(data);
        }
        let base = base.context("an image without segments")?;
        let entry = file.symbol_by_name("oxen_start32");
        let entry = entry.map_or(Ok(0), |symbol| {
            u32::try_from(symbol.address() - base + LOAD)
        })?;
        Ok(Self { bytes, text, entry })
    }
}

/// Physical address of both images: see boot/oxen.ld and boot/stage.ld.
const LOAD: u64 = 0x20_0000;

/// Bytes from the first stage to its tables: `STAGE` and `oxen_tables` in boot/stage.ld.
const ROOM: usize = 0x2_a000;

/// The first stage, the header of the packed image (`Packed` in hypervisor/stage), and the packed
/// image.
fn wrap(stage: &Flat, image: &Flat) -> Result<Vec<u8>> {
    const HEADER: usize = 20;
    let packed = oxen_pack::pack(&image.bytes, image.text);
    let words = [
        u32::try_from(HEADER + packed.len())?,
        u32::try_from(image.bytes.len())?,
        u32::try_from(image.text)?,
        oxen_pack::crc32(&image.bytes),
        image.entry,
    ];
    let mut whole = stage.bytes.clone();
    whole.extend(words.into_iter().flat_map(u32::to_le_bytes));
    whole.extend(packed);
    ensure!(
        whole.len() <= ROOM,
        "{} bytes are too many for the place of the first stage",
        whole.len()
    );
    Ok(whole)
}
