//! The kernel's services for virtual PCI: the real configuration space, device memory, the identity
//! map of the hardware domain, and host vectors for message-signalled interrupts.

use core::fmt;

use oxen_types::Mfn;

use crate::dev::message::Message;

/// A PCI function: segment, bus, device, function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sbdf {
    pub segment: u16,
    pub bdf: u16,
}

impl Sbdf {
    /// Only the low five bits of `device` and three of `function` count.
    pub const fn new(segment: u16, bus: u8, device: u8, function: u8) -> Self {
        let devfn = (device as u16 & 0x1f) << 3 | function as u16 & 7;
        Self {
            segment,
            bdf: (bus as u16) << 8 | devfn,
        }
    }
    pub const fn bus(self) -> u8 {
        (self.bdf >> 8) as u8
    }
    pub const fn device(self) -> u8 {
        (self.bdf >> 3) as u8 & 0x1f
    }
    pub const fn function(self) -> u8 {
        self.bdf as u8 & 7
    }
    /// The function of the same device that says whether there are others.
    pub const fn function_0(self) -> Self {
        Self {
            segment: self.segment,
            bdf: self.bdf & !7,
        }
    }
}

impl fmt::Debug for Sbdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.{}",
            self.segment,
            self.bus(),
            self.device(),
            self.function()
        )
    }
}

/// The machine's PCI and the hardware domain's map of it.
pub trait PciHost {
    /// `size` is 1, 2 or 4, `reg` a multiple of it below 4096. What does not exist, and what lies
    /// above 256 without an ECAM window, reads as all ones.
    fn config_read(&mut self, sbdf: Sbdf, reg: u16, size: u8) -> u32;
    fn config_write(&mut self, sbdf: Sbdf, reg: u16, size: u8, value: u32);

    /// Device memory, uncached; `size` is 1, 2, 4 or 8 and `addr` a multiple of it. Only addresses
    /// in pages of MSI-X structures occur.
    fn mmio_read(&mut self, addr: u64, size: u8) -> u64;
    fn mmio_write(&mut self, addr: u64, size: u8, value: u64);

    /// Maps frames at the same guest frame numbers, uncached. False: refused (RAM, our own memory,
    /// beyond the address space); nothing is mapped then. Mapping what is mapped is no error.
    fn map_identity(&mut self, first: Mfn, count: u64) -> bool;
    /// Unmaps frames that may or may not be mapped; only identity mappings go.
    fn unmap_identity(&mut self, first: Mfn, count: u64);
}

/// Names host vectors that [`MsiHost::alloc`] gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsiHandle(pub u32);

/// Host vectors, and the message that makes a device raise the first of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostMsi {
    pub handle: MsiHandle,
    pub address: u64,
    /// For `count` vectors its low log2(count) bits are zero: the device sets them.
    pub data: u32,
}

/// Host vectors for devices: devices are only ever programmed with these.
pub trait MsiHost {
    /// The most vectors that one MSI function may have: a power of two up to 32.
    fn max_multiple(&self) -> u8 {
        1
    }
    /// `count` is a power of two up to [`MsiHost::max_multiple`]. The vectors start unbound.
    fn alloc(&mut self, sbdf: Sbdf, count: u8) -> Option<HostMsi>;
    /// From now on, the `index`th vector means `target` for the domain. `None`: drop it.
    fn bind(&mut self, handle: MsiHandle, index: u8, target: Option<Message>);
    fn free(&mut self, handle: MsiHandle);
}

/// Both together, as all of virtual PCI needs it.
pub trait Host: PciHost + MsiHost {}
impl<T: PciHost + MsiHost> Host for T {}
