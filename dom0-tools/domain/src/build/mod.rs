//! Building a PVH guest: the order of libxl, step by step, and when one fails, everything undone.
//!
//! The kernel and ramdisk are read and understood before the domain exists, so that bad files leave
//! no trace at all. From the domain's creation on, an error destroys it and removes its nodes.

use crate::image::{self, Kernel};
use crate::layout::{self, PAGE, Placement, Ram};
use crate::world::{DomId, Hypervisor, World, explain};
use crate::{Error, Result};
use crate::{acpi, affinity, context, end, nodes, resize, start_info};
use guest_pv_abi::{
    GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE, HVM_PARAM_CONSOLE_EVTCHN,
    HVM_PARAM_CONSOLE_PFN, HVM_PARAM_IDENT_PT, HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN,
    XEN_DOMCTL_CDF_HAP, XEN_DOMCTL_CDF_HVM,
};
use oxen_config::{DomainConfig, TscMode, Uuid};
use oxen_sys::hypercall::{CreateDomain, Extents};
use oxen_sys::{Errno, Result as SysResult};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// A step of building, as clients hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    ReadingKernel,
    CreatingDomain,
    GivingMemory,
    LoadingKernel,
    EnteringStore,
    Started,
}

/// A domain to be built.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    pub config: &'a DomainConfig,
    pub uuid: Uuid,
    /// Seconds since the epoch.
    pub now: u64,
}

/// A kernel and its ramdisk, read and understood.
#[derive(Debug, Clone)]
pub struct Images {
    pub kernel: Arc<Kernel>,
    pub ramdisk: Vec<u8>,
}

const CONSOLE_DOMAIN: DomId = 0;
const STORE_DOMAIN: DomId = 0;
const SUPERPAGE: u64 = 512;
/// Most extents of one populate call.
const BATCH: usize = 512;

/// Reads the kernel and the ramdisk that the configuration names.
///
/// # Errors
/// `Error` that names the file if it is missing, cannot be read, or is no kernel that can be
/// booted.
pub fn read_images(config: &DomainConfig, cache: &image::Cache) -> Result<Images> {
    let kernel = cache.kernel(Path::new(&config.kernel))?;
    let ramdisk = match &config.ramdisk {
        Some(path) => image::read_file(Path::new(path), "ramdisk")?,
        None => Vec::new(),
    };
    Ok(Images { kernel, ramdisk })
}

/// Creates a domain and assembles it: memory, kernel, registers and nodes of the store. The domain
/// is left paused. `born` is called as soon as the domain has a number, so that the caller can note
/// the number before anything else happens.
///
/// # Errors
/// `Error` of the step that failed. The domain has been destroyed again; if that failed too, the
/// remedy says so.
pub fn create_paused(
    world: &mut World<'_>,
    order: &Order<'_>,
    images: &Images,
    progress: &mut dyn FnMut(Step),
    born: &mut dyn FnMut(DomId) -> Result<()>,
) -> Result<DomId> {
    let config = order.config;
    // Every check that needs no domain comes before the domain exists.
    let plan = Plan::new(config, images)?;
    check_memory(world.hypervisor, config)?;
    progress(Step::CreatingDomain);
    let nested = match config.hap {
        Some(chosen) => chosen,
        None => world.hypervisor.nested_paging().unwrap_or(true),
    };
    let domain = world
        .hypervisor
        .create(&wanted(order, nested))
        .map_err(|errno| explain_create(config, errno))?;
    let built = born(domain).and_then(|()| assemble(world, order, images, &plan, domain, progress));
    if let Err(error) = built {
        return Err(match end::erase(world, domain, Some(order.uuid)) {
            Ok(_) => error,
            Err(second) => error.remedy(format!(
                "besides, the half-built domain {domain} is still there ({second})"
            )),
        });
    }
    Ok(domain)
}

/// The layout of a guest, computed from its configuration and images alone.
struct Plan {
    ram: Ram,
    place: Placement,
    acpi: acpi::Tables,
}

