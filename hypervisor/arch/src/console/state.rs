//! The console's one state: port, ring, input. Callers run with interrupts off.
#![allow(unsafe_code, reason = "breaks the lock in an emergency")]

use super::hold::Hold;
use super::logger;
use super::ring::Ring;
use super::serial::Serial;
use super::serial_config::SerialConfig;
use crate::sync::Mutex;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU16, Ordering};

/// More than a script types at once before the boot CPU comes round to its loop.
const INPUT_SIZE: usize = 4096;
/// Tries for the lock before an emergency breaks it: longer than any line takes to send.
const EMERGENCY_TRIES: u32 = 2_000_000;

struct State {
    serial: Option<Serial>,
    config: SerialConfig,
    input: [u8; INPUT_SIZE],
    input_head: usize,
    input_count: usize,
}

static STATE: Mutex<State> = Mutex::new(State {
    serial: None,
    config: SerialConfig::COM1,
    input: [0; INPUT_SIZE],
    input_head: 0,
    input_count: 0,
});
/// Apart from the rest, so that it is all zeros in the image. Taken inside STATE's lock only.
static RING: Mutex<Ring> = Mutex::new(Ring::new());
/// Apart from the rest, too: all zeros in the image. Taken inside STATE's lock only.
static HOLD: Mutex<Hold> = Mutex::new(Hold::new());

static PORT: AtomicU16 = AtomicU16::new(0);

/// COM1 at the default settings, and the log on it.
pub fn init_early() {
    open(SerialConfig::COM1);
    // The firmware's last words have no end of line.
    STATE.lock().put(b"\n");
    logger::install();
}

/// Reopens the port as the command line has it.
pub fn configure(config: SerialConfig) {
    if STATE.lock().config != config {
        open(config);
    }
}

fn open(config: SerialConfig) {
    let serial = Serial::new(&config);
    PORT.store(
        if serial.is_some() { config.io } else { 0 },
        Ordering::Relaxed,
    );
    let mut state = STATE.lock();
    state.serial = serial;
    state.config = config;
}

/// First port and number of ports of the UART in use, which no guest may touch.
pub fn serial_ports() -> Option<(u16, u16)> {
    Some(PORT.load(Ordering::Relaxed))
        .filter(|port| *port != 0)
        .map(|port| (port, 8))
}

/// dom0's console: to the port as it is, and not to the log, as Xen has it unless told otherwise.
pub fn write_raw(bytes: &[u8]) {
    let mut state = STATE.lock();
    state.send(bytes);
    HOLD.lock().dom0_wrote(bytes, crate::time::now_ns());
    state.release(false);
}

pub(crate) fn write_line(args: fmt::Arguments<'_>) {
    let mut state = STATE.lock();
    state.release(false);
    let _ = Prefixed::new(&mut state).write_fmt(format_args!("{args}\n"));
}

/// Sends the lines that waited for the end of a line of dom0's, once that has come or they have
/// waited long enough. Each CPU's loop calls this.
pub fn release_lines() {
    if HOLD.lock().is_empty() {
        return;
    }
    STATE.lock().release(false);
}

/// Writes whatever happens: if the lock does not come free in a bounded time, its holder is dead.
pub fn emergency(write: impl FnOnce(&mut dyn Write)) {
    let mut tries = 0;
    let mut guard = loop {
        if let Some(guard) = STATE.try_lock() {
            break guard;
        }
        tries += 1;
        if tries > EMERGENCY_TRIES {
            // SAFETY: the holder is this CPU below us, or stopped, or stuck for seconds: the output
            // may be garbled, which is better than none.
            unsafe { STATE.force_unlock() };
        }
        core::hint::spin_loop();
    };
    guard.release(true);
    write(&mut Prefixed::new(&mut guard));
}

/// Sends the lines that wait: the machine goes off.
pub(crate) fn flush() {
    if let Some(mut state) = STATE.try_lock() {
        state.release(true);
    }
}

/// Copies out of the log: see `Ring::read`.
pub fn read_log(from: Option<u32>, out: &mut [u8]) -> (usize, u32) {
    let _state = STATE.lock();
    RING.lock().read(from, out)
}

/// Empties the log, for readers without an index.
pub fn clear() {
    let _state = STATE.lock();
    RING.lock().clear();
}

/// The next byte typed. Asks the UART itself if it has no interrupt.
pub fn read_byte() -> Option<u8> {
    if STATE.lock().config.irq == 0 {
        poll_input();
    }
    let mut state = STATE.lock();
    let byte = state.input[state.input_head];
    state.input_count = state.input_count.checked_sub(1)?;
    state.input_head = (state.input_head + 1) % INPUT_SIZE;
    Some(byte)
}

/// Moves what the UART has into the input buffer. From its interrupt, or from a timer.
pub fn poll_input() {
    let mut state = STATE.lock();
    for _ in 0..INPUT_SIZE {
        let Some(byte) = state.serial.as_mut().and_then(Serial::receive) else {
            return;
        };
        if state.input_count < INPUT_SIZE {
            let at = (state.input_head + state.input_count) % INPUT_SIZE;
            state.input[at] = byte;
            state.input_count += 1;
        }
    }
}

/// Lets the UART raise its interrupt; returns the ISA number to route, if there is one.
pub fn enable_input_interrupt() -> Option<u8> {
    let mut state = STATE.lock();
    let irq = state.config.irq;
    let serial = state.serial.as_mut()?;
    if irq == 0 {
        return None;
    }
    serial.enable_receive_interrupt();
    Some(irq)
}

/// Reads the UART without an interrupt from now on: its line cannot be routed.
pub(crate) fn poll_from_now_on() {
    STATE.lock().config.irq = 0;
}

impl State {
    fn put(&mut self, bytes: &[u8]) {
        // Taken already only if an emergency broke into a copy.
        if let Some(mut ring) = RING.try_lock() {
            ring.write(bytes);
        }
        let now = crate::time::now_ns();
        // Also taken only in an emergency.
        if let Some(mut hold) = HOLD.try_lock()
            && (hold.must_wait(now) || !hold.is_empty())
        {
            if hold.keep(bytes, now) {
                return;
            }
            self.send(hold.take());
        }
        self.send(bytes);
    }

    fn send(&mut self, bytes: &[u8]) {
        if let Some(serial) = &mut self.serial {
            serial.send(bytes);
        }
    }

    /// Sends what waits, if its time has come or there is no time to wait.
    fn release(&mut self, at_once: bool) {
        let now = crate::time::now_ns();
        if let Some(mut hold) = HOLD.try_lock()
            && (at_once || !hold.must_wait(now))
        {
            self.send(hold.take());
        }
    }
}

/// Puts name and time before each line.
struct Prefixed<'a> {
    state: &'a mut State,
    line_start: bool,
}

impl<'a> Prefixed<'a> {
    fn new(state: &'a mut State) -> Self {
        Self {
            state,
            line_start: true,
        }
    }
}

impl Write for Prefixed<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for line in text.split_inclusive('\n') {
            if self.line_start {
                self.line_start = false;
                let us = crate::time::now_ns() / 1000;
                write!(
                    Plain(self.state),
                    "(OXEN) [{:4}.{:06}] ",
                    us / 1_000_000,
                    us % 1_000_000
                )?;
            }
            self.state.put(line.as_bytes());
            self.line_start = line.ends_with('\n');
        }
        Ok(())
    }
}

struct Plain<'a>(&'a mut State);

impl Write for Plain<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.put(text.as_bytes());
        Ok(())
    }
}
