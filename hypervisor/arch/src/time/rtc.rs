//! The CMOS clock (MC146818), read once at boot. The ports go to dom0 afterwards.
#![allow(unsafe_code, reason = "port I/O")]

use x86_64::instructions::port::Port;

use super::rtc_date::{Date, from_bcd};

const SECONDS: u8 = 0;
const MINUTES: u8 = 2;
const HOURS: u8 = 4;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const STATUS_A: u8 = 10;
const STATUS_B: u8 = 11;
const UPDATE_IN_PROGRESS: u8 = 0x80;
const BINARY: u8 = 4;
const HOURS_24: u8 = 2;
const PM: u8 = 0x80;

/// Seconds since 1970, or `None` if the clock is missing or wrong. `century` is the FADT's
/// register.
pub(super) fn read_epoch(century: u8) -> Option<u64> {
    // The registers change once a second: two equal readings were not torn.
    let mut last = read(century);
    for _ in 0..10 {
        let next = read(century);
        if next == last {
            return next?.to_epoch();
        }
        last = next;
    }
    None
}

fn read(century: u8) -> Option<Date> {
    (0..100_000).find(|_| register(STATUS_A) & UPDATE_IN_PROGRESS == 0)?;
    let status = register(STATUS_B);
    let number = |value: u8| {
        if status & BINARY != 0 {
            value.into()
        } else {
            from_bcd(value)
        }
    };
    let hours = register(HOURS);
    let hour = match (status & HOURS_24 != 0, hours & PM != 0) {
        (true, _) => number(hours),
        (false, afternoon) => number(hours & !PM) % 12 + if afternoon { 12 } else { 0 },
    };
    let year = number(register(YEAR));
    let hundreds = if century == 0 {
        0
    } else {
        number(register(century))
    };
    let year = match hundreds {
        19..=99 => hundreds * 100 + year,
        _ if year < 70 => 2000 + year,
        _ => 1900 + year,
    };
    Some(Date {
        year,
        month: number(register(MONTH)),
        day: number(register(DAY)),
        hour,
        minute: number(register(MINUTES)),
        second: number(register(SECONDS)),
    })
}

fn register(index: u8) -> u8 {
    // SAFETY: index and data port of the CMOS; bit 7 clear leaves NMI enabled.
    unsafe {
        Port::new(0x70).write(index & 0x7f);
        Port::new(0x71).read()
    }
}