/// Checks that the kernel accepts the whole command line of the configuration.
///
/// # Errors
/// `Error` with both lengths if the command line is too long: the kernel would cut it off without a
/// word.
pub fn check_images(config: &DomainConfig, images: &Images) -> Result<()> {
    let (length, most) = (
        config.cmdline.len(),
        images.kernel.max_command_line as usize,
    );
    if length <= most {
        return Ok(());
    }
    let cause = format!("its command line has {length} characters, and its kernel takes {most}");
    Err(Error::new(format!("cannot create {}", config.name), cause)
        .remedy("shorten cmdline= or extra="))
}

impl Plan {
    fn new(config: &DomainConfig, images: &Images) -> Result<Self> {
        check_images(config, images)?;
        let ram = Ram::new(config.memory_mib);
        let acpi = acpi::build(layout::ACPI_BASE, config.max_vcpus);
        let info = start_info::size(&config.cmdline);
        let place = layout::place(ram, &images.kernel, info, images.ramdisk.len() as u64)?;
        Ok(Self { ram, place, acpi })
    }
}

fn wanted(order: &Order<'_>, nested: bool) -> CreateDomain {
    let config = order.config;
    let limit = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let hap = if nested { XEN_DOMCTL_CDF_HAP } else { 0 };
    CreateDomain {
        flags: XEN_DOMCTL_CDF_HVM | hap,
        max_evtchn_port: config.max_event_channels,
        max_grant_frames: limit(config.max_grant_frames),
        max_maptrack_frames: limit(config.max_maptrack_frames),
        grant_opts: config.max_grant_version,
        ..CreateDomain::pvh(order.uuid.0, config.max_vcpus)
    }
}

fn explain_create(config: &DomainConfig, errno: Errno) -> Error {
    let error = explain(format!("cannot create {}", config.name), errno);
    match errno {
        Errno::INVAL | Errno::TOOBIG | Errno::RANGE => error.remedy(format!(
            "vcpus={} or a limit (max_*) may be more than it allows; try less",
            config.max_vcpus
        )),
        _ => error,
    }
}

