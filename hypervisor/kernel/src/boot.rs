//! Start-up: machine, memory, CPUs, dom0, and then each CPU's loop.
#![allow(unsafe_code)] // the entry symbol, and the change of stacks

use alloc::boxed::Box;

use oxen_arch::boot::BootInfo;
use oxen_arch::cmdline::CommandLine;
use oxen_arch::cpu::{self, IstStacks};
use oxen_arch::{Reach, console, irq, layout, smp, trap, vectors};
use oxen_core::machine::Machine;
use oxen_core::seams::FrameSource;
use oxen_mm::HostSpace;
use oxen_types::{CpuId, MAX_CPUS, Maddr, Vaddr};
use oxen_virt::{PhysCpu, Platform, spec};
use spin::Once;

use oxen_vmm::globals::{self, Globals};
use oxen_vmm::{dom0, percpu, run, trace};

use crate::{console as input, memory, platform};

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
static GO: Once<&'static Machine> = Once::new();
static BOOT: Once<&'static BootInfo> = Once::new();

fn start(info: &'static BootInfo) -> ! {
    oxen_arch::init_cpu(info);
    let options = CommandLine::new(&info.cmdline);
    name_unknown(options);
    if let Some(words) = options.get("trace") {
        trace::configure(words);
    }
    let mut memory = memory::init(info);
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
        .max(1);
    let cpus = acpi.cpus.len().min(limit);
    let kernel = match dom0::unpack(&memory.modules) {
        Ok(kernel) => kernel,
        Err(error) => panic!("dom0 cannot be built: {error}"),
    };
    let dom0_frames = dom0::reserve(memory.frames, info, options, cpus);
    memory.free_low();
    log::info!(
        "memory: {} frames for dom0, {:?}",
        dom0_frames,
        memory.frames.stats()
    );
    BOOT.call_once(|| info);

    let virt = match Platform::detect(to_maddr, &speculation(options)) {
        Ok(mut virt) => {
            limit_apic(&mut virt, options);
            Box::leak(Box::new(virt))
        }
        Err(error) => panic!("{error}"),
    };
    log::info!("{virt:?}");
    log::info!("speculation: {}", virt.spec);
    log::info!("CPU errata mended: {}", virt.spec.errata);
    for (name, text) in virt.spec.open.iter() {
        log::warn!("OPEN: {name}: {text}");
    }
    let platform: &'static platform::Machine = Box::leak(Box::new(platform::Machine {
        command_line: info.cmdline.as_str(),
    }));
    let machine: &'static Machine = Box::leak(Box::new(Machine::new(
        platform,
        memory.frames,
        platform,
        cpus,
    )));
    let is_amd = matches!(
        cpu::features::vendor(),
        cpu::Vendor::Amd | cpu::Vendor::Hygon
    );
    let phys_bits = platform::physical_bits();
    globals::set(Globals {
        machine,
        frames: memory.frames,
        virt,
        space: memory.space,
        is_amd,
        large_exec: large_exec(virt, options),
        uart_gsi: input::gsi(),
        phys_bits,
    });

    irq::set_handler(vectors::TIMER, |_| percpu::this().timer_fired());
    console::set_output_hook(|| {});
    trap::set_state_hook(|cpu, out| {
        let _ = match percpu::current(cpu) {
            Some(vcpu) => writeln!(out, "CPU{cpu} runs d{}v{}", vcpu.domain.id, vcpu.id),
            None => writeln!(out, "CPU{cpu} runs no domain"),
        };
    });
    let space = memory.space;
    let count = smp::start_all(acpi, info, cpus, &mut |_| stacks(space), ap_main);
    if count < cpus {
        log::error!("{count} of {cpus} CPUs run");
    } else {
        log::info!("{count} CPUs");
    }
    if virt.quirks.injects_twice && count > 1 {
        log::info!(
            "QEMU emulates these CPUs: it must run with -accel tcg,thread=single, see SUPPORT.md"
        );
    }

    let vcpus = options
        .get("dom0_max_vcpus")
        .and_then(|n| n.parse().ok())
        .unwrap_or(count as u32)
        .clamp(1, 128);
    let cmdline = info
        .modules
        .first()
        .map_or("", |module| module.cmdline.as_str());
    let built = dom0::build(&kernel, &memory.modules, cmdline, vcpus, info);
    if let Err(error) = built {
        panic!("dom0 cannot be built: {error}");
    }
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
    let machine = GO.call_once(|| globals::get().machine);
    smp::online()
        .iter()
        .filter(|id| *id != cpu::cpu_id())
        .for_each(oxen_arch::ipi::kick);
    run::cpu_loop(machine, enable_virt(), input::work)
}

fn ap_main(_: CpuId) -> ! {
    let machine = loop {
        match GO.get() {
            Some(machine) => break *machine,
            // The boot CPU's kick ends the halt.
            None => irq::idle(),
        }
    };
    run::cpu_loop(machine, enable_virt(), input::work)
}

fn enable_virt() -> PhysCpu {
    match globals::get().virt.enable_cpu(cpu::cpu_id()) {
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

/// Heap memory lies in the direct map.
fn to_maddr(at: usize) -> Maddr {
    match layout::machine_address(Vaddr::new(at as u64)) {
        Some(at) => at,
        None => panic!("{at:#x} is not in the direct map"),
    }
}

/// `apicv=`, which is Xen's; `no-posted` is ours.
fn limit_apic(virt: &mut Platform, options: CommandLine<'_>) {
    match options.get("apicv") {
        Some("no-posted") => virt.limit_apic(true, false),
        _ if options.flag("apicv") == Some(false) => virt.limit_apic(false, false),
        Some("1" | "yes" | "on" | "true" | "enable") | None => {}
        Some(word) => log::warn!("apicv={word} is not understood"),
    }
    let (apic, posted) = virt.apic_use();
    log::info!(
        "guests' local APICs: {}, {}",
        if apic {
            "in the hardware's hands in x2APIC mode"
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

/// `ept=[no-]exec-sp`, as Xen's: may guests execute from large pages? By default where that is safe.
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
    // By Xen's names for schedulers of this kind: there is one.
    if let Some(name) = options
        .get("sched")
        .filter(|name| !name.starts_with("credit"))
    {
        log::warn!("sched={name}: no such scheduler, the usual one is used");
    }
}
