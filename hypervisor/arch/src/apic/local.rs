//! The local APIC: xAPIC by MMIO, or x2APIC by MSRs where the CPU has it. Both have the same
//! registers; x2APIC's MSR number is 0x800 + the MMIO offset / 16. Physical destinations only.
//! Intel SDM 3, chapter 11; AMD APM 2, chapter 16.
#![allow(unsafe_code, reason = "MMIO and MSRs of the APIC")]

use super::setup::{self, ERROR_STATUS, LVT_MASKED, LVT_TIMER};
use crate::cpu::{self, Features, features, msr};
use crate::{acpi, time, vectors};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use oxen_types::layout;
use oxen_types::{CpuId, Maddr};

const IA32_APIC_BASE: u32 = 0x1b;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLE: u64 = 1 << 11;
const IA32_TSC_DEADLINE: u32 = 0x6e0;

const ID: u32 = 0x20;
const EOI: u32 = 0xb0;
const ISR: u32 = 0x100;
const ICR_LOW: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;
const TIMER_INITIAL: u32 = 0x380;
const TIMER_CURRENT: u32 = 0x390;
const TIMER_DIVIDE: u32 = 0x3e0;
const VERSION: u32 = 0x30;

const LVT_NMI: u32 = 4 << 8;
const LVT_TIMER_DEADLINE: u32 = 2 << 17;
const ICR_PENDING: u32 = 1 << 12;
const ICR_ASSERT: u32 = 1 << 14;
const ICR_ALL_BUT_SELF: u32 = 3 << 18;
/// Divide by 16.
const DIVIDE_16: u32 = 3;

/// Polls of the delivery status before an IPI is sent anyway.
const SEND_POLLS: u32 = 1_000_000;

static X2APIC: AtomicBool = AtomicBool::new(false);
static DEADLINE: AtomicBool = AtomicBool::new(false);
/// Linear address of the registers; 0 before `init_boot_cpu`.
static MMIO: AtomicU64 = AtomicU64::new(0);
/// Of the timer at divide 16.
static TICKS_PER_MS: AtomicU64 = AtomicU64::new(0);

/// The delivery mode of an IPI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// An interrupt with this vector.
    Fixed(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// A reset of the CPU, which then waits for a start-up IPI.
    Init,
    /// A start at this page below 1 MiB.
    Startup(u8),
}

impl Delivery {
    fn bits(self) -> u32 {
        ICR_ASSERT
            | match self {
                Self::Fixed(vector) => u32::from(vector),
                Self::Nmi => 4 << 8,
                Self::Init => 5 << 8,
                Self::Startup(page) => 6 << 8 | u32::from(page),
            }
    }
}

/// Whether the local APICs are in x2APIC mode.
pub fn is_x2apic() -> bool {
    X2APIC.load(Ordering::Relaxed)
}

/// Whether the timers take a TSC deadline, rather than count down.
pub fn timer_is_deadline() -> bool {
    DEADLINE.load(Ordering::Relaxed)
}

/// Decides between xAPIC and x2APIC, and sets up the boot CPU's. `base` is the MADT's address.
pub fn init_boot_cpu(base: Maddr) {
    // SAFETY: every CPU with long mode has this register.
    let current = unsafe { msr::rdmsr(IA32_APIC_BASE) };
    let x2apic = features().contains(Features::X2APIC) || current & BASE_X2APIC != 0;
    X2APIC.store(x2apic, Ordering::Relaxed);
    DEADLINE.store(
        features().contains(Features::TSC_DEADLINE),
        Ordering::Relaxed,
    );
    let mmio = layout::direct_map(base).map_or(0, |addr| addr.raw());
    MMIO.store(mmio, Ordering::Relaxed);
    init_this_cpu();
}

/// Sets up this CPU's local APIC: enabled, all local sources masked but NMI, nothing in service.
pub fn init_this_cpu() {
    // SAFETY: enabling keeps the base; x2APIC only where supported, and a CPU that is in that mode
    // already stays in it.
    unsafe {
        let base = msr::rdmsr(IA32_APIC_BASE) | BASE_ENABLE;
        msr::wrmsr(IA32_APIC_BASE, base);
        if is_x2apic() {
            msr::wrmsr(IA32_APIC_BASE, base | BASE_X2APIC);
        }
    }
    let id = if is_x2apic() {
        read(ID)
    } else {
        read(ID) >> 24
    };
    cpu::set_apic_id(cpu::cpu_id(), id);
    let last_lvt = read(VERSION) >> 16 & 0xff;
    for (register, value) in setup::sequence(nmi_inputs(id), last_lvt) {
        write(register, value);
    }
    // An interrupt that the firmware left in service would block everything below it.
    for _ in 0..256 {
        if (0..8).all(|word| read(ISR + word * 0x10) == 0) {
            break;
        }
        eoi();
    }
    let mode = if timer_is_deadline() {
        LVT_TIMER_DEADLINE
    } else {
        0
    };
    write(TIMER_DIVIDE, DIVIDE_16);
    write(LVT_TIMER, mode | u32::from(vectors::TIMER));
    // The mode must arrive before the first deadline is written (Intel SDM 3, 11.5.4.1).
    fence(Ordering::SeqCst);
}

/// The entries of LINT0 and LINT1: NMI where the MADT says so, else masked (LINT0 is the 8259's).
fn nmi_inputs(apic_id: u32) -> [u32; 2] {
    let mut inputs = [LVT_MASKED; 2];
    let Some(acpi) = acpi::try_info() else {
        return inputs;
    };
    let uid = acpi
        .cpus
        .iter()
        .find(|cpu| cpu.apic_id == apic_id)
        .map(|cpu| cpu.uid);
    for nmi in acpi
        .local_nmis
        .iter()
        .filter(|nmi| nmi.uid.is_none() || nmi.uid == uid)
    {
        if let Some(input) = inputs.get_mut(usize::from(nmi.lint)) {
            *input = LVT_NMI;
        }
    }
    inputs
}

