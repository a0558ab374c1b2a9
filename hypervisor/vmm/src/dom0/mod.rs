//! Building dom0: the stock kernel as a PVH guest on the machine's own memory (gfn = mfn).
//!
//! Memory from the top of dom0's RAM below 1 GiB down: ACPI tables, start info with its lists,
//! initrd. The kernel goes where its ELF headers say (Linux: 16 MiB).

mod acpi;
mod elf;
mod map;
mod start_info;

use core::fmt;

use guest_pv_abi as abi;
use oxen_arch::acpi::AcpiInfo;
use oxen_arch::cmdline::{self, CommandLine};
use oxen_core::domain::{Domain, DomainConfig};
use oxen_core::seams::FrameSource;
use oxen_core::vcpu::Hold;
use oxen_mm::FrameTable;
use oxen_mm::dom0::{MapRange, set_kind};
use oxen_types::{DomainId, Errno, Gaddr, Gfn, Mfn, PAGE_SIZE};

use crate::Vmm;
use crate::devices::{self, DeviceConfig, Devices};
use crate::domain;
use crate::host::Host;

pub use elf::ElfError;

const PAGE: u64 = PAGE_SIZE as u64;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Where a PVH kernel's early page tables end: what it reads first must lie below.
const EARLY_LIMIT: u64 = GIB;
/// dom0's share unless `dom0_mem` says otherwise: 1 GiB, but no more than half of the machine.
const DEFAULT_MEMORY: u64 = GIB;
const MAX_PORTS: u32 = (1 << 17) - 1;
const GRANT_FRAMES: u32 = 64;
const MAPTRACK_FRAMES: u32 = 1024;

/// The emulated devices of dom0.
const EMULATION: u32 = abi::XEN_X86_EMU_LAPIC | abi::XEN_X86_EMU_IOAPIC | abi::XEN_X86_EMU_VPCI;

/// dom0 cannot be built.
#[derive(Debug)]
pub enum BuildError {
    /// The loader gave no module.
    NoKernel,
    /// The kernel's file is no image that can be unpacked.
    Image(oxen_unpack::ImageError),
    /// The unpacked file is no kernel for dom0.
    Elf(ElfError),
    /// dom0's memory has no room for the named thing.
    NoMemory(&'static str),
    /// The kernel's segments lie where dom0 has no RAM.
    Segment {
        /// The guest-physical address.
        at: u64,
        /// The error of the write.
        errno: Errno,
    },
    /// A step of the hypervisor's own failed.
    Abi(Errno),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKernel => write!(
                f,
                "no module with a kernel: add module2 /boot/vmlinuz to GRUB's entry"
            ),
            Self::Image(error) => write!(f, "the kernel's image: {error}"),
            Self::Elf(error) => write!(f, "the kernel's ELF file: {error}"),
            Self::NoMemory(what) => write!(f, "not enough memory for {what}: see dom0_mem="),
            Self::Segment { at, errno } => {
                write!(
                    f,
                    "the kernel wants to lie at {at:#x}, where dom0 has no RAM ({errno:?})"
                )
            }
            Self::Abi(errno) => write!(f, "{errno:?}"),
        }
    }
}

impl From<Errno> for BuildError {
    fn from(errno: Errno) -> Self {
        Self::Abi(errno)
    }
}

/// dom0's kernel, ready to be copied to its places.
pub struct Kernel<'a> {
    elf: &'a [u8],
    parsed: elf::Kernel,
}

/// Unpacks the kernel into `room`: before dom0's memory is set aside, as the decoder needs tens of
/// MiB meanwhile.
///
/// # Errors
/// [`BuildError::Image`] and [`BuildError::Elf`] if the file is no kernel for dom0.
pub fn unpack<'a>(file: &'a [u8], room: &'a mut [u8]) -> Result<Kernel<'a>, BuildError> {
    let image = oxen_unpack::Image::open(file).map_err(BuildError::Image)?;
    let elf = image.unpack(room).map_err(BuildError::Image)?;
    let parsed = elf::parse(elf).map_err(BuildError::Elf)?;
    Ok(Kernel { elf, parsed })
}

