//! IO-APICs: the machine's interrupt lines (GSIs), each with a redirection entry.
//! Intel 82093AA, section 3.2. All entries are masked at start; physical destinations.
#![allow(unsafe_code, reason = "MMIO of the IO-APICs")]

pub use super::route::Route;
use super::route::{MASKED, encode};
use crate::acpi::AcpiInfo;
use crate::sync::Mutex;
use alloc::vec::Vec;
use oxen_types::layout;
use oxen_types::{CpuId, Maddr, Polarity, Trigger};

const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
const REG_VERSION: u32 = 0x01;
const REG_ENTRIES: u32 = 0x10;

/// A line cannot be routed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteError {
    /// No IO-APIC has this line.
    NoSuchGsi,
    /// The CPU's APIC id does not fit the entry's eight bits.
    Destination,
}

struct IoApic {
    mmio: u64,
    gsi_base: u32,
    pins: u32,
    version: u8,
}

static ALL: Mutex<Vec<IoApic>> = Mutex::new(Vec::new());

/// Takes over the IO-APICs that the MADT names, and masks every line.
pub fn init(acpi: &AcpiInfo) {
    let mut all = ALL.lock();
    for found in &acpi.io_apics {
        let Some(addr) = layout::direct_map(Maddr::new(found.address.raw())) else {
            continue;
        };
        let mut apic = IoApic {
            mmio: addr.raw(),
            gsi_base: found.gsi_base,
            pins: 0,
            version: 0,
        };
        let version = apic.read(REG_VERSION);
        apic.version = version as u8;
        apic.pins = (version >> 16 & 0xff) + 1;
        for pin in 0..apic.pins {
            apic.write_entry(pin, MASKED);
        }
        all.push(apic);
    }
}

/// Number of pins of the IO-APIC whose first line is `gsi_base`.
pub fn pins(gsi_base: u32) -> Option<u32> {
    ALL.lock()
        .iter()
        .find(|apic| apic.gsi_base == gsi_base)
        .map(|apic| apic.pins)
}

/// The implementation version of that IO-APIC (0x20 and up: it has an EOI register).
pub fn version(gsi_base: u32) -> Option<u8> {
    ALL.lock()
        .iter()
        .find(|apic| apic.gsi_base == gsi_base)
        .map(|apic| apic.version)
}

/// Routes a line to `vector` of `cpu`, and leaves the line masked.
///
/// # Errors
/// `NoSuchGsi` without such a line; `Destination` if the CPU's APIC id is above 255.
pub fn route(
    gsi: u32,
    vector: u8,
    cpu: CpuId,
    trigger: Trigger,
    polarity: Polarity,
) -> Result<(), RouteError> {
    let destination = super::icr_destination_of(cpu).ok_or(RouteError::Destination)?;
    let route = Route {
        vector,
        destination,
        trigger,
        polarity,
        masked: true,
    };
    on_line(gsi, |apic, pin| apic.write_entry(pin, encode(route)))
}

/// Masks a line.
///
/// # Errors
/// `NoSuchGsi` without such a line.
pub fn mask(gsi: u32) -> Result<(), RouteError> {
    on_line(gsi, |apic, pin| {
        apic.write_low(pin, apic.read_low(pin) | MASKED as u32)
    })
}

/// Unmasks a line.
///
/// # Errors
/// `NoSuchGsi` without such a line.
pub fn unmask(gsi: u32) -> Result<(), RouteError> {
    on_line(gsi, |apic, pin| {
        apic.write_low(pin, apic.read_low(pin) & !(MASKED as u32))
    })
}

fn on_line<T>(gsi: u32, act: impl FnOnce(&IoApic, u32) -> T) -> Result<T, RouteError> {
    let all = ALL.lock();
    all.iter()
        .find_map(|apic| {
            let pin = gsi
                .checked_sub(apic.gsi_base)
                .filter(|pin| *pin < apic.pins)?;
            Some((apic, pin))
        })
        .map(|(apic, pin)| act(apic, pin))
        .ok_or(RouteError::NoSuchGsi)
}

impl IoApic {
    fn read(&self, register: u32) -> u32 {
        // SAFETY: the registers are mapped in the direct map; the lock on ALL keeps the pair of
        // select and window together.
        unsafe {
            ((self.mmio + SELECT) as *mut u32).write_volatile(register);
            ((self.mmio + WINDOW) as *const u32).read_volatile()
        }
    }

    fn write(&self, register: u32, value: u32) {
        // SAFETY: the registers are mapped in the direct map; the lock on ALL keeps the pair of
        // select and window together.
        unsafe {
            ((self.mmio + SELECT) as *mut u32).write_volatile(register);
            ((self.mmio + WINDOW) as *mut u32).write_volatile(value);
        }
    }

    fn read_low(&self, pin: u32) -> u32 {
        self.read(REG_ENTRIES + 2 * pin)
    }

    fn write_low(&self, pin: u32, value: u32) {
        self.write(REG_ENTRIES + 2 * pin, value);
    }

    /// Writes an entry, which is masked while its halves disagree.
    fn write_entry(&self, pin: u32, entry: u64) {
        self.write_low(pin, self.read_low(pin) | MASKED as u32);
        self.write(REG_ENTRIES + 2 * pin + 1, (entry >> 32) as u32);
        self.write_low(pin, entry as u32);
    }
}
