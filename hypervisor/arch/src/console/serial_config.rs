//! The `com1=` option: `baud[/base_baud][,DPS[,io[,irq]]]`, as in Xen. `auto` keeps the default
//! rate, and an empty field keeps what it had.

use crate::cmdline::parse_number;

/// Settings of the serial port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SerialConfig {
    /// Bits a second.
    pub baud: u32,
    /// The UART's input clock is 16 times this.
    pub base_baud: u32,
    /// Data bits of a byte, 5 to 8.
    pub data_bits: u8,
    /// The parity bit.
    pub parity: Parity,
    /// Two stop bits instead of one.
    pub two_stop_bits: bool,
    /// First I/O port.
    pub io: u16,
    /// ISA interrupt; 0 to poll.
    pub irq: u8,
}

/// The parity bit of a byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parity {
    /// No parity bit.
    None,
    /// An odd number of ones.
    Odd,
    /// An even number of ones.
    Even,
    /// Always one.
    Mark,
    /// Always zero.
    Space,
}

impl SerialConfig {
    /// COM1 at 115200 baud, 8n1.
    pub const COM1: Self = Self {
        baud: 115_200,
        base_baud: 115_200,
        data_bits: 8,
        parity: Parity::None,
        two_stop_bits: false,
        io: 0x3f8,
        irq: 4,
    };

    /// The settings that `com1=` names; `None` if a field makes no sense.
    pub fn parse(text: &str) -> Option<Self> {
        let mut config = Self::COM1;
        let mut fields = text.split(',').map(str::trim);
        match fields.next()? {
            "" | "auto" => {}
            rate => {
                let (baud, base) = rate.split_once('/').unwrap_or((rate, ""));
                config.baud = u32::try_from(parse_number(baud)?).ok()?;
                if !base.is_empty() {
                    config.base_baud = u32::try_from(parse_number(base)?).ok()?;
                }
            }
        }
        if let Some(frame) = fields.next().filter(|f| !f.is_empty()) {
            config.frame(frame)?;
        }
        if let Some(io) = fields.next().filter(|f| !f.is_empty()) {
            config.io = u16::try_from(parse_number(io)?).ok()?;
        }
        if let Some(irq) = fields.next().filter(|f| !f.is_empty()) {
            config.irq = u8::try_from(parse_number(irq)?)
                .ok()
                .filter(|irq| *irq < 16)?;
        }
        let sane = config.baud != 0 && config.base_baud != 0 && config.io != 0;
        (sane && config.io <= 0xfff8).then_some(config)
    }

    /// Data bits, parity letter, stop bits: `8n1`.
    fn frame(&mut self, text: &str) -> Option<()> {
        let &[data, parity, stop] = text.as_bytes() else {
            return None;
        };
        self.data_bits = data
            .checked_sub(b'0')
            .filter(|bits| (5..=8).contains(bits))?;
        self.parity = match parity.to_ascii_lowercase() {
            b'n' => Parity::None,
            b'o' => Parity::Odd,
            b'e' => Parity::Even,
            b'm' => Parity::Mark,
            b's' => Parity::Space,
            _ => return None,
        };
        self.two_stop_bits = match stop {
            b'1' => false,
            b'2' => true,
            _ => return None,
        };
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_fields() {
        let config = SerialConfig::parse("9600/1843200,7e2,0x2f8,3").unwrap();
        assert_eq!((config.baud, config.base_baud), (9600, 1_843_200));
        assert_eq!((config.data_bits, config.parity), (7, Parity::Even));
        assert!(config.two_stop_bits);
        assert_eq!((config.io, config.irq), (0x2f8, 3));
    }

    #[test]
    fn defaults_and_gaps() {
        assert_eq!(SerialConfig::parse("115200"), Some(SerialConfig::COM1));
        assert_eq!(SerialConfig::parse("auto"), Some(SerialConfig::COM1));
        let polled = SerialConfig::parse("115200,8n1,,0").unwrap();
        assert_eq!((polled.io, polled.irq), (0x3f8, 0));
    }

    #[test]
    fn nonsense() {
        for text in [
            "x",
            "0",
            "115200,9n1",
            "115200,8x1",
            "115200,8n1,0x10000",
            "1,8n1,1,99",
        ] {
            assert_eq!(SerialConfig::parse(text), None, "{text}");
        }
    }
}
