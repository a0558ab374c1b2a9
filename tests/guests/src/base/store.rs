//! A client of the store, one request at a time (xen/io/xs_wire.h), by the page and the port that
//! the hypervisor's parameters name.

use core::sync::atomic::{Ordering, fence};

use bytemuck::Zeroable;
use guest_pv_abi as abi;

use super::{clock, hypercall};

const RING: u32 = abi::XENSTORE_RING_SIZE;

pub struct Store {
    ring: *mut abi::XenstoreDomainInterface,
    port: u32,
}

/// An answer's bytes.
pub struct Answer {
    bytes: [u8; 512],
    len: usize,
}

impl Answer {
    pub fn text(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("?")
    }
}

impl Store {
    pub fn open() -> Self {
        Self {
            ring: (hypercall::hvm_param(abi::HVM_PARAM_STORE_PFN) << 12) as *mut _,
            port: hypercall::hvm_param(abi::HVM_PARAM_STORE_EVTCHN) as u32,
        }
    }

    /// A node's value; None if it is not there or may not be read.
    pub fn read(&mut self, path: &str) -> Option<Answer> {
        self.call(abi::XS_READ, &[path.as_bytes(), b"\0"])
    }

    pub fn write(&mut self, path: &str, value: &str) -> bool {
        let parts = [path.as_bytes(), b"\0", value.as_bytes()];
        self.call(abi::XS_WRITE, &parts).is_some()
    }

    fn call(&mut self, kind: u32, parts: &[&[u8]]) -> Option<Answer> {
        let mut header = abi::XsdSockmsg::zeroed();
        header.kind = kind;
        header.len = parts.iter().map(|part| part.len() as u32).sum();
        bytemuck::bytes_of(&header)
            .iter()
            .for_each(|byte| self.put(*byte));
        let all = parts.iter().flat_map(|part| part.iter());
        all.for_each(|byte| self.put(*byte));
        hypercall::send(self.port);
        let mut header = abi::XsdSockmsg::zeroed();
        for byte in bytemuck::bytes_of_mut(&mut header) {
            *byte = self.get();
        }
        let mut answer = Answer {
            bytes: [0; 512],
            len: header.len as usize,
        };
        for at in 0..answer.len {
            let byte = self.get();
            if let Some(place) = answer.bytes.get_mut(at) {
                *place = byte;
            }
        }
        hypercall::send(self.port);
        answer.len = answer.len.min(answer.bytes.len());
        (header.kind == kind).then_some(answer)
    }

    fn put(&mut self, byte: u8) {
        // SAFETY: the store's page is mapped; indices are read whole, and masked.
        unsafe {
            let ring = self.ring;
            let prod = (&raw const (*ring).req_prod).read_volatile();
            while prod.wrapping_sub((&raw const (*ring).req_cons).read_volatile()) >= RING {
                self.wait();
            }
            (&raw mut (*ring).req[(prod % RING) as usize]).write_volatile(byte);
            fence(Ordering::SeqCst);
            (&raw mut (*ring).req_prod).write_volatile(prod.wrapping_add(1));
        }
    }

    fn get(&mut self) -> u8 {
        // SAFETY: as above.
        unsafe {
            let ring = self.ring;
            let cons = (&raw const (*ring).rsp_cons).read_volatile();
            while (&raw const (*ring).rsp_prod).read_volatile() == cons {
                self.wait();
            }
            fence(Ordering::SeqCst);
            let byte = (&raw const (*ring).rsp[(cons % RING) as usize]).read_volatile();
            fence(Ordering::SeqCst);
            (&raw mut (*ring).rsp_cons).write_volatile(cons.wrapping_add(1));
            byte
        }
    }

    fn wait(&self) {
        hypercall::send(self.port);
        clock::sleep_ms(1);
    }
}

/// Parts of a path or a value as one.
pub fn join<'a>(room: &'a mut [u8], parts: &[&str]) -> &'a str {
    let mut len = 0;
    for byte in parts.iter().flat_map(|part| part.bytes()) {
        room[len] = byte;
        len += 1;
    }
    core::str::from_utf8(&room[..len]).unwrap_or("?")
}

/// A number as text.
pub fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &str {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return core::str::from_utf8(&digits[at..]).unwrap_or("?");
        }
    }
}
