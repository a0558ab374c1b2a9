//! The shared page of a guest's console (xen/io/console.h).
//!
//! The guest may write anything into the page at any time. The daemon keeps its own two indices,
//! and only writes them to the page. It reads the guest's two indices once each time; if they make
//! no sense, it serves the console no more.

use core::fmt;
use core::mem::offset_of;

use guest_pv_abi::console::XenconsInterface as Page;
use oxen_sys::mapping::barrier;
use oxen_sys::{Errno, SharedMemory};

const IN: usize = offset_of!(Page, input);
const IN_SIZE: u32 = 1024;
const OUT: usize = offset_of!(Page, output);
const OUT_SIZE: u32 = 2048;
const IN_CONS: usize = offset_of!(Page, in_cons);
const IN_PROD: usize = offset_of!(Page, in_prod);
const OUT_CONS: usize = offset_of!(Page, out_cons);
const OUT_PROD: usize = offset_of!(Page, out_prod);

/// A violation of the ring protocol by the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Memory(Errno),
    Index,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(error) => write!(f, "its page cannot be accessed: {error}"),
            Self::Index => f.write_str("an index makes no sense"),
        }
    }
}

impl From<Errno> for Fault {
    fn from(error: Errno) -> Self {
        Self::Memory(error)
    }
}

/// The daemon's two indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ring {
    out_cons: u32,
    in_prod: u32,
}

impl Ring {
    /// Continues at the daemon's indices in the page: another daemon may have served it before.
    pub(crate) fn open(page: &SharedMemory) -> Result<Self, Fault> {
        Ok(Self {
            out_cons: page.load(OUT_CONS)?,
            in_prod: page.load(IN_PROD)?,
        })
    }

    /// The output in the ring, without taking it.
    pub(crate) fn peek(&self, page: &SharedMemory) -> Result<Vec<u8>, Fault> {
        let len = page.load(OUT_PROD)?.wrapping_sub(self.out_cons);
        if len > OUT_SIZE {
            return Err(Fault::Index);
        }
        let mut bytes = vec![0; len as usize];
        let start = (self.out_cons % OUT_SIZE) as usize;
        let first = bytes.len().min(OUT_SIZE as usize - start);
        let (head, tail) = bytes.split_at_mut(first);
        page.read(OUT + start, head)?;
        page.read(OUT, tail)?;
        Ok(bytes)
    }

    /// Takes the first `len` bytes of the output that was peeked at. True if more came meanwhile,
    /// which a guest need not notify.
    pub(crate) fn take(&mut self, page: &SharedMemory, len: usize) -> Result<bool, Fault> {
        // Never more than the ring's size.
        self.out_cons = self.out_cons.wrapping_add(len as u32);
        page.store(OUT_CONS, self.out_cons)?;
        barrier();
        Ok(page.load(OUT_PROD)? != self.out_cons)
    }

    /// Writes as much input as there is room for. Returns how much.
    pub(crate) fn put(&mut self, page: &SharedMemory, bytes: &[u8]) -> Result<usize, Fault> {
        let used = self.in_prod.wrapping_sub(page.load(IN_CONS)?);
        let room = IN_SIZE.checked_sub(used).ok_or(Fault::Index)?;
        let len = bytes.len().min(room as usize);
        let start = (self.in_prod % IN_SIZE) as usize;
        let first = len.min(IN_SIZE as usize - start);
        page.write(IN + start, &bytes[..first])?;
        page.write(IN, &bytes[first..len])?;
        self.in_prod = self.in_prod.wrapping_add(len as u32);
        page.store(IN_PROD, self.in_prod)?;
        barrier();
        Ok(len)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The guest's side.
    pub(crate) fn guest_prints(page: &SharedMemory, text: &[u8]) {
        let prod = page.load(OUT_PROD).unwrap();
        for (i, byte) in text.iter().enumerate() {
            page.write(OUT + ((prod as usize + i) % OUT_SIZE as usize), &[*byte])
                .unwrap();
        }
        page.store(OUT_PROD, prod.wrapping_add(text.len() as u32))
            .unwrap();
    }

    pub(crate) fn guest_reads(page: &SharedMemory) -> Vec<u8> {
        let (mut cons, prod) = (page.load(IN_CONS).unwrap(), page.load(IN_PROD).unwrap());
        let mut text = Vec::new();
        while cons != prod {
            text.push(page.get::<u8>(IN + (cons % IN_SIZE) as usize).unwrap());
            cons = cons.wrapping_add(1);
        }
        page.store(IN_CONS, cons).unwrap();
        text
    }

    pub(crate) fn guest_is_hostile(page: &SharedMemory) {
        page.store(OUT_PROD, 0x8000_0000).unwrap();
    }

    fn page() -> SharedMemory {
        SharedMemory::anonymous(4096).unwrap()
    }

    #[test]
    fn both_ways_around_the_end() {
        let page = page();
        for index in [IN_CONS, IN_PROD, OUT_CONS, OUT_PROD] {
            page.store(index, u32::MAX - 2).unwrap();
        }
        let mut ring = Ring::open(&page).unwrap();
        guest_prints(&page, b"hello");
        assert_eq!(ring.peek(&page).unwrap(), b"hello");
        assert!(ring.take(&page, 2).unwrap());
        assert_eq!(ring.peek(&page).unwrap(), b"llo");
        // Another daemon goes on from there.
        assert_eq!(Ring::open(&page).unwrap(), ring);
        assert_eq!(ring.put(&page, b"input").unwrap(), 5);
        assert_eq!(guest_reads(&page), b"input");
    }

    #[test]
    fn input_waits_for_room() {
        let page = page();
        let mut ring = Ring::open(&page).unwrap();
        assert_eq!(ring.put(&page, &[b'x'; 2000]).unwrap(), 1024);
        assert_eq!(ring.put(&page, b"y").unwrap(), 0);
        assert_eq!(guest_reads(&page).len(), 1024);
        assert_eq!(ring.put(&page, b"y").unwrap(), 1);
    }

    #[test]
    fn senseless_indices_are_faults() {
        let page = page();
        let mut ring = Ring::open(&page).unwrap();
        for bad in [2049, u32::MAX, 1 << 31] {
            page.store(OUT_PROD, bad).unwrap();
            assert_eq!(ring.peek(&page), Err(Fault::Index), "{bad}");
        }
        for bad in [1, 1 << 31, u32::MAX - 1024] {
            page.store(IN_CONS, bad).unwrap();
            assert_eq!(ring.put(&page, b"x"), Err(Fault::Index), "{bad}");
        }
    }
}
