//! An interrupt on its way to local APICs, whoever sent it: another LAPIC (ICR), an IO-APIC pin
//! (redirection entry) or a device (MSI address and data).
//!
//! Intel SDM vol. 3, "Advanced Programmable Interrupt Controller": ICR, MSI address and data
//! formats; 82093AA data sheet: redirection table.

/// The three delivery-mode bits, common to ICR, redirection entries and MSI data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    Fixed,
    LowestPriority,
    Smi,
    Nmi,
    Init,
    Startup,
    ExtInt,
}

impl Delivery {
    /// From the low three bits of `bits`; the one reserved code is `None`.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        Some(match bits & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::Startup,
            7 => Self::ExtInt,
            _ => return None,
        })
    }

    /// Whether the message carries a vector for the IRR.
    pub const fn has_vector(self) -> bool {
        matches!(self, Self::Fixed | Self::LowestPriority)
    }
}

/// Which local APICs a message is for, as it was written on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Destination {
    pub id: u32,
    /// Match against the logical id rather than the APIC id.
    pub logical: bool,
    /// The sender used the 32-bit destinations of x2APIC; else ids are 8 bits wide.
    pub wide: bool,
}

impl Destination {
    pub const fn narrow(id: u8, logical: bool) -> Self {
        Self {
            id: id as u32,
            logical,
            wide: false,
        }
    }

    pub const fn wide(id: u32, logical: bool) -> Self {
        Self {
            id,
            logical,
            wide: true,
        }
    }

    /// All ones in the sender's width addresses everyone.
    pub const fn is_broadcast(self) -> bool {
        self.id == if self.wide { u32::MAX } else { 0xff }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    pub dest: Destination,
    pub delivery: Delivery,
    pub vector: u8,
    pub level: bool,
}

/// The MSI window: bits 63:20 of a message address.
const MSI_BASE: u64 = 0xfee0_0000;
const MSI_BASE_MASK: u64 = !0xf_ffff;

impl Message {
    /// The message that a device causes when it writes `data` to `address`. `None`: outside of the
    /// interrupt window, or a reserved delivery mode.
    pub const fn from_msi(address: u64, data: u32) -> Option<Self> {
        if address & MSI_BASE_MASK != MSI_BASE {
            return None;
        }
        let Some(delivery) = Delivery::from_bits(data >> 8) else {
            return None;
        };
        Some(Self {
            dest: Destination::narrow((address >> 12) as u8, address & 1 << 2 != 0),
            delivery,
            vector: data as u8,
            level: data & 1 << 15 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msi_fields() {
        let msg = Message::from_msi(0xfee0_200c, 0x0000_4131).unwrap();
        assert_eq!(msg.dest, Destination::narrow(2, true));
        assert_eq!(msg.delivery, Delivery::LowestPriority);
        assert_eq!(msg.vector, 0x31);
        assert!(!msg.level);
        assert!(Message::from_msi(0xfee0_0000, 0x8041).unwrap().level);
    }

    #[test]
    fn msi_outside_the_window_or_reserved_is_refused() {
        assert_eq!(Message::from_msi(0, 0), None);
        assert_eq!(Message::from_msi(0x1_fee0_0000, 0x31), None);
        assert_eq!(Message::from_msi(0xfee0_0000, 0x331), None);
    }

    #[test]
    fn broadcast_depends_on_the_senders_width() {
        assert!(Destination::narrow(0xff, false).is_broadcast());
        assert!(!Destination::wide(0xff, false).is_broadcast());
        assert!(Destination::wide(u32::MAX, true).is_broadcast());
    }
}