/// Ends the interrupt in service.
pub fn eoi() {
    write(EOI, 0);
}

/// Reads and clears the error register; for the handler of `vectors::APIC_ERROR`.
pub(crate) fn take_errors() -> u32 {
    write(ERROR_STATUS, 0);
    read(ERROR_STATUS)
}

/// Sends an IPI to one CPU that is up.
pub fn send(cpu: CpuId, delivery: Delivery) {
    if let Some(id) = cpu::apic_id_of(cpu) {
        send_raw(id, delivery);
    }
}

/// Sends an IPI to the APIC with this id, whether or not a CPU that is up has it.
pub(crate) fn send_raw(apic_id: u32, delivery: Delivery) {
    write_icr(apic_id, delivery.bits());
}

/// The value for the destination field of an MSI or an IO-APIC entry (8 bits without interrupt
/// remapping).
pub fn icr_destination_of(cpu: CpuId) -> Option<u8> {
    cpu::apic_id_of(cpu).and_then(|id| u8::try_from(id).ok())
}

/// Sends an NMI to all other CPUs: only for the end.
pub fn stop_other_cpus() {
    if MMIO.load(Ordering::Relaxed) != 0 || is_x2apic() {
        write_icr(0, Delivery::Nmi.bits() | ICR_ALL_BUT_SELF);
    }
}

fn write_icr(destination: u32, low: u32) {
    if is_x2apic() {
        // The MSR write does not order earlier stores, which the receiver wants to see.
        fence(Ordering::SeqCst);
        // SAFETY: an IPI; x2APIC mode is on.
        unsafe {
            core::arch::asm!("lfence", options(nostack));
            msr::wrmsr(
                0x800 + (ICR_LOW >> 4),
                u64::from(destination) << 32 | u64::from(low),
            );
        }
    } else {
        for _ in 0..SEND_POLLS {
            if read(ICR_LOW) & ICR_PENDING == 0 {
                break;
            }
            core::hint::spin_loop();
        }
        write(ICR_HIGH, destination << 24);
        write(ICR_LOW, low);
    }
}

/// Makes `vectors::TIMER` arrive on this CPU at `deadline_ns` (`time::now_ns`), at once if that is
/// past.
pub fn arm_timer(deadline_ns: u64) {
    if timer_is_deadline() {
        let tsc = time::tsc_at(deadline_ns).max(1);
        // SAFETY: the CPU has the register, and the LVT is in this mode.
        unsafe { msr::wrmsr(IA32_TSC_DEADLINE, tsc) };
    } else {
        let wait = deadline_ns.saturating_sub(time::now_ns());
        let ticks = wait.saturating_mul(TICKS_PER_MS.load(Ordering::Relaxed)) / 1_000_000;
        // A wait too long for the counter ends early, and its handler looks at the clock again.
        write(
            TIMER_INITIAL,
            u32::try_from(ticks).unwrap_or(u32::MAX).max(1),
        );
    }
}

/// Lets this CPU's timer not fire.
pub fn disarm_timer() {
    if timer_is_deadline() {
        // SAFETY: the CPU has the register, and the LVT is in this mode; 0 disarms.
        unsafe { msr::wrmsr(IA32_TSC_DEADLINE, 0) };
    } else {
        write(TIMER_INITIAL, 0);
    }
}

/// Starts the masked counter from its maximum, or returns how far it has counted: for calibration.
pub(crate) fn timer_count(start: bool) -> u32 {
    if start {
        write(LVT_TIMER, LVT_MASKED | u32::from(vectors::TIMER));
        write(TIMER_INITIAL, u32::MAX);
        return 0;
    }
    u32::MAX - read(TIMER_CURRENT)
}

pub(crate) fn set_timer_ticks_per_ms(ticks: u64) {
    TICKS_PER_MS.store(ticks.max(1), Ordering::Relaxed);
    write(TIMER_INITIAL, 0);
    let mode = if timer_is_deadline() {
        LVT_TIMER_DEADLINE
    } else {
        0
    };
    write(LVT_TIMER, mode | u32::from(vectors::TIMER));
    fence(Ordering::SeqCst);
}

fn read(register: u32) -> u32 {
    if is_x2apic() {
        // SAFETY: an APIC register in x2APIC mode.
        unsafe { msr::rdmsr(0x800 + (register >> 4)) as u32 }
    } else {
        // SAFETY: the APIC's page is mapped in the direct map, and a device's register there.
        unsafe { mmio(register).read_volatile() }
    }
}

fn write(register: u32, value: u32) {
    if is_x2apic() {
        // SAFETY: an APIC register in x2APIC mode; its effect stays within the APIC.
        unsafe { msr::wrmsr(0x800 + (register >> 4), value.into()) }
    } else {
        // SAFETY: the APIC's page is mapped in the direct map, and a device's register there.
        unsafe { mmio(register).write_volatile(value) }
    }
}

fn mmio(register: u32) -> *mut u32 {
    (MMIO.load(Ordering::Relaxed) + u64::from(register)) as *mut u32
}

/// Registers the handler that logs errors of the local APIC.
pub(crate) fn install_error_handler() {
    crate::irq::set_handler(vectors::APIC_ERROR, |_| {
        log::warn!(
            "CPU{}: local APIC error {:#x}",
            cpu::cpu_id(),
            take_errors()
        );
    });
}
