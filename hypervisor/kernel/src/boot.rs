//! Start-up: machine, memory, CPUs, dom0, and then each CPU's loop.
#![allow(unsafe_code, reason = "the entry symbol, and the change of stacks")]

use alloc::boxed::Box;
use alloc::vec::Vec;
use oxen_types::layout;

use oxen_arch::boot::{BootInfo, MemoryKind, MemoryRange};
use oxen_arch::cmdline::CommandLine;
use oxen_arch::cpu::{self, IstStacks, msr::rdmsr_safe};
use oxen_arch::{Reach, acpi, console, irq, smp, trap, vectors};
use oxen_core::machine::Machine;
use oxen_core::seams::FrameSource;
use oxen_mm::HostSpace;
use oxen_mm::dom0::MapRange;
use oxen_types::{CpuId, MAX_CPUS, Maddr, Vaddr};
use oxen_virt::policy::HostMsrs;
use oxen_virt::{ApicUse, PhysCpu, Platform, spec};
use spin::Once;

use oxen_vmm::dom0::{self, BuildError, Kernel, Plan};
use oxen_vmm::{Parts, Settings, Vmm, cpu_loop};

use crate::host::{CPUS, Hw, VMM};
use crate::memory::{self, Memory};
use crate::modules::BootModule;
use crate::{devices, platform};

oxen_arch::main!(start);

/// The command line's options that this crate reads.
const OPTIONS: &[&str] = &[
    "dom0_mem",
    "dom0_max_vcpus",
    "dom0",
    "trace",
    "maxcpus",
    "sched",
    "spec-ctrl",
    "apicv",
    "ept",
];

const STACK_PAGES: u64 = 8;
const IST_PAGES: u64 = 3;

/// Set once dom0 stands: the CPUs' loops begin.
static GO: Once<&'static Vmm<Hw>> = Once::new();

fn start(info: &'static BootInfo) -> ! {
    oxen_arch::init_cpu(info);
    let options = CommandLine::new(&info.cmdline);
    name_unknown(options);
    let (mut memory, mut modules) = memory::init(info);
    let acpi = oxen_arch::init(
        info,
        Reach {
            firmware: memory::firmware,
            device: memory::map_device,
        },
    );
    let limit = options
        .get("maxcpus")
        .and_then(|n| n.parse().ok())
        .unwrap_or(MAX_CPUS)
        .clamp(1, MAX_CPUS);
    let cpus = acpi.cpus.len().min(limit);
    let kernel = unpack(&modules.kernel, &mut modules.room);
    let firmware: Vec<MapRange> = info.memory.iter().map(range).collect();
    let dom0_frames = dom0::reserve(memory.frames, &firmware, options, cpus);
    memory.free_low();
    log::info!(
        "memory: {} frames for dom0, {:?}",
        dom0_frames,
        memory.frames.stats()
    );
    let vmm = make_vmm(info, &memory, options, cpus);
    let count = start_cpus(vmm, acpi, info, cpus);

    let vcpus = options
        .get("dom0_max_vcpus")
        .and_then(|n| n.parse().ok())
        .unwrap_or(count as u32)
        .clamp(1, 128);
    let plan = Plan {
        kernel: &kernel,
        initrd: modules.initrd.as_ref().map(BootModule::bytes),
        cmdline: info.modules.first().map_or("", |module| &module.cmdline),
        vcpus,
        options,
        firmware: &firmware,
        acpi,
        devices: devices::find(memory.space),
    };
    if let Err(error) = dom0::build(vmm, plan) {
        no_dom0(error);
    }
    modules.free(memory.frames);
    begin(memory.space)
}

fn unpack<'a>(file: &'a Option<BootModule>, room: &'a mut Option<BootModule>) -> Kernel<'a> {
    let Some(file) = file else {
        no_dom0(BuildError::NoKernel);
    };
    let room = room.as_mut().map(BootModule::bytes_mut);
    match dom0::unpack(file.bytes(), room.unwrap_or_default()) {
        Ok(kernel) => kernel,
        Err(error) => no_dom0(error),
    }
}

fn no_dom0(error: BuildError) -> ! {
    panic!("dom0 cannot be built: {error}")
}