/// Checks that the machine has enough free memory, because populating would fail only after
/// minutes.
///
/// # Errors
/// `Error` with the numbers if less memory is free than the configuration asks for, or the
/// hypervisor's if it does not say how much is free.
pub fn check_memory(hypervisor: &dyn Hypervisor, config: &DomainConfig) -> Result<()> {
    let free = match hypervisor.free_memory() {
        Ok(bytes) => bytes,
        // Populating fails later if there is too little.
        Err(Errno::NOSYS | Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(explain("cannot learn how much memory is free", errno)),
    };
    let pool = paging_pool(config);
    if u64::from(config.memory_mib) * layout::MIB + pool <= free {
        return Ok(());
    }
    let cause = format!(
        "memory={} and {} MiB for its page tables are asked for, and {} MiB are free",
        config.memory_mib,
        pool / layout::MIB,
        free / layout::MIB
    );
    Err(Error::new(format!("cannot create {}", config.name), cause)
        .remedy("give it less, or end other guests"))
}

/// Gives a new, empty domain everything that it needs to run.
fn assemble(
    world: &mut World<'_>,
    order: &Order<'_>,
    images: &Images,
    plan: &Plan,
    domain: DomId,
    progress: &mut dyn FnMut(Step),
) -> Result<()> {
    let config = order.config;
    let hypervisor = world.hypervisor;
    let doing = |what: &str| format!("cannot create {}: {what}", config.name);
    let failed = |what: &'static str| move |errno| explain(doing(what), errno);
    set_limits(hypervisor, config, domain).map_err(failed("setting its vcpus and limits"))?;
    affinity::apply(hypervisor, config, domain)?;
    let ports = ports(hypervisor, domain).map_err(failed("making its event channels"))?;
    progress(Step::GivingMemory);
    give_memory(hypervisor, domain, plan).map_err(failed("giving it memory"))?;
    progress(Step::LoadingKernel);
    load(hypervisor, domain, config, images, plan).map_err(failed("loading its kernel"))?;
    special_pages(hypervisor, domain, ports)
        .map_err(failed("preparing its store and console pages"))?;
    set_registers(hypervisor, domain, config, images, plan)?;
    let grant =
        |reference, to, gfn| hypervisor.seed_grant(domain, reference, to, gfn, layout::SCRATCH_GFN);
    grant(GNTTAB_RESERVED_CONSOLE, CONSOLE_DOMAIN, layout::CONSOLE_GFN)
        .and_then(|()| grant(GNTTAB_RESERVED_XENSTORE, STORE_DOMAIN, layout::STORE_GFN))
        .map_err(failed("granting its store and console pages"))?;
    progress(Step::EnteringStore);
    world
        .store
        .apply(&nodes::create(domain, order.uuid, config, ports, order.now))?;
    world
        .store
        .introduce(domain, layout::STORE_GFN, ports.store)
}

fn set_limits(hypervisor: &dyn Hypervisor, config: &DomainConfig, domain: DomId) -> SysResult<()> {
    hypervisor.set_max_vcpus(domain, config.max_vcpus)?;
    if config.cpu_weight.is_some() || config.cap.is_some() {
        let narrow = |n: Option<u32>| n.map(|n| u16::try_from(n).unwrap_or(u16::MAX));
        hypervisor.set_sched(domain, narrow(config.cpu_weight), narrow(config.cap))?;
    }
    hypervisor.set_max_mem(domain, resize::limit_kib(config.memory_mib))?;
    // A hypervisor without such a pool takes page tables from its own memory.
    optional(hypervisor.set_paging_pool(domain, paging_pool(config)))?;
    let mode = match config.tsc_mode {
        TscMode::Default => 0,
        TscMode::AlwaysEmulate => 1,
        TscMode::Native => 2,
        TscMode::NativeParavirt => 3,
    };
    let tsc = hypervisor.set_tsc_mode(domain, mode);
    if mode == 0 {
        optional(tsc)?
    } else {
        tsc?
    }
    if config.rtc_timeoffset != 0 {
        hypervisor.set_time_offset(domain, config.rtc_timeoffset.into())?;
    }
    Ok(())
}

/// The bytes that the hypervisor sets aside for the guest's page tables and shadows: the
/// configuration's number, or by default libxl's, 1 MiB for each vcpu plus 8 KiB for each MiB of
/// memory.
fn paging_pool(config: &DomainConfig) -> u64 {
    let pages = 256 * u64::from(config.max_vcpus) + 2 * u64::from(config.maxmem_mib);
    let default = (pages * PAGE).next_multiple_of(layout::MIB);
    let chosen = config.shadow_memory_mib;
    chosen.map_or(default, |mib| u64::from(mib) * layout::MIB)
}

fn optional(result: SysResult<()>) -> SysResult<()> {
    match result {
        Err(Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

fn ports(hypervisor: &dyn Hypervisor, domain: DomId) -> SysResult<nodes::Ports> {
    let store = hypervisor.alloc_unbound(domain, STORE_DOMAIN)?;
    let console = hypervisor.alloc_unbound(domain, CONSOLE_DOMAIN)?;
    Ok(nodes::Ports { store, console })
}

fn give_memory(hypervisor: &dyn Hypervisor, domain: DomId, plan: &Plan) -> SysResult<()> {
    for (start, end) in plan.ram.ranges() {
        populate_range(hypervisor, domain, start, end)?;
    }
    let acpi = layout::ACPI_BASE / PAGE;
    let acpi_pages = (plan.acpi.bytes.len() as u64).div_ceil(PAGE);
    populate(
        hypervisor,
        domain,
        0,
        &(acpi..acpi + acpi_pages).collect::<Vec<_>>(),
    )?;
    let special = layout::SPECIAL..layout::SPECIAL + layout::SPECIAL_PAGES;
    populate(hypervisor, domain, 0, &special.collect::<Vec<_>>())?;
    hypervisor.set_memory_map(domain, &plan.ram.memory_map(plan.acpi.bytes.len() as u64))
}

/// Populates a range of frames: with superpages where they fit and the hypervisor has them, else
/// with pages.
fn populate_range(
    hypervisor: &dyn Hypervisor,
    domain: DomId,
    start: u64,
    end: u64,
) -> SysResult<()> {
    let whole_end = end - end % SUPERPAGE;
    let superpages: Vec<u64> = (start..whole_end).step_by(SUPERPAGE as usize).collect();
    for batch in superpages.chunks(BATCH) {
        let done = hypervisor.populate(
            domain,
            Extents {
                frames: batch,
                order: 9,
                flags: 0,
            },
        )?;
        for frame in batch.get(done..).unwrap_or_default() {
            populate(
                hypervisor,
                domain,
                0,
                &(*frame..frame + SUPERPAGE).collect::<Vec<_>>(),
            )?;
        }
    }
    populate(
        hypervisor,
        domain,
        0,
        &(whole_end.max(start)..end).collect::<Vec<_>>(),
    )
}

/// Populates all of the extents.
///
/// # Errors
/// ENOMEM if there is memory for a part of them only, or the hypervisor's error.
fn populate(
    hypervisor: &dyn Hypervisor,
    domain: DomId,
    order: u32,
    frames: &[u64],
) -> SysResult<()> {
    for batch in frames.chunks(BATCH) {
        if hypervisor.populate(
            domain,
            Extents {
                frames: batch,
                order,
                flags: 0,
            },
        )? < batch.len()
        {
            return Err(Errno::NOMEM);
        }
    }
    Ok(())
}

fn load(
    hypervisor: &dyn Hypervisor,
    domain: DomId,
    config: &DomainConfig,
    images: &Images,
    plan: &Plan,
) -> SysResult<()> {
    // The rest of a segment needs no writing: a new domain's memory is zeroed.
    for segment in &images.kernel.segments {
        hypervisor.write(domain, segment.addr, images.kernel.bytes(segment))?;
    }
    hypervisor.write(domain, plan.place.ramdisk, &images.ramdisk)?;
    hypervisor.write(domain, layout::ACPI_BASE, &plan.acpi.bytes)?;
    let map = plan.ram.memory_map(plan.acpi.bytes.len() as u64);
    let info = start_info::build(
        plan.place,
        &config.cmdline,
        images.ramdisk.len() as u64,
        plan.acpi.rsdp,
        &map,
    );
    hypervisor.write(domain, plan.place.info, &info)
}

fn special_pages(hypervisor: &dyn Hypervisor, domain: DomId, ports: nodes::Ports) -> SysResult<()> {
    // 4 MiB pages that map all of 4 GiB to itself, for processors that cannot run without paging:
    // present, writable, user, accessed, dirty, large.
    let identity: Vec<u8> = (0..1024u32)
        .flat_map(|i| (i << 22 | 0xe7).to_le_bytes())
        .collect();
    hypervisor.write(domain, layout::IDENT_GFN * PAGE, &identity)?;
    hypervisor.set_param(domain, HVM_PARAM_STORE_PFN, layout::STORE_GFN)?;
    hypervisor.set_param(domain, HVM_PARAM_CONSOLE_PFN, layout::CONSOLE_GFN)?;
    hypervisor.set_param(domain, HVM_PARAM_IDENT_PT, layout::IDENT_GFN * PAGE)?;
    hypervisor.set_param(domain, HVM_PARAM_CONSOLE_EVTCHN, ports.console.into())?;
    hypervisor.set_param(domain, HVM_PARAM_STORE_EVTCHN, ports.store.into())
}

fn set_registers(
    hypervisor: &dyn Hypervisor,
    domain: DomId,
    config: &DomainConfig,
    images: &Images,
    plan: &Plan,
) -> Result<()> {
    let what = format!("cannot create {}: setting its registers", config.name);
    let current = hypervisor
        .context(domain)
        .map_err(|errno| explain(&what, errno))?;
    let contexts = context::start(
        &current,
        images.kernel.entry,
        plan.place.info,
        config.max_vcpus,
    )
    .map_err(|cause| Error::new(&what, cause))?;
    for context in contexts {
        hypervisor
            .set_context(domain, &context)
            .map_err(|errno| explain(&what, errno))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
