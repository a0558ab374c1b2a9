//! The machine's end: reset and power-off, by every way it may know.
#![allow(unsafe_code, reason = "port I/O and an empty IDT")]

use core::sync::atomic::{AtomicU8, Ordering};

use x86_64::VirtAddr;
use x86_64::instructions::interrupts::int3;
use x86_64::instructions::port::Port;
use x86_64::instructions::tables::{DescriptorTablePointer, lidt};

use crate::acpi::{self, Fadt, Register};
use crate::cpu::regs;
use crate::{mmio, time};

const SLP_EN: u16 = 1 << 13;
const SLP_TYP_SHIFT: u16 = 10;
const SLP_TYP: u16 = 7 << SLP_TYP_SHIFT;
const SCI_EN: u16 = 1;
const WAIT_NS: u64 = 100_000_000;

/// Ways to reset, in the order of trying.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Way {
    Acpi,
    Pci,
    Keyboard,
    TripleFault,
}

const WAYS: [Way; 4] = [Way::Acpi, Way::Pci, Way::Keyboard, Way::TripleFault];

/// Index into WAYS of the way to begin with, as `reboot=` names it.
static FIRST: AtomicU8 = AtomicU8::new(0);

/// Takes the value of `reboot=`: a[cpi], p[ci], k[bd] or t[riple]. Returns false for any other.
pub fn set_reboot_way(text: &str) -> bool {
    let way = match text.as_bytes().first() {
        Some(b'a') => Way::Acpi,
        Some(b'p') => Way::Pci,
        Some(b'k') => Way::Keyboard,
        Some(b't') => Way::TripleFault,
        _ => return false,
    };
    FIRST.store(way as u8, Ordering::Relaxed);
    true
}

/// Resets the machine.
pub fn reboot() -> ! {
    crate::console::flush();
    let first = usize::from(FIRST.load(Ordering::Relaxed));
    for way in WAYS.get(first..).unwrap_or(&[]).iter().chain(&WAYS) {
        // SAFETY: these registers reset the machine or do nothing.
        unsafe {
            match way {
                Way::Acpi => {
                    if let Some((register, value)) = fadt().and_then(|fadt| fadt.reset) {
                        write(register, value);
                    }
                }
                Way::Pci => {
                    Port::new(0xcf9).write(0x02u8); // prepare a full reset, then do it
                    time::busy_wait_ns(1_000_000);
                    Port::new(0xcf9).write(0x06u8);
                }
                Way::Keyboard => {
                    let _ready = (0..10_000).any(|_| Port::<u8>::new(0x64).read() & 2 == 0);
                    Port::new(0x64).write(0xfeu8); // pulse the reset line
                }
                Way::TripleFault => triple_fault(),
            }
        }
        time::busy_wait_ns(WAIT_NS);
    }
    regs::halt_forever()
}

/// Turns the machine off (ACPI S5). If it stays on, says so and halts.
pub fn power_off() -> ! {
    crate::console::flush();
    if let Some(fadt) = fadt()
        && let (Some((a, b)), Some(pm1a)) = (fadt.s5, fadt.pm1a_control)
    {
        // SAFETY: the PM1 control registers as the firmware's tables name them.
        unsafe {
            enable_acpi(fadt, pm1a);
            sleep(pm1a, a);
            if let Some(pm1b) = fadt.pm1b_control {
                sleep(pm1b, b);
            }
        }
        time::busy_wait_ns(WAIT_NS);
    }
    log::error!("the machine does not turn off; you may do so now");
    regs::halt_forever()
}

fn fadt() -> Option<&'static Fadt> {
    acpi::try_info()?.fadt.as_ref()
}

/// The sleep bits do nothing while the firmware owns the registers (ACPI 6.5, 4.8.2.5).
///
/// # Safety
/// The ports are those of the FADT.
unsafe fn enable_acpi(fadt: &Fadt, pm1a: u16) {
    let Some(port) = u16::try_from(fadt.smi_command)
        .ok()
        .filter(|port| *port != 0)
    else {
        return;
    };
    let mut control = Port::<u16>::new(pm1a);
    // SAFETY: the FADT's ports, as the caller vouches: the firmware hands the registers over.
    unsafe {
        if control.read() & SCI_EN != 0 || fadt.acpi_enable == 0 {
            return;
        }
        Port::new(port).write(fadt.acpi_enable);
        for _ in 0..100 {
            if control.read() & SCI_EN != 0 {
                return;
            }
            time::busy_wait_ns(1_000_000);
        }
    }
}

/// # Safety
/// `port` is a PM1 control register.
unsafe fn sleep(port: u16, sleep_type: u8) {
    let mut control = Port::<u16>::new(port);
    // SAFETY: a PM1 control register, as the caller vouches: the machine turns off or goes on.
    unsafe {
        let value = control.read() & !(SLP_TYP | SLP_EN) | u16::from(sleep_type) << SLP_TYP_SHIFT;
        control.write(value);
        control.write(value | SLP_EN);
    }
}

/// # Safety
/// A register that resets the machine.
unsafe fn write(register: Register, value: u8) {
    // SAFETY: the caller vouches that the write resets the machine and does nothing else.
    unsafe {
        match register {
            Register::Port(port) => Port::new(port).write(value),
            // May be unmapped by now: then nothing happens.
            Register::Memory(address) => mmio::write(address, 1, value.into()),
            Register::PciConfig(device, function, offset) => {
                let address = 0x8000_0000
                    | u32::from(device & 31) << 11
                    | u32::from(function & 7) << 8
                    | u32::from(offset & 0xfc);
                Port::new(0xcf8).write(address);
                Port::new(0xcfc + (offset & 3)).write(value);
            }
        }
    }
}

/// An exception without an IDT resets every PC.
fn triple_fault() -> ! {
    let empty = DescriptorTablePointer {
        limit: 0,
        base: VirtAddr::zero(),
    };
    // SAFETY: nothing runs after this.
    unsafe { lidt(&empty) };
    int3();
    regs::halt_forever()
}