/// An entry of the firmware's memory map, as E820 has it.
fn range(range: &MemoryRange) -> MapRange {
    let (start, end) = (range.start.raw(), range.end.raw());
    MapRange {
        start,
        len: end - start,
        kind: match range.kind {
            MemoryKind::Ram => guest_pv_abi::E820_RAM,
            MemoryKind::Reserved => guest_pv_abi::E820_RESERVED,
            MemoryKind::AcpiReclaim => guest_pv_abi::E820_ACPI,
            MemoryKind::AcpiNvs => guest_pv_abi::E820_NVS,
            MemoryKind::Unusable => guest_pv_abi::E820_UNUSABLE,
        },
    }
}

/// Finds the virtualization hardware, and makes the one vmm on it.
fn make_vmm(
    info: &'static BootInfo,
    memory: &Memory,
    options: CommandLine<'_>,
    cpus: usize,
) -> &'static Vmm<Hw> {
    let virt = detect(options);
    let platform = platform::Machine {
        command_line: info.cmdline.as_str(),
        frames: memory.frames,
        virt,
    };
    let platform: &'static platform::Machine = Box::leak(Box::new(platform));
    let machine = Machine::new(platform, memory.frames, platform, cpus);
    let machine = Box::leak(Box::new(machine));
    let is_amd = matches!(
        cpu::features::vendor(),
        cpu::Vendor::Amd | cpu::Vendor::Hygon
    );
    let settings = Settings {
        is_amd,
        large_exec: large_exec(virt, options),
        phys_bits: platform::physical_bits(),
        msrs: HostMsrs::read(is_amd, &mut |msr| rdmsr_safe(msr).unwrap_or(0)),
    };
    let host = Hw {
        space: memory.space,
        virt,
        invariant_tsc: platform::tsc_is_invariant(),
    };
    let vmm = VMM.call_once(|| {
        Vmm::new(Parts {
            host,
            machine,
            frames: memory.frames,
            virt,
            cpus: &CPUS,
            settings,
        })
    });
    if let Some(words) = options.get("trace") {
        vmm.trace.configure(words);
    }
    vmm
}

