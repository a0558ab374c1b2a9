//! A domain's processor side: policies, permissions, and (for dom0) the machine's interrupt
//! controllers and PCI.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use guest_pv_abi::{CpuidLeaf, MsrEntry};
use oxen_arch::time;
use oxen_core::domain::{Domain, DomainConfig, MAX_VCPUS};
use oxen_core::seams::{DomainArch, GuestMemory, MapKind, VcpuArch};
use oxen_core::vcpu::Vcpu;
use oxen_mm::GuestSpace;
use oxen_mm::p2m::{Rules, SpaceConfig};
use oxen_mm::pt::{Ept, Format, Npt};
use oxen_paging::walk::Limits;
use oxen_types::{DomainId, Errno, Maddr, PAGE_SIZE, Result, RwLock, VcpuId};
use oxen_virt::dev::lapic::{Bus, Lapic, LapicConfig, LapicPosted};
use oxen_virt::policy::CpuidPolicy;
use oxen_virt::policy::features::Leaf1Ecx;
use oxen_virt::tsc::TscOffsets;
use oxen_virt::{DomainControls, NestedFormat};
use spin::{Mutex, Once};

use crate::flush::{Flush, FlushHandle};
use crate::globals;
use crate::hardware::Hardware;
use crate::shadow::{DomainShadow, VcpuShadow};
use crate::vcpu::HvVcpu;

pub struct HvDomain {
    pub id: DomainId,
    pub flush: Arc<Flush>,
    pub cpuid: RwLock<CpuidPolicy>,
    /// Of its processors, for walks of its page tables: `walk::Limits`, packed.
    limits: AtomicU32,
    pub root: Maddr,
    /// Its vcpus run on these shadows of their page tables.
    pub shadow: Option<DomainShadow>,
    /// The machine's devices: dom0's.
    pub hardware: Option<Mutex<Hardware>>,
    pub controls: Arc<DomainControls>,
    pub tsc: TscOffsets,
    lapics: Box<[Once<Arc<LapicPosted>>]>,
    round_robin: AtomicUsize,
}

impl HvDomain {
    pub fn limits(&self) -> Limits {
        let packed = self.limits.load(Ordering::Relaxed);
        Limits {
            phys_bits: packed >> 1,
            pages_1g: packed & 1 != 0,
        }
    }
}

fn pack(limits: Limits) -> u32 {
    limits.phys_bits << 1 | u32::from(limits.pages_1g)
}

// What is made with a domain by allocations that do not fail: `fallible::with_reserve` vouches for
// objects of a page at most.
const _: () = assert!(
    size_of::<HvDomain>() <= PAGE_SIZE
        && size_of::<HvVcpu>() <= PAGE_SIZE
        && size_of::<Flush>() <= PAGE_SIZE
        && size_of::<GuestSpace<Npt>>() <= PAGE_SIZE
        && size_of::<GuestSpace<Ept>>() <= PAGE_SIZE
        && size_of::<Domain>() <= PAGE_SIZE
        && size_of::<Vcpu>() <= PAGE_SIZE
        && size_of::<Once<Arc<LapicPosted>>>() * MAX_VCPUS as usize <= PAGE_SIZE
);

