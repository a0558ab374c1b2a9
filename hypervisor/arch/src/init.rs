//! The base of the machine, set up on the boot CPU in the one order that works.

use alloc::string::String;

use crate::acpi::{self, AcpiInfo, FirmwareMemory};
use crate::boot::BootInfo;
use crate::cmdline::CommandLine;
use crate::console::{self, LogLevels, SerialConfig};
use crate::cpu::features::{self, features};
use crate::cpu::{self, Features};
use crate::trap::{PanicAction, set_panic_action};
use crate::{apic, ipi, irq, power, time, vectors};
use oxen_types::{MAX_CPUS, Maddr, Polarity, Trigger};

/// The options that this crate reads; the kernel adds its own before it names unknown ones.
pub const OPTIONS: &[&str] = &[
    "loglvl",
    "guest_loglvl",
    "com1",
    "console",
    "noreboot",
    "reboot",
    "clocksource",
    "smep",
    "smap",
    "umip",
    "xsave",
    "x2apic",
    "tsc_deadline",
];

/// Access to memory that is not RAM, once the final page tables are in use.
#[derive(Clone, Copy)]
pub struct Reach {
    /// Reads firmware's memory.
    pub firmware: FirmwareMemory,
    /// Maps a page of device registers into the direct map, uncached.
    pub device: fn(Maddr),
}

/// Sets up the console and the boot CPU's features, and logs them. On the entry code's page tables.
pub fn init_cpu(info: &BootInfo) {
    let cmdline = CommandLine::new(&info.cmdline);
    console::set_log_levels(LogLevels::from_cmdline(cmdline));
    if let Some(text) = cmdline.get("com1") {
        match SerialConfig::parse(text) {
            Some(config) => console::configure(config),
            None => log::warn!("com1={text} is not understood"),
        }
    }
    if let Some(other) = cmdline.get("console").filter(|value| *value != "com1") {
        log::warn!("console={other}: COM1 is the only console");
    }
    reboot_option(cmdline);
    print_boot_info(info);

    features::apply_options(cmdline);
    features::enable_on_this_cpu();
    print_features();
}

/// Sets up ACPI, interrupt controllers, clock and timer, and logs them. On the final page tables.
///
/// # Panics
/// Without ACPI: nothing else tells where the interrupt controllers are.
pub fn init(info: &BootInfo, reach: Reach) -> &'static AcpiInfo {
    let cmdline = CommandLine::new(&info.cmdline);
    let acpi = match acpi::init(info, reach.firmware) {
        Ok(acpi) => acpi,
        Err(error) => panic!("ACPI: {error:?}"),
    };
    print_acpi(acpi);
    acpi.device_pages().for_each(reach.device);

    apic::mask_8259();
    apic::init_boot_cpu(acpi.local_apic);
    apic::install_error_handler();
    apic::io::init(acpi);
    ipi::install_handlers();
    time::init(acpi, cmdline);
    time::calibrate_apic_timer();
    route_serial(acpi);
    acpi
}

/// `noreboot`, `reboot=no` and `reboot=WAY`.
fn reboot_option(cmdline: CommandLine<'_>) {
    let way = cmdline.get("reboot");
    if cmdline.flag("noreboot") == Some(true) || way.is_some_and(|way| way.starts_with('n')) {
        set_panic_action(PanicAction::Halt);
    } else if let Some(way) = way
        && !power::set_reboot_way(way)
    {
        log::warn!("reboot={way} is not understood");
    }
}

fn route_serial(acpi: &AcpiInfo) {
    let Some(isa_irq) = console::enable_input_interrupt() else {
        return;
    };
    let (gsi, level, low) = acpi.isa_to_gsi(isa_irq);
    let trigger = if level { Trigger::Level } else { Trigger::Edge };
    let polarity = if low { Polarity::Low } else { Polarity::High };
    irq::set_handler(vectors::UART, |_| console::poll_input());
    let routed = apic::io::route(gsi, vectors::UART, cpu::cpu_id(), trigger, polarity)
        .and_then(|()| apic::io::unmask(gsi));
    if let Err(error) = routed {
        log::warn!("console input is polled: interrupt {isa_irq}: {error:?}");
        console::poll_from_now_on();
    }
}

fn print_boot_info(info: &BootInfo) {
    log::info!("Oxen {}", env!("CARGO_PKG_VERSION"));
    log::info!("loader: {}", info.loader);
    log::info!("command line: {}", info.cmdline);
    for module in &info.modules {
        log::info!(
            "module {:#x}..{:#x}: {}",
            module.start.raw(),
            module.end.raw(),
            module.cmdline
        );
    }
    log::info!("memory map:");
    for range in &info.memory {
        log::info!("  {range}");
    }
}

fn print_features() {
    log::info!(
        "CPU: {:?}, {} address bits",
        features::vendor(),
        features::physical_bits()
    );
    let mut list = String::new();
    for (name, _) in features().iter_names() {
        list.extend([" ", name]);
    }
    log::info!("CPU features:{list}");
    if !features().intersects(Features::SVM | Features::VMX) {
        log::warn!("this CPU has neither SVM nor VMX");
    }
}

fn print_acpi(acpi: &AcpiInfo) {
    let mut list = String::new();
    for table in &acpi.tables {
        list.extend([" ", core::str::from_utf8(&table.signature).unwrap_or("?")]);
    }
    log::info!("ACPI revision {}:{list}", acpi.acpi_revision);
    log::info!(
        "ACPI: {} CPUs, {} IO-APICs, {} overrides, {} ECAM regions, HPET {}, PM timer {}",
        acpi.cpus.len(),
        acpi.io_apics.len(),
        acpi.overrides.len(),
        acpi.mcfg.len(),
        acpi.hpet.is_some(),
        acpi.pm_timer.is_some(),
    );
    if acpi.cpus.len() > MAX_CPUS {
        log::warn!("{} CPUs: only {MAX_CPUS} are used", acpi.cpus.len());
    }
    match acpi.fadt.as_ref().map(|fadt| fadt.s5) {
        Some(Some((a, b))) => log::debug!("ACPI: S5 sleep types {a}, {b}"),
        _ => log::warn!("ACPI: no _S5 found: the machine will not turn off by itself"),
    }
}