/// Sets dom0's memory aside, before anybody takes it: from low addresses up. `firmware` is the
/// machine's memory map. Returns dom0's frames.
pub fn reserve(
    frames: &FrameTable,
    firmware: &[MapRange],
    options: CommandLine<'_>,
    cpus: usize,
) -> u64 {
    let total = frames.stats().total_frames;
    let default = DEFAULT_MEMORY.min(total * PAGE / 2);
    let wanted = options
        .get("dom0_mem")
        .and_then(parse_size)
        .unwrap_or(default)
        / MIB
        * (MIB / PAGE);
    let ram = map::ram(firmware).map(|range| {
        let end = range.start + range.len;
        (range.start.div_ceil(PAGE), end / PAGE)
    });
    let kept = oxen_mm::dom0::kept_frames(total, cpus);
    let taken = oxen_mm::dom0::reserve(frames, ram, wanted, kept);
    if taken < wanted {
        log::warn!(
            "dom0 gets {} MiB, not {}: the hypervisor keeps the rest for itself",
            taken * PAGE / MIB,
            wanted * PAGE / MIB
        );
    }
    taken
}

/// `512M`, `1G`, `min:..`, `max:..` lists as Xen has them: the first plain size, or else `max:`.
fn parse_size(text: &str) -> Option<u64> {
    let plain = text.split(',').find_map(cmdline::parse_size);
    plain.or_else(|| {
        text.split(',')
            .find_map(|w| w.strip_prefix("max:").and_then(cmdline::parse_size))
    })
}

/// The parts that dom0 is made of.
pub struct Plan<'a> {
    /// Its kernel.
    pub kernel: &'a Kernel<'a>,
    /// Its initial file system.
    pub initrd: Option<&'a [u8]>,
    /// Its command line.
    pub cmdline: &'a str,
    /// Its vcpus, 1 to 128.
    pub vcpus: u32,
    /// The hypervisor's options.
    pub options: CommandLine<'a>,
    /// The machine's memory map.
    pub firmware: &'a [MapRange],
    /// The machine's ACPI tables.
    pub acpi: &'a AcpiInfo,
    /// The machine's devices.
    pub devices: DeviceConfig,
}

/// Makes dom0 and starts its first vcpu, paused no longer.
///
/// # Errors
/// See [`BuildError`].
pub fn build<H: Host>(vmm: &'static Vmm<H>, plan: Plan<'_>) -> Result<(), BuildError> {
    let mut map = map::build(vmm.frames, plan.firmware);
    let ram_frames: u64 = map::ram(&map).map(|range| range.len / PAGE).sum();
    let nested = vmm.virt.nested_paging();
    let config = config(plan.vcpus, flags(plan.options, nested));
    let parsed = &plan.kernel.parsed;
    let devices = Devices::new(plan.devices);
    let (domain, hvm) = domain::create(vmm, DomainId::DOM0, config, ram_frames, Some(devices))?;
    populate(&domain, &map)?;
    vmm.machine.insert(domain.clone())?;

    let kernel_end = load_kernel(&domain, plan.kernel)?;
    let top = map::top_below(&map, EARLY_LIMIT).ok_or(BuildError::NoMemory("dom0"))?;
    let mut room = Room { top, kernel_end };
    let tables = acpi::Tables::new(plan.acpi, plan.vcpus);
    let acpi_at = room.take(tables.len(), "ACPI tables")?;
    let entries = map.len() + map::SPARE;
    let start_at = room.take(start_info::len(entries, plan.cmdline), "start info")?;
    let initrd = match plan.initrd {
        Some(bytes) => {
            let len = bytes.len() as u64;
            let at = room.take(len, "the initrd")?;
            write(&domain, at, bytes)?;
            Some((at, len))
        }
        None => None,
    };
    let acpi_len = tables.len().next_multiple_of(PAGE);
    set_kind(&mut map, acpi_at, acpi_len, abi::E820_ACPI);
    let rsdp = tables.install(acpi_at, &mut |at, bytes| write(&domain, at, bytes))?;
    let block = start_info::build(start_at, plan.cmdline, initrd, rsdp, &map);
    write(&domain, start_at, &block)?;
    vmm.set_dom0(domain.clone(), hvm.clone(), map);

    if let Some(devices) = &hvm.devices {
        devices::allow_ports(&hvm, &devices.ports);
    }
    log::info!("{} PCI functions for dom0", devices::scan(&hvm, &domain));
    let boot = domain.vcpu(0).ok_or(Errno::NoEnt)?;
    boot.arch.start_pvh(parsed.entry, start_at as u32)?;
    boot.set_initialised(true);
    log::info!(
        "dom0: {} MiB, {} vcpus, entry {:#x}, kernel to {kernel_end:#x}, initrd {initrd:x?}",
        ram_frames * PAGE / MIB,
        plan.vcpus,
        parsed.entry
    );
    boot.release(Hold::Down);
    domain.unpause()?;
    Ok(())
}

