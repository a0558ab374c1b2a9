//! A domain's processor side: policies, permissions, and (for dom0) the machine's interrupt
//! controllers and PCI.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use guest_pv_abi::{CpuidLeaf, MsrEntry};
use oxen_core::domain::{Domain, DomainConfig, MAX_VCPUS};
use oxen_core::seams::{GuestMemory, MapKind};
use oxen_core::vcpu::Vcpu;
use oxen_core::vcpu::{DomainArch, VcpuArch};
use oxen_mm::p2m::{Rules, SpaceConfig};
use oxen_mm::pt::{Ept, Format, Npt};
use oxen_mm::{FrameTable, GuestSpace};
use oxen_paging::shadow::{DomainShadow, VcpuShadow};
use oxen_paging::walk::Limits;
use oxen_types::{DomainId, Errno, Maddr, PAGE_SIZE, Result, RwLock, VcpuId};
use oxen_virt::dev::lapic::{Bus, Lapic, LapicConfig, LapicPosted};
use oxen_virt::features::Leaf1Ecx;
use oxen_virt::policy::{CpuidPolicy, MsrPolicy, MsrState, Mtrr};
use oxen_virt::tsc::TscOffsets;
use oxen_virt::{DomainControls, NestedFormat};
use spin::Once;

use crate::Vmm;
use crate::devices::Devices;
use crate::flush::{Flush, FlushHandle};
use crate::host::Host;
use crate::vcpu::HvmVcpu;

/// The processor side of a domain whose vcpus virtualization hardware runs.
pub(crate) struct HvmDomain<H: Host> {
    pub(crate) vmm: &'static Vmm<H>,
    pub(crate) id: DomainId,
    pub(crate) flush: Arc<Flush>,
    pub(crate) cpuid: RwLock<CpuidPolicy>,
    pub(crate) msrs: MsrPolicy,
    /// Of its processors, for walks of its page tables: `walk::Limits`, packed.
    limits: AtomicU32,
    root: Maddr,
    /// Its vcpus run on these shadows of their page tables.
    pub(crate) shadow: Option<DomainShadow<Flush>>,
    /// The machine's devices: dom0's.
    pub(crate) devices: Option<Devices>,
    controls: Arc<DomainControls>,
    pub(crate) tsc: TscOffsets,
    lapics: Box<[Once<Arc<LapicPosted>>]>,
    round_robin: AtomicUsize,
}