/// Makes a domain with its memory and vcpus; it is not yet in the machine's list. The caller has seen that
/// there is room for its parts ([`oxen_core::fallible::with_reserve`]).
pub fn create(
    id: DomainId,
    config: DomainConfig,
    max_frames: u64,
    hardware: Option<Hardware>,
) -> Result<Arc<Domain>> {
    let globals = globals::get();
    let nested = globals.virt.nested_paging();
    let shadow = config.flags & guest_pv_abi::XEN_DOMCTL_CDF_HAP == 0 || !nested;
    let flush = Flush::new(id, shadow);
    let pool = match hardware.is_some() {
        true => PoolSize::dom0(max_frames, config.max_vcpus, shadow),
        false => PoolSize::guest(shadow),
    };
    let space_config = SpaceConfig {
        owner: id,
        identity: hardware.is_some(),
        address_bits: globals.phys_bits,
        max_frames,
        pool_pages: pool.tables,
        rules: Rules {
            // dom0 could stop the machine anyway.
            large_exec: globals.large_exec || hardware.is_some(),
            guest_pat: hardware.is_some(),
        },
    };
    let flusher = Box::new(FlushHandle(flush.clone()));
    let (memory, root) = match globals.virt.nested_format() {
        NestedFormat::Npt => new_space::<Npt>(space_config, flusher)?,
        NestedFormat::Ept => new_space::<Ept>(space_config, flusher)?,
    };
    let controls = globals
        .virt
        .new_domain(hardware.is_some())
        .map_err(|_| Errno::NoMem)?;
    let shadows = if shadow {
        Some(DomainShadow::new(globals.frames, id, pool.shadows).ok_or(Errno::NoMem)?)
    } else {
        None
    };
    if memory.pool() < pool.tables {
        log::warn!(
            "d{id}: {} of {} pages are set aside for page tables: dom0_mem= leaves too little memory",
            memory.pool(),
            pool.tables
        );
    }
    // dom0 shares the machine's clock; guests' start at 0.
    let tsc = if hardware.is_some() {
        0
    } else {
        time::rdtsc().wrapping_neg()
    };
    let cpuid = crate::policy::cpuid(&config, hardware.is_some(), shadow);
    let hv = HvDomain {
        id,
        flush,
        limits: AtomicU32::new(pack(cpuid.limits())),
        cpuid: RwLock::new(cpuid),
        root,
        shadow: shadows,
        hardware: hardware.map(Mutex::new),
        controls,
        tsc: TscOffsets::new(config.max_vcpus as usize, tsc),
        lapics: (0..config.max_vcpus).map(|_| Once::new()).collect(),
        round_robin: AtomicUsize::new(0),
    };
    let domain = Domain::new(
        globals.machine,
        id,
        config,
        memory,
        Box::new(Handle(Arc::new(hv))),
    )?;
    if let Some((at, table)) = globals.virt.identity_table() {
        let page = globals.machine.frames.alloc(id).ok_or(Errno::NoMem)?;
        page.write(0, &table[..]);
        domain.memory.map(at, page, MapKind::Xen)?;
    }
    domain.create_vcpus()?;
    Ok(domain)
}

/// Pages of a new domain's paging pool.
struct PoolSize {
    tables: u64,
    shadows: usize,
}

impl PoolSize {
    /// Enough to build a small guest; its toolstack sets the size that it needs
    /// (`XEN_DOMCTL_set_paging_mempool_size`). The numbers are Xen's: 1 MiB, with shadows 4 MiB.
    fn guest(shadow: bool) -> Self {
        match shadow {
            true => Self {
                tables: 342,
                shadows: 682,
            },
            false => Self {
                tables: 256,
                shadows: 0,
            },
        }
    }

    /// All that dom0's own memory can ever need, a table for each 2 MiB; 4 MiB for what it maps beside that; and
    /// shadows as libxl sizes them for 1 GiB.
    fn dom0(frames: u64, vcpus: u32, shadow: bool) -> Self {
        Self {
            tables: frames / 512 + 1024,
            shadows: match shadow {
                true => 2048 + 256 * vcpus as usize,
                false => 0,
            },
        }
    }
}

/// An empty guest space, and the root of its tables.
fn new_space<F: Format>(
    config: SpaceConfig,
    flush: Box<FlushHandle>,
) -> Result<(Box<dyn GuestMemory>, Maddr)> {
    let space = GuestSpace::<F>::new(globals::get().frames, config, flush).ok_or(Errno::NoMem)?;
    let root = space.root();
    Ok((Box::new(space), root))
}

/// Core's handle on the processor side that its vcpus share.
struct Handle(Arc<HvDomain>);

