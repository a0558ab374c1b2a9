//! The instruction emulator: what a guest does to memory that is a device.
//!
//! Scope: the integer instructions that kernels use on registers in memory, string moves and
//! string port I/O. An access that faulted is decoded, checked against the address that faulted,
//! and done through `GuestSpace`. Instructions that we do not know, or that changed under our
//! hands, never reach a device.
//!
//! Nothing here loops on a guest's word: a REP does at most `MAX_REPEAT` elements and then lets
//! the guest run into its next fault.

mod alu;

mod control;
mod decode;
mod encoding;
mod fetch;
mod operand;
mod real;
mod space;
mod string;

use oxen_types::{Gaddr, Vaddr};

pub use control::{ControlOp, ControlOutcome, Operand, control_exit, control_op};
pub use fetch::insn_len;
pub use real::{RealMode, real_mode};
pub use space::{Fault, GuestSpace};

use crate::backend::{Event, IoExit, Reg, VcpuEmulation};
use alu::Width;
use decode::{Insn, Kind, Operation};
use oxen_paging::walk::Access;
use oxen_types::paging::NestedFault;
use space::Memory;

/// Elements of a REP that one call does.
const MAX_REPEAT: u32 = 64;

/// What became of the instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done: registers and RIP are set (for a long REP: a part, and it faults again).
    Done,
    /// The instruction is not (or no longer) one that could have faulted there: run it again.
    Retry,
    /// It faults in the guest; CR2 is set where it matters.
    Inject(Event),
    /// Not an instruction that this emulator knows. The bytes are for the log.
    Unknown { bytes: [u8; 15], len: u8 },
}

/// Emulates the instruction that caused `fault`, an access to a device's memory.
pub fn mmio(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn GuestSpace,
    fault: &NestedFault,
) -> Outcome {
    let bytes = match fetch::fetch(vcpu, space) {
        Ok(bytes) => bytes,
        Err(fault) => return stop(vcpu, fault),
    };
    let Some(insn) = decode::decode(vcpu, bytes.as_slice()) else {
        return unknown(&bytes);
    };
    let page = fault.gpa.frame();
    let result = match insn.kind {
        Kind::Memory { at, width, op } => single(vcpu, space, &insn, at, width, op, page.base()),
        Kind::Movs(width) => string::movs(vcpu, space, &insn, width, page.base()),
        Kind::Stos(width) => string::stos(vcpu, space, &insn, width, page.base()),
        Kind::Ins(_) | Kind::Outs(_) => return unknown(&bytes),
    };
    match result {
        Ok(true) => Outcome::Done,
        Ok(false) => Outcome::Retry,
        Err(fault) => stop(vcpu, fault),
    }
}

/// Emulates INS and OUTS; `port` does one access: the value to write, or `None` to read.
pub fn string_io(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn GuestSpace,
    io: &IoExit,
    port: &mut dyn FnMut(Option<u32>) -> u32,
) -> Outcome {
    let bytes = match fetch::fetch(vcpu, space) {
        Ok(bytes) => bytes,
        Err(fault) => return stop(vcpu, fault),
    };
    let Some(insn) = decode::decode(vcpu, bytes.as_slice()) else {
        return unknown(&bytes);
    };
    let result = match insn.kind {
        Kind::Ins(width) if io.input && width.bytes() == io.size => {
            string::ins(vcpu, space, &insn, width, port)
        }
        Kind::Outs(width) if !io.input && width.bytes() == io.size => {
            string::outs(vcpu, space, &insn, width, port)
        }
        _ => return Outcome::Retry,
    };
    match result {
        Ok(_) => Outcome::Done,
        Err(fault) => stop(vcpu, fault),
    }
}

/// One memory operand. False if it does not lie where the fault was.
fn single(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn GuestSpace,
    insn: &Insn,
    at: Vaddr,
    width: Width,
    op: Operation,
    page: Gaddr,
) -> Result<bool, Fault> {
    let access = if op.writes() {
        Access::WRITE
    } else {
        Access::READ
    };
    let mut memory = Memory::new(vcpu, space);
    let place = memory.translate(at, width, access)?;
    if !place.touches(page) {
        return Ok(false);
    }
    let old = if op.reads() { memory.read(&place)? } else { 0 };
    let step = op.apply(vcpu, old, width);
    if let Some(value) = step.store {
        Memory::new(vcpu, space).write(&place, value)?;
    }
    if let Some((reg, value)) = step.load {
        operand::write(vcpu.gprs_mut(), reg, value);
    }
    if let Some(flags) = step.flags {
        vcpu.set(Reg::Rflags, flags);
    }
    vcpu.advance_rip(insn.len);
    Ok(true)
}

fn stop(vcpu: &mut dyn VcpuEmulation, fault: Fault) -> Outcome {
    Outcome::Inject(event_of(vcpu, fault))
}

/// The exception that the instruction ends with; CR2 is set where it matters.
fn event_of(vcpu: &mut dyn VcpuEmulation, fault: Fault) -> Event {
    match fault {
        Fault::Page { address, code } => {
            vcpu.set(Reg::Cr2, address.raw());
            Event::page_fault(code)
        }
        Fault::Protection | Fault::NoMemory(_) => Event::GP,
    }
}

fn unknown(bytes: &fetch::Bytes) -> Outcome {
    Outcome::Unknown {
        bytes: bytes.raw,
        len: bytes.len,
    }
}

#[cfg(test)]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