impl<H: Host> HvmDomain<H> {
    /// Of its processors, for walks of its page tables.
    pub(crate) fn limits(&self) -> Limits {
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

/// A new domain, as core and as the vmm know it.
pub(crate) type Created<H> = (Arc<Domain>, Arc<HvmDomain<H>>);

/// Makes a domain with its memory and vcpus; it is not yet in the machine's list. The caller has
/// seen that there is room for its parts ([`oxen_core::fallible::with_reserve`]). `devices`: it is
/// dom0.
///
/// # Errors
/// [`Errno::NoMem`] if there is no memory for a part of it; [`Errno::Inval`] if it would have too
/// many vcpus.
pub(crate) fn create<H: Host>(
    vmm: &'static Vmm<H>,
    id: DomainId,
    config: DomainConfig,
    max_frames: u64,
    devices: Option<Devices>,
) -> Result<Created<H>> {
    let dom0 = devices.is_some();
    let nested = vmm.virt.nested_paging();
    let shadow = config.flags & guest_pv_abi::XEN_DOMCTL_CDF_HAP == 0 || !nested;
    if shadow && !crate::SHADOW {
        return Err(Errno::OpNotSupp);
    }
    let flush = Flush::new(id, vmm, shadow);
    let pool = match dom0 {
        true => PoolSize::dom0(max_frames, config.max_vcpus, shadow),
        false => PoolSize::guest(shadow),
    };
    let (memory, root) = new_memory(vmm, id, &flush, max_frames, &pool, dom0)?;
    let hvm = Arc::new(HvmDomain::new(
        vmm, id, &config, flush, root, &pool, devices,
    )?);
    if memory.pool() < pool.tables {
        log::warn!(
            "d{id}: {} of {} pages are set aside for page tables: dom0_mem= leaves too little memory",
            memory.pool(),
            pool.tables
        );
    }
    let handle = Box::new(Handle(hvm.clone()));
    let domain = Domain::new(vmm.machine, id, config, memory, handle)?;
    if let Some((at, table)) = vmm.virt.identity_table() {
        let page = vmm.machine.frames.alloc(id).ok_or(Errno::NoMem)?;
        page.write(0, &table[..]);
        domain.memory.map(at, page, MapKind::Xen)?;
    }
    domain.create_vcpus()?;
    Ok((domain, hvm))
}

impl<H: Host> HvmDomain<H> {
    fn new(
        vmm: &'static Vmm<H>,
        id: DomainId,
        config: &DomainConfig,
        flush: Arc<Flush>,
        root: Maddr,
        pool: &PoolSize,
        devices: Option<Devices>,
    ) -> Result<Self> {
        // Made by allocations that do not fail: `fallible::with_reserve` vouches for objects of a
        // page at most.
        const {
            assert!(
                size_of::<Self>() <= PAGE_SIZE
                    && size_of::<HvmVcpu<H>>() <= PAGE_SIZE
                    && size_of::<Flush>() <= PAGE_SIZE
                    && size_of::<GuestSpace<Npt>>() <= PAGE_SIZE
                    && size_of::<GuestSpace<Ept>>() <= PAGE_SIZE
                    && size_of::<Domain>() <= PAGE_SIZE
                    && size_of::<Vcpu>() <= PAGE_SIZE
                    && size_of::<Once<Arc<LapicPosted>>>() * MAX_VCPUS as usize <= PAGE_SIZE
            )
        };
        let dom0 = devices.is_some();
        let controls = vmm.virt.new_domain(dom0).map_err(|_| Errno::NoMem)?;
        let shadow = match pool.shadows {
            0 => None,
            pages => {
                let number = || vmm.host.random() ^ vmm.host.tsc();
                let key = [number(), number().rotate_left(32)];
                let shadow = DomainShadow::new(vmm.frames, id, flush.clone(), pages, key);
                Some(shadow.ok_or(Errno::NoMem)?)
            }
        };
        let cpuid = crate::policy::cpuid(vmm, config, dom0, shadow.is_some());
        // dom0 shares the machine's clock; guests' start at 0.
        let tsc = if dom0 {
            0
        } else {
            vmm.host.tsc().wrapping_neg()
        };
        Ok(Self {
            vmm,
            id,
            flush,
            limits: AtomicU32::new(pack(cpuid.limits())),
            cpuid: RwLock::new(cpuid),
            msrs: crate::policy::msrs(vmm, dom0),
            root,
            shadow,
            devices,
            controls,
            tsc: TscOffsets::new(config.max_vcpus as usize, tsc),
            lapics: (0..config.max_vcpus).map(|_| Once::new()).collect(),
            round_robin: AtomicUsize::new(0),
        })
    }

    /// Lets the guest use ports `first..=last` without an exit, or not.
    pub(crate) fn set_ports_direct(&self, first: u16, last: u16, direct: bool) {
        self.controls.set_ports_direct(first, last, direct);
    }
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

    /// All that dom0's own memory can ever need, a table for each 2 MiB; 4 MiB for what it maps
    /// beside that; and shadows as libxl sizes them for 1 GiB.
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

/// An empty guest-physical space, and the root of its tables.
fn new_memory<H: Host>(
    vmm: &Vmm<H>,
    owner: DomainId,
    flush: &Arc<Flush>,
    max_frames: u64,
    pool: &PoolSize,
    dom0: bool,
) -> Result<(Box<dyn GuestMemory>, Maddr)> {
    let config = SpaceConfig {
        owner,
        identity: dom0,
        address_bits: vmm.settings.phys_bits,
        max_frames,
        pool_pages: pool.tables,
        rules: Rules {
            // dom0 could stop the machine anyway.
            large_exec: vmm.settings.large_exec || dom0,
            guest_pat: dom0,
        },
    };
    match vmm.virt.nested_format() {
        NestedFormat::Npt => new_space::<Npt>(vmm.frames, config, flush),
        NestedFormat::Ept => new_space::<Ept>(vmm.frames, config, flush),
    }
}

fn new_space<F: Format>(
    frames: &'static FrameTable,
    config: SpaceConfig,
    flush: &Arc<Flush>,
) -> Result<(Box<dyn GuestMemory>, Maddr)> {
    let flush = Box::new(FlushHandle(flush.clone()));
    let space = GuestSpace::<F>::new(frames, config, flush).ok_or(Errno::NoMem)?;
    let root = space.root();
    Ok((Box::new(space), root))
}

/// Core's handle on the processor side that its vcpus share.
struct Handle<H: Host>(Arc<HvmDomain<H>>);

impl<H: Host> DomainArch for Handle<H> {
    fn new_vcpu(&self, id: VcpuId) -> Result<Box<dyn VcpuArch>> {
        let hvm = &self.0;
        let vmm = hvm.vmm;
        let config = LapicConfig {
            vcpu: id.0,
            tsc_khz: vmm.host.tsc_khz(),
            x2apic: hvm.cpuid.read().has_1(Leaf1Ecx::X2APIC),
        };
        let lapic = Lapic::new(config).ok_or(Errno::Inval)?;
        if let Some(slot) = hvm.lapics.get(id.index()) {
            slot.call_once(|| lapic.posted().clone());
        }
        let mut backend = vmm.host.new_vcpu(&hvm.controls).map_err(|_| Errno::NoMem)?;
        let shadow = if hvm.shadow.is_some() {
            let tables = VcpuShadow::new(vmm.frames, hvm.id).ok_or(Errno::NoMem)?;
            backend.set_shadow_roots(tables.roots());
            Some(tables)
        } else {
            backend.set_nested_root(hvm.root);
            None
        };
        hvm.tsc.apply(id.index(), &mut *backend);
        if let Some(assist) = backend.apic_assist() {
            assist.set_posted(lapic.posted());
        }
        let mtrr = match &hvm.devices {
            Some(devices) => devices.mtrr,
            // Guests have all of their memory write-back.
            None => Mtrr::write_back(),
        };
        let msrs = MsrState {
            tsc_adjust: 0,
            mtrr,
        };
        Ok(Box::new(HvmVcpu::new(
            hvm.clone(),
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

    fn set_msrs(&self, entries: &[u8]) -> Result<()> {
        // A domain's MSRs are as the machine offers them: there is nothing to set.
        match entries {
            [] => Ok(()),
            _ => Err(Errno::OpNotSupp),
        }
    }

    fn msrs(&self, _visit: &mut dyn FnMut(&MsrEntry) -> Result<()>) -> Result<()> {
        Ok(())
    }

    fn dump(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        match self.0.shadow.as_ref().and_then(DomainShadow::counts) {
            Some(counts) => writeln!(out, "  shadows: {counts:?}"),
            None => Ok(()),
        }
    }
}

/// The local APICs of a domain, for IPIs and devices' interrupts.
pub(crate) struct ApicBus<'a, H: Host> {
    pub(crate) hvm: &'a HvmDomain<H>,
    pub(crate) domain: &'a Domain,
}

impl<H: Host> Bus for ApicBus<'_, H> {
    fn lapic(&self, n: usize) -> Option<&LapicPosted> {
        self.hvm.lapics.get(n)?.get().map(|posted| &**posted)
    }

    fn kick(&self, n: usize) {
        let Some(vcpu) = u32::try_from(n).ok().and_then(|n| self.domain.vcpu(n)) else {
            return;
        };
        vcpu.kick_apic();
    }

    fn round_robin(&self) -> &AtomicUsize {
        &self.hvm.round_robin
    }
}
