//! Building dom0: the stock kernel as a PVH guest on the machine's own memory (gfn = mfn).
//!
//! Memory from the top of dom0's RAM below 1 GiB down: ACPI tables, start info with its lists, initrd.
//! The kernel goes where its ELF headers say (Linux: 16 MiB).

mod acpi;
mod elf;
mod map;
mod start_info;

use alloc::sync::Arc;
use core::fmt;

use guest_pv_abi::{XEN_X86_EMU_IOAPIC, XEN_X86_EMU_LAPIC, XEN_X86_EMU_VPCI};
use oxen_arch::boot::{BootInfo, MemoryKind};
use oxen_arch::cmdline::CommandLine;
use oxen_core::domain::{Domain, DomainConfig};
use oxen_core::seams::FrameSource;
use oxen_core::vcpu::Hold;
use oxen_mm::FrameTable;
use oxen_mm::start::Span;
use oxen_types::{DomainId, Errno, Gaddr, Gfn, Mfn, PAGE_SIZE, Vaddr};
use oxen_virt::start;

use crate::domain::{self, hv_domain, hv_vcpu};
use crate::globals;
use crate::hardware::{self, Hardware};
pub use map::{MapRange, may_map, memory_map};

const PAGE: u64 = PAGE_SIZE as u64;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Where a PVH kernel's early page tables end: what it reads first must lie below.
const EARLY_LIMIT: u64 = GIB;
/// dom0's share unless `dom0_mem` says otherwise: 1 GiB, but no more than half of the machine.
const DEFAULT_MEMORY: u64 = GIB;
/// Entries of dom0's memory map that the builder cuts out of others.
const ADDED_ENTRIES: usize = 2;
const MAX_PORTS: u32 = (1 << 17) - 1;
const GRANT_FRAMES: u32 = 64;
const MAPTRACK_FRAMES: u32 = 1024;

/// The emulated devices of dom0.
const EMULATION: u32 = XEN_X86_EMU_LAPIC | XEN_X86_EMU_IOAPIC | XEN_X86_EMU_VPCI;

