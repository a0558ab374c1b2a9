//! The PV console: a ring in a page that the hypervisor's parameters name (xen/io/console.h). A
//! domain without one (dom0, when this kernel is started in its place) writes by console_io. Only
//! the first CPU prints.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering, fence};

use guest_pv_abi::{
    CONSOLEIO_WRITE, HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HYPERVISOR_CONSOLE_IO,
    XenconsInterface,
};

use super::{clock, hypercall};

static RING: AtomicPtr<XenconsInterface> = AtomicPtr::new(core::ptr::null_mut());
static PORT: AtomicU32 = AtomicU32::new(0);

pub fn prepare() {
    let page = hypercall::hvm_param(HVM_PARAM_CONSOLE_PFN) << 12;
    if page == 0 {
        return;
    }
    RING.store(page as *mut _, Ordering::Relaxed);
    PORT.store(
        hypercall::hvm_param(HVM_PARAM_CONSOLE_EVTCHN) as u32,
        Ordering::Relaxed,
    );
}

pub fn port() -> u32 {
    PORT.load(Ordering::Relaxed)
}

/// One line. It reaches the ring as a whole unless the ring is full.
pub fn print(line: fmt::Arguments<'_>) {
    struct Ring;
    impl Write for Ring {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            text.bytes().for_each(put);
            Ok(())
        }
    }
    let _ = Ring.write_fmt(line);
    put(b'\r');
    put(b'\n');
    if port() != 0 {
        hypercall::send(port());
    }
}

/// Waits (a second at most) until the other side took all.
pub fn drain() {
    let Some(ring) = ring() else { return };
    for _ in 0..100 {
        // SAFETY: the ring's page is mapped; indices are read whole.
        let (cons, prod) = unsafe {
            (
                (&raw const (*ring).out_cons).read_volatile(),
                (&raw const (*ring).out_prod).read_volatile(),
            )
        };
        if cons == prod {
            return;
        }
        hypercall::send(port());
        clock::sleep_ms(10);
    }
}

/// A byte that was typed.
pub fn read() -> Option<u8> {
    let ring = ring()?;
    // SAFETY: as above; the index into `input` is masked.
    unsafe {
        let cons = (&raw const (*ring).in_cons).read_volatile();
        if cons == (&raw const (*ring).in_prod).read_volatile() {
            return None;
        }
        fence(Ordering::SeqCst);
        let byte = (&raw const (*ring).input[cons as usize % 1024]).read_volatile();
        fence(Ordering::SeqCst);
        (&raw mut (*ring).in_cons).write_volatile(cons.wrapping_add(1));
        Some(byte)
    }
}

fn ring() -> Option<*mut XenconsInterface> {
    let ring = RING.load(Ordering::Relaxed);
    (!ring.is_null()).then_some(ring)
}

fn put(byte: u8) {
    let Some(ring) = ring() else {
        let at = core::ptr::from_ref(&byte) as u64;
        let number = HYPERVISOR_CONSOLE_IO.into();
        hypercall::raw(number, [CONSOLEIO_WRITE.into(), 1, at, 0, 0]);
        return;
    };
    let mut patience = 500;
    // SAFETY: as above; the index into `output` is masked.
    unsafe {
        let prod = (&raw const (*ring).out_prod).read_volatile();
        while prod.wrapping_sub((&raw const (*ring).out_cons).read_volatile()) >= 2048 {
            // Without a reader the text is lost, not the test.
            if patience == 0 {
                return;
            }
            patience -= 1;
            hypercall::send(port());
            clock::sleep_ms(10);
        }
        (&raw mut (*ring).output[prod as usize % 2048]).write_volatile(byte);
        fence(Ordering::SeqCst);
        (&raw mut (*ring).out_prod).write_volatile(prod.wrapping_add(1));
    }
}