fn detect(options: CommandLine<'_>) -> &'static Platform {
    let mut virt = match Platform::detect(to_maddr, &speculation(options)) {
        Ok(virt) => virt,
        Err(error) => panic!("{error}"),
    };
    limit_apic(&mut virt, options);
    log::info!("{virt:?}");
    log::info!("speculation: {}", virt.spec);
    log::info!("CPU errata mended: {}", virt.spec.errata);
    for (name, text) in virt.spec.open.iter() {
        log::warn!("OPEN: {name}: {text}");
    }
    Box::leak(Box::new(virt))
}

/// Sets the handlers of interrupts, and starts the other CPUs. Returns how many run.
fn start_cpus(vmm: &Vmm<Hw>, acpi: &acpi::AcpiInfo, info: &BootInfo, cpus: usize) -> usize {
    irq::set_handler(vectors::TIMER, |_| {
        CPUS[cpu::cpu_id().index() % MAX_CPUS].timer_fired();
    });
    irq::set_device_handler(|vector| {
        if let Some(vmm) = VMM.get() {
            vmm.interrupt(vector);
        }
    });
    trap::set_state_hook(|cpu, out| {
        let _ = match CPUS[cpu.index() % MAX_CPUS].current() {
            Some(vcpu) => writeln!(out, "CPU{cpu} runs d{}v{}", vcpu.domain.id, vcpu.id),
            None => writeln!(out, "CPU{cpu} runs no domain"),
        };
    });
    let space = vmm.host.space;
    let count = smp::start_all(acpi, info, cpus, &mut |_| stacks(space), ap_main);
    if count < cpus {
        log::error!("{count} of {cpus} CPUs run");
    } else {
        log::info!("{count} CPUs");
    }
    if vmm.virt.quirks.injects_twice && count > 1 {
        log::info!(
            "QEMU emulates these CPUs: it must run with -accel tcg,thread=single, see SUPPORT.md"
        );
    }
    count
}

/// The boot CPU's own stacks, and its loop.
fn begin(space: &HostSpace) -> ! {
    match console::errors() {
        0 => {}
        errors => log::error!(
            "the machine is not whole: {errors} errors at start, see above (in dom0: xm dmesg)"
        ),
    }
    let Some(own) = stacks(space) else {
        panic!("no memory for the boot CPU's stack")
    };
    cpu::set_ist_stacks(own.ist);
    // SAFETY: the top of a fresh stack; nothing on the old one is used again.
    unsafe { cpu::switch_stack(own.main, boot_cpu_loop) }
}

fn boot_cpu_loop() -> ! {
    let Some(vmm) = VMM.get() else {
        unreachable!("set before dom0 was built")
    };
    GO.call_once(|| vmm);
    smp::online()
        .iter()
        .filter(|id| *id != cpu::cpu_id())
        .for_each(oxen_arch::ipi::kick);
    cpu_loop(vmm, enable_virt(vmm))
}

fn ap_main(_: CpuId) -> ! {
    let vmm = loop {
        match GO.get() {
            Some(vmm) => break *vmm,
            // The boot CPU's kick ends the halt.
            None => irq::idle(),
        }
    };
    cpu_loop(vmm, enable_virt(vmm))
}

fn enable_virt(vmm: &Vmm<Hw>) -> PhysCpu {
    match vmm.virt.enable_cpu(cpu::cpu_id()) {
        Ok(phys) => phys,
        Err(error) => panic!("CPU{}: {error}", cpu::cpu_id()),
    }
}

fn stacks(space: &HostSpace) -> Option<smp::Stacks> {
    let top = |pages| space.alloc_stack(pages).ok().map(|stack| stack.top);
    Some(smp::Stacks {
        main: top(STACK_PAGES)?,
        ist: IstStacks {
            nmi: top(IST_PAGES)?,
            double_fault: top(IST_PAGES)?,
            machine_check: top(IST_PAGES)?,
        },
    })
}

/// The machine address of heap memory, which lies in the direct map.
fn to_maddr(at: usize) -> Maddr {
    match layout::machine_address(Vaddr::new(at as u64)) {
        Some(at) => at,
        None => panic!("{at:#x} is not in the direct map"),
    }
}

/// Takes `apicv=` as Xen has it, and the value `no-posted`, which Xen does not have.
fn limit_apic(virt: &mut Platform, options: CommandLine<'_>) {
    match options.get("apicv") {
        Some("no-posted") => virt.limit_apic(ApicUse {
            assist: true,
            posted: false,
        }),
        _ if options.flag("apicv") == Some(false) => virt.limit_apic(ApicUse {
            assist: false,
            posted: false,
        }),
        Some("1" | "yes" | "on" | "true" | "enable") | None => {}
        Some(word) => log::warn!("apicv={word} is not understood"),
    }
    let ApicUse { assist, posted } = virt.apic_use();
    log::info!(
        "guests' local APICs: {}, {}",
        if assist {
            "virtualized by the CPU in x2APIC mode"
        } else {
            "emulated"
        },
        if posted {
            "with posted interrupts"
        } else {
            "without posted interrupts"
        }
    );
}

/// Whether guests may execute from large pages: `ept=[no-]exec-sp` as Xen has it, by default where
/// that is safe.
fn large_exec(virt: &Platform, options: CommandLine<'_>) -> bool {
    let mut allowed = !virt.page_size_is_fatal;
    for word in options.get("ept").unwrap_or("").split(',') {
        match word {
            "exec-sp" | "exec-sp=1" | "exec-sp=yes" | "exec-sp=on" | "exec-sp=true" => {
                allowed = true
            }
            "no-exec-sp" | "exec-sp=0" | "exec-sp=no" | "exec-sp=off" | "exec-sp=false" => {
                allowed = false
            }
            "" => {}
            _ => log::warn!("ept={word} is not understood"),
        }
    }
    if virt.page_size_is_fatal {
        let how = match allowed {
            true => "OPEN: guests may stop it (ept=exec-sp)",
            false => "guests' large pages are split when they are executed from",
        };
        log::info!("a change of a page's size can stop this CPU (XSA-304): {how}");
    }
    allowed
}

fn speculation(options: CommandLine<'_>) -> spec::Options {
    let text = options
        .get("spec-ctrl")
        .unwrap_or(match options.flag("spec-ctrl") {
            Some(false) => "no",
            _ => "",
        });
    spec::Options::parse(text, &mut |word| {
        log::warn!("spec-ctrl: {word} is not understood");
    })
}

fn name_unknown(options: CommandLine<'_>) {
    for name in options
        .names()
        .filter(|name| !OPTIONS.contains(name) && !oxen_arch::OPTIONS.contains(name))
    {
        log::warn!("unknown option on the command line: {name}");
    }
    // Xen's names for schedulers of this kind; there is one here.
    if let Some(name) = options
        .get("sched")
        .filter(|name| !name.starts_with("credit"))
    {
        log::warn!("sched={name}: no such scheduler, the usual one is used");
    }
}