impl DomainArch for Handle {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn new_vcpu(&self, id: VcpuId) -> Result<Box<dyn VcpuArch>> {
        let hv = &self.0;
        let globals = globals::get();
        let config = LapicConfig {
            vcpu: id.0,
            tsc_khz: time::tsc_khz() as u32,
            x2apic: hv.cpuid.read().has_1(Leaf1Ecx::X2APIC),
        };
        let lapic = Lapic::new(config).ok_or(Errno::Inval)?;
        if let Some(slot) = hv.lapics.get(id.index()) {
            slot.call_once(|| lapic.posted().clone());
        }
        let mut backend = globals
            .virt
            .new_vcpu(&hv.controls)
            .map_err(|_| Errno::NoMem)?;
        let shadow = if hv.shadow.is_some() {
            let tables = VcpuShadow::new(globals.frames, hv.id).ok_or(Errno::NoMem)?;
            backend.set_shadow_roots(tables.roots());
            Some(tables)
        } else {
            backend.set_nested_root(hv.root);
            None
        };
        hv.tsc.apply(id.index(), &mut *backend);
        if let Some(assist) = backend.apic_assist() {
            assist.set_posted(lapic.posted());
        }
        let msrs = crate::policy::msr_state(hv.hardware.is_some());
        Ok(Box::new(HvVcpu::new(
            hv.clone(),
            id,
            backend,
            lapic,
            msrs,
            shadow,
        )))
    }

    fn set_cpuid(&self, leaves: &[u8]) -> Result<()> {
        let mut cpuid = self.0.cpuid.write();
        crate::policy::set_cpuid(&mut cpuid, leaves)?;
        // With nested paging it is the machine's CPU that walks, whatever CPUID shows.
        if self.0.shadow.is_some() {
            self.0.limits.store(pack(cpuid.limits()), Ordering::Relaxed);
        }
        Ok(())
    }

    fn cpuid(&self, visit: &mut dyn FnMut(&CpuidLeaf) -> Result<()>) -> Result<()> {
        crate::policy::each_leaf(&self.0.cpuid.read(), visit)
    }

    fn shadow_pool(&self) -> Option<u64> {
        self.0.shadow.as_ref().map(DomainShadow::pool)
    }

    fn set_shadow_pool(&self, bytes: u64) -> Result<bool> {
        let shadow = self.0.shadow.as_ref();
        shadow.map_or(Ok(true), |shadow| shadow.set_pool(bytes))
    }

    fn set_msrs(&self, _entries: &[u8]) -> Result<()> {
        Ok(())
    }

    fn msrs(&self, _visit: &mut dyn FnMut(&MsrEntry) -> Result<()>) -> Result<()> {
        Ok(())
    }
}

/// The processor side of one of our vcpus. All are: core has no other source of them.
pub fn hv_vcpu(vcpu: &Vcpu) -> Option<&HvVcpu> {
    vcpu.arch.as_any().downcast_ref()
}

pub fn hv_domain(domain: &Domain) -> Option<&Arc<HvDomain>> {
    domain
        .arch
        .as_any()
        .downcast_ref::<Handle>()
        .map(|handle| &handle.0)
}

/// The local APICs of a domain, for IPIs and device interrupts.
pub struct ApicBus<'a> {
    pub hv: &'a HvDomain,
    pub domain: &'a Domain,
}

impl Bus for ApicBus<'_> {
    fn lapic(&self, n: usize) -> Option<&LapicPosted> {
        self.hv.lapics.get(n)?.get().map(|posted| &**posted)
    }

    fn kick(&self, n: usize) {
        let Some(vcpu) = u32::try_from(n).ok().and_then(|n| self.domain.vcpu(n)) else {
            return;
        };
        vcpu.kick_apic();
    }

    fn round_robin(&self) -> &AtomicUsize {
        &self.hv.round_robin
    }
}