fn config(max_vcpus: u32, flags: u32) -> DomainConfig {
    DomainConfig {
        privileged: true,
        handle: [0; 16],
        ssid: 0,
        flags,
        emulation: EMULATION,
        max_vcpus,
        max_ports: MAX_PORTS,
        max_grant_frames: GRANT_FRAMES,
        max_maptrack_frames: MAPTRACK_FRAMES,
    }
}

/// Nested paging where the machine has it, unless the option `dom0=` has the word `shadow`.
fn flags(options: CommandLine<'_>, nested: bool) -> u32 {
    let words = options.get("dom0").unwrap_or("");
    let shadow = words.split(',').any(|word| word == "shadow");
    match nested && !shadow {
        true => abi::XEN_DOMCTL_CDF_HVM | abi::XEN_DOMCTL_CDF_HAP,
        false => abi::XEN_DOMCTL_CDF_HVM,
    }
}

/// Copies the kernel's segments to their places. Returns the end of the highest.
fn load_kernel(domain: &Domain, kernel: &Kernel<'_>) -> Result<u64, BuildError> {
    let mut kernel_end = 0;
    for segment in &kernel.parsed.segments {
        let bytes = kernel
            .elf
            .get(segment.file.clone())
            .ok_or(BuildError::Elf(ElfError::Truncated))?;
        let at = segment.address;
        write(domain, at, bytes).map_err(|errno| BuildError::Segment { at, errno })?;
        let end = at + bytes.len() as u64;
        let rest = segment.memory_len.saturating_sub(bytes.len() as u64);
        clear(domain, end, rest).map_err(|errno| BuildError::Segment { at: end, errno })?;
        kernel_end = kernel_end.max(at + segment.memory_len);
    }
    Ok(kernel_end)
}

/// dom0's RAM between the kernel and the limit of its early page tables.
struct Room {
    top: u64,
    kernel_end: u64,
}

impl Room {
    /// Takes whole pages from the top.
    fn take(&mut self, len: u64, what: &'static str) -> Result<u64, BuildError> {
        let at = self.top.checked_sub(len).map(|at| at & !(PAGE - 1));
        let at = at.filter(|at| *at >= self.kernel_end);
        self.top = at.ok_or(BuildError::NoMemory(what))?;
        Ok(self.top)
    }
}

/// Gives dom0 all frames that were set aside for it, with what is in them: it may see all of the
/// machine anyway, and needs what the firmware left in the first MiB (the BIOS data areas).
fn populate(domain: &Domain, map: &[MapRange]) -> Result<(), BuildError> {
    const LARGE: u32 = 9;
    for range in map::ram(map) {
        let (mut at, end) = (range.start / PAGE, (range.start + range.len) / PAGE);
        while at < end {
            let gfn = Gfn::new(at);
            let order = if at >= MIB / PAGE && gfn.is_aligned(LARGE) && end - at >= 1 << LARGE {
                LARGE
            } else {
                0
            };
            domain.memory.populate_kept(gfn, order)?;
            at += 1 << order;
        }
    }
    // The rest of the first MiB: BIOS data, video memory, ROMs.
    for page in 0..MIB / PAGE {
        if domain.memory.lookup(Gfn::new(page)).is_none() {
            domain.memory.map_mmio(Gfn::new(page), Mfn::new(page), 1)?;
        }
    }
    Ok(())
}

fn write(domain: &Domain, at: u64, bytes: &[u8]) -> Result<(), Errno> {
    const STEP: usize = 1 << 20;
    for (n, part) in bytes.chunks(STEP).enumerate() {
        domain
            .memory
            .write(Gaddr::new(at + (n * STEP) as u64), part)?;
    }
    Ok(())
}

fn clear(domain: &Domain, at: u64, len: u64) -> Result<(), Errno> {
    let zeros = [0; PAGE_SIZE];
    let end = at.checked_add(len).ok_or(Errno::Inval)?;
    for start in (at..end).step_by(PAGE_SIZE) {
        let part = (end - start).min(PAGE) as usize;
        domain.memory.write(Gaddr::new(start), &zeros[..part])?;
    }
    Ok(())
}