#[derive(Debug)]
pub enum BuildError {
    NoKernel,
    Image(oxen_unpack::ImageError),
    Elf(elf::ElfError),
    NoMemory(&'static str),
    /// The kernel's segments lie where dom0 has no RAM.
    Segment {
        at: u64,
        errno: Errno,
    },
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

/// What the loader gave us for dom0, at its place after we moved it.
pub struct Modules {
    pub kernel: Option<Span>,
    pub initrd: Option<Span>,
    /// Where a compressed kernel is unpacked to.
    pub room: Option<Span>,
}

/// dom0's kernel, ready to be copied to its places.
pub struct Kernel {
    elf: &'static [u8],
    parsed: elf::Kernel,
}

/// Unpacks the kernel: before dom0's memory is set aside, as the decoder needs tens of MiB meanwhile.
pub fn unpack(modules: &Modules) -> Result<Kernel, BuildError> {
    let kernel = modules.kernel.ok_or(BuildError::NoKernel)?;
    let image = oxen_unpack::Image::open(module_bytes(kernel)).map_err(BuildError::Image)?;
    let room = modules.room.map(room_bytes).unwrap_or_default();
    let elf = image.unpack(room).map_err(BuildError::Image)?;
    let parsed = elf::parse(elf).map_err(BuildError::Elf)?;
    Ok(Kernel { elf, parsed })
}

/// Sets dom0's memory aside, before anybody takes it: from low addresses up. Returns its frames.
pub fn reserve(frames: &FrameTable, info: &BootInfo, options: CommandLine<'_>, cpus: usize) -> u64 {
    let total = frames.stats().total_frames;
    let default = DEFAULT_MEMORY.min(total * PAGE / 2);
    let wish = options
        .get("dom0_mem")
        .and_then(parse_size)
        .unwrap_or(default)
        / MIB
        * (MIB / PAGE);
    let ram = info
        .memory
        .iter()
        .filter(|range| range.kind == MemoryKind::Ram)
        .map(|range| (range.start.raw().div_ceil(PAGE), range.end.raw() / PAGE));
    let kept = oxen_mm::dom0::kept_frames(total, cpus);
    let taken = oxen_mm::dom0::reserve(frames, ram, wish, kept);
    if taken < wish {
        log::warn!(
            "dom0 gets {} MiB, not {}: the hypervisor keeps the rest for itself",
            taken * PAGE / MIB,
            wish * PAGE / MIB
        );
    }
    taken
}

/// `512M`, `1G`, `min:..`, `max:..` lists as Xen has them: the first plain size, or else `max:`.
fn parse_size(text: &str) -> Option<u64> {
    let plain = text.split(',').find_map(oxen_arch::cmdline::parse_size);
    plain.or_else(|| {
        text.split(',').find_map(|w| {
            w.strip_prefix("max:")
                .and_then(oxen_arch::cmdline::parse_size)
        })
    })
}

/// Makes dom0 and starts its first vcpu, paused no longer.
pub fn build(
    kernel: &Kernel,
    modules: &Modules,
    cmdline: &str,
    vcpus: u32,
    info: &BootInfo,
) -> Result<Arc<Domain>, BuildError> {
    let globals = globals::get();
    let Kernel { elf, parsed } = kernel;

    map::build(globals.frames, info);
    let ram_frames: u64 = memory_map()
        .iter()
        .filter(|r| r.kind == guest_pv_abi::E820_RAM)
        .map(|r| r.len / PAGE)
        .sum();
    let config = DomainConfig {
        privileged: true,
        handle: [0; 16],
        ssid: 0,
        flags: flags(CommandLine::new(&info.cmdline)),
        emulation: EMULATION,
        max_vcpus: vcpus,
        max_ports: MAX_PORTS,
        max_grant_frames: GRANT_FRAMES,
        max_maptrack_frames: MAPTRACK_FRAMES,
    };
    let domain = domain::create(DomainId::DOM0, config, ram_frames, Some(Hardware::new()))?;
    populate(&domain)?;
    globals.machine.insert(domain.clone())?;

    for segment in &parsed.segments {
        let bytes = elf
            .get(segment.file.clone())
            .ok_or(BuildError::Elf(elf::ElfError::Truncated))?;
        let at = segment.address;
        write(&domain, at, bytes).map_err(|errno| BuildError::Segment { at, errno })?;
        let end = at + bytes.len() as u64;
        let rest = segment.memory_len.saturating_sub(bytes.len() as u64);
        clear(&domain, end, rest).map_err(|errno| BuildError::Segment { at: end, errno })?;
    }
    let kernel_end = parsed
        .segments
        .iter()
        .map(|s| s.address + s.memory_len)
        .max()
        .unwrap_or(0);

    let mut top = map::top_below(EARLY_LIMIT).ok_or(BuildError::NoMemory("dom0"))?;
    let mut take = |len: u64, what| {
        let at = top
            .checked_sub(len)
            .map(|at| at & !(PAGE - 1))
            .filter(|at| *at >= kernel_end);
        top = at.ok_or(BuildError::NoMemory(what))?;
        Ok::<u64, BuildError>(top)
    };
    let tables = acpi::Tables::new(vcpus);
    let acpi_at = take(tables.len(), "ACPI tables")?;
    let entries = memory_map().len() + ADDED_ENTRIES;
    let start_at = take(start_info::len(entries, cmdline), "start info")?;
    let initrd = match modules.initrd {
        Some(module) => {
            let at = take(module.len, "the initrd")?;
            write(&domain, at, module_bytes(module))?;
            Some((at, module.len))
        }
        None => None,
    };
    map::set_kind(
        acpi_at,
        tables.len().next_multiple_of(PAGE),
        guest_pv_abi::E820_ACPI,
    );
    let rsdp = tables.install(acpi_at, &mut |at, bytes| write(&domain, at, bytes))?;
    let block = start_info::build(start_at, cmdline, initrd, rsdp, &memory_map());
    write(&domain, start_at, &block)?;
    free_modules(modules);

    let hv = hv_domain(&domain).ok_or(Errno::Inval)?;
    crate::ports::allow_dom0(&hv.controls);
    log::info!("{} PCI functions for dom0", hardware::scan(hv, &domain));

    let boot = domain.vcpu(0).ok_or(Errno::NoEnt)?;
    let state = hv_vcpu(&boot).ok_or(Errno::NoEnt)?;
    {
        let mut context = state.context.lock();
        start::pvh(&mut *context.backend, parsed.entry, start_at as u32);
    }
    boot.set_initialised(true);
    log::info!(
        "dom0: {} MiB, {vcpus} vcpus, entry {:#x}, kernel to {kernel_end:#x}, initrd {initrd:x?}",
        ram_frames * PAGE / MIB,
        parsed.entry
    );
    boot.release(Hold::Down);
    domain.unpause()?;
    Ok(domain)
}

/// Nested paging where the machine has it, unless the option `dom0=` has the word `shadow`.
fn flags(options: CommandLine<'_>) -> u32 {
    use guest_pv_abi::{XEN_DOMCTL_CDF_HAP, XEN_DOMCTL_CDF_HVM};
    let words = options.get("dom0").unwrap_or("");
    let shadow = words.split(',').any(|word| word == "shadow");
    match globals::get().virt.nested_paging() && !shadow {
        true => XEN_DOMCTL_CDF_HVM | XEN_DOMCTL_CDF_HAP,
        false => XEN_DOMCTL_CDF_HVM,
    }
}

/// Gives dom0 all frames that were set aside for it, with what is in them: it may see all of the machine anyway, and
/// needs what the firmware left in the first MiB (the BIOS data areas).
fn populate(domain: &Domain) -> Result<(), BuildError> {
    const LARGE: u32 = 9;
    for range in memory_map()
        .iter()
        .filter(|r| r.kind == guest_pv_abi::E820_RAM)
    {
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

/// The frames that held the modules go to the heap.
fn free_modules(modules: &Modules) {
    let all = [modules.kernel, modules.initrd, modules.room];
    for span in all.into_iter().flatten() {
        globals::get()
            .frames
            .free_own(span.at.frame(), span.frames());
    }
}

#[allow(
    unsafe_code,
    reason = "the modules' bytes lie in RAM that boot reserved for them"
)]
fn module_bytes(module: Span) -> &'static [u8] {
    let at = oxen_arch::layout::direct_map(module.at).map_or(0, Vaddr::raw) as *const u8;
    // SAFETY: boot copied the module there, into frames that nothing else uses until `free_modules`,
    // whose caller is done with these bytes.
    unsafe { core::slice::from_raw_parts(at, module.len as usize) }
}

/// Called once: the only user of the room until `free_modules`.
#[allow(unsafe_code, reason = "RAM that boot carved off for this")]
fn room_bytes(room: Span) -> &'static mut [u8] {
    let at = oxen_arch::layout::direct_map(room.at).map_or(0, Vaddr::raw) as *mut u8;
    // SAFETY: frames of the hypervisor's own that nothing else uses.
    unsafe { core::slice::from_raw_parts_mut(at, room.len as usize) }
}
