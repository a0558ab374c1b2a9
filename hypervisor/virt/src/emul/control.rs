//! Instructions on control registers that exited: decoded where the CPU does not tell the
//! operation, held to what it does tell, and carried out.
//!
//! The instruction is read again from the guest's memory, where another of its threads may have
//! replaced it. So an operation that is not an access such as the exit tells is refused, and all
//! but SMSW are privileged: SMSW makes user code exit too (APM volume 2, 15.9).

use super::alu::Width;
use super::encoding::Encoding;
use super::fetch::fetch;
use super::operand;
use super::space::{Fault, Memory, PhysAccess};
use crate::backend::{ControlExit, ControlOp, CpuMode, Event, Operand, Reg, VcpuEmulation};
use crate::policy::{self, CpuidPolicy, MsrFault};
use crate::x86::{CR0_TS, CR4_UMIP};
use oxen_paging::walk::Access;

/// The outcome of the instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlOutcome {
    Done,
    /// Done, and CR3 was loaded.
    NewAddressSpace,
    /// Another instruction is there now: the guest runs that.
    Retry,
    Inject(Event),
}

impl ControlOp {
    /// Whether the operation is an access such as made the guest exit.
    fn is(self, exit: ControlExit) -> bool {
        let access = match self {
            Self::Read { control, .. } => (control, false),
            Self::Write { control, .. } => (control, true),
            Self::Clts | Self::LoadStatus(_) => (0, true),
            Self::StoreStatus(_) => (0, false),
            Self::Invlpg { .. } => return false,
        };
        match exit {
            ControlExit::Known(op) => op == self,
            ControlExit::Access { control, write } => access == (control, write),
        }
    }
}

/// Does what the instruction that exited does, and steps over it.
pub fn control_exit(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn PhysAccess,
    cpuid: &CpuidPolicy,
    exit: ControlExit,
) -> ControlOutcome {
    let Some((op, len)) = operation(vcpu, space, exit) else {
        return ControlOutcome::Retry;
    };
    let user_may = matches!(op, ControlOp::StoreStatus(_)) && vcpu.get(Reg::Cr4) & CR4_UMIP == 0;
    if vcpu.cpl() != 0 && !user_may {
        return ControlOutcome::Inject(Event::GP);
    }
    match carry_out(vcpu, space, cpuid, op) {
        Ok(outcome) => {
            vcpu.advance_rip(len);
            outcome
        }
        Err(fault) => ControlOutcome::Inject(super::event_of(vcpu, fault)),
    }
}

fn operation(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn PhysAccess,
    exit: ControlExit,
) -> Option<(ControlOp, u8)> {
    if let (ControlExit::Known(op), Some(len)) = (exit, vcpu.insn_len()) {
        return Some((op, len));
    }
    let (op, len) = control_op(vcpu, space)?;
    op.is(exit).then_some((op, len))
}

fn carry_out(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn PhysAccess,
    cpuid: &CpuidPolicy,
    op: ControlOp,
) -> Result<ControlOutcome, Fault> {
    let faults = |MsrFault| Fault::Protection;
    let long = vcpu.execution().mode() == CpuMode::Long64;
    match op {
        ControlOp::Read { control, register } => {
            let value = match control {
                0 => vcpu.get(Reg::Cr0),
                3 => vcpu.get(Reg::Cr3),
                4 => vcpu.get(Reg::Cr4),
                _ => return Err(Fault::Protection),
            };
            vcpu.gprs_mut().set(register, value);
        }
        ControlOp::Write { control, register } => {
            let value = vcpu.gprs().get(register);
            let value = if long { value } else { value & 0xffff_ffff };
            match control {
                0 => policy::write_cr0(vcpu, value).map_err(faults)?,
                3 => {
                    policy::write_cr3(vcpu, cpuid, value).map_err(faults)?;
                    return Ok(ControlOutcome::NewAddressSpace);
                }
                4 => policy::write_cr4(vcpu, cpuid, value).map_err(faults)?,
                _ => return Err(Fault::Protection),
            }
        }
        ControlOp::Clts => {
            let old = vcpu.get(Reg::Cr0);
            vcpu.set(Reg::Cr0, old & !CR0_TS);
        }
        ControlOp::LoadStatus(operand) => {
            let value = match operand {
                Operand::Register { number, .. } => vcpu.gprs().get(number),
                Operand::Memory(at) => {
                    let mut memory = Memory::new(vcpu, space);
                    let location = memory.translate(at, Width::B2, Access::READ)?;
                    memory.read(&location)?
                }
            };
            policy::write_status(vcpu, value).map_err(faults)?;
        }
        ControlOp::StoreStatus(operand) => store_status(vcpu, space, operand, long)?,
        ControlOp::Invlpg { .. } => return Err(Fault::Protection),
    }
    Ok(ControlOutcome::Done)
}

/// SMSW: 16 bits in memory; in a register as many as the operand has.
fn store_status(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn PhysAccess,
    operand: Operand,
    long: bool,
) -> Result<(), Fault> {
    let value = vcpu.get(Reg::Cr0);
    match operand {
        Operand::Register { number, narrow } => {
            let old = vcpu.gprs().get(number);
            let kept = old & !0xffff | value & 0xffff;
            let new = if long && !narrow { value } else { kept };
            vcpu.gprs_mut().set(number, new);
        }
        Operand::Memory(at) => {
            let mut memory = Memory::new(vcpu, space);
            let location = memory.translate(at, Width::B2, Access::WRITE)?;
            memory.write(&location, value & 0xffff)?;
        }
    }
    Ok(())
}

/// The instruction on a control register at RIP, and its length. `None` if another one is there.
pub fn control_op(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn PhysAccess,
) -> Option<(ControlOp, u8)> {
    let long = vcpu.execution().mode() == CpuMode::Long64;
    let bytes = fetch(vcpu, space).ok()?;
    let bytes = bytes.as_slice();
    decode(bytes, long).or_else(|| status_in_memory(vcpu, bytes))
}

/// LMSW and SMSW with an operand in memory.
fn status_in_memory(vcpu: &dyn VcpuEmulation, bytes: &[u8]) -> Option<(ControlOp, u8)> {
    let insn = Encoding::parse(bytes, vcpu.execution().mode(), vcpu.get(Reg::Rip))?;
    if insn.opcode != 0x0f01 || insn.prefixes.lock {
        return None;
    }
    // `None` for a register.
    let operand = Operand::Memory(operand::address(vcpu, &insn)?);
    let op = match insn.reg & 7 {
        4 => ControlOp::StoreStatus(operand),
        6 => ControlOp::LoadStatus(operand),
        _ => return None,
    };
    Some((op, insn.len))
}

fn decode(bytes: &[u8], long: bool) -> Option<(ControlOp, u8)> {
    let legacy = |byte: &&u8| {
        matches!(
            **byte,
            0x66 | 0x67 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 | 0xf0
        )
    };
    let prefixes = bytes.iter().take_while(legacy).count();
    let rest = bytes.get(prefixes..)?;
    let (rex, rest) = match rest.split_first()? {
        (rex, rest) if long && rex & 0xf0 == 0x40 => (*rex, rest),
        _ => (0, rest),
    };
    let start = (prefixes + usize::from(rex != 0)) as u8;
    let (&0x0f, rest) = rest.split_first()? else {
        return None;
    };
    let (&opcode, rest) = rest.split_first()?;
    if opcode == 0x06 {
        return Some((ControlOp::Clts, start + 2));
    }
    let &operand = rest.first()?;
    let register = operand & 7 | (rex & 1) << 3;
    // A LOCK prefix names CR8 on AMD's CPUs: that register does not exit.
    let locked = bytes.iter().take(prefixes).any(|byte| *byte == 0xf0);
    let control = operand >> 3 & 7 | (rex & 4) << 1 | u8::from(locked) << 3;
    let is_register = operand >> 6 == 3;
    let narrow = rex & 8 == 0 && bytes.iter().take(prefixes).any(|byte| *byte == 0x66);
    let status = Operand::Register {
        number: register,
        narrow,
    };
    let op = match (opcode, operand >> 3 & 7) {
        (0x20, _) => ControlOp::Read { control, register },
        (0x22, _) => ControlOp::Write { control, register },
        (0x01, 4) if is_register => ControlOp::StoreStatus(status),
        (0x01, 6) if is_register => ControlOp::LoadStatus(status),
        (0x01, 7) if !is_register => return invlpg(bytes, start, operand, rex, rest.get(1)),
        _ => return None,
    };
    Some((op, start + 3))
}

/// The length comes of the operand's form, with 32 and 64-bit addresses.
fn invlpg(
    bytes: &[u8],
    start: u8,
    operand: u8,
    rex: u8,
    sib: Option<&u8>,
) -> Option<(ControlOp, u8)> {
    let (form, base) = (operand >> 6, operand & 7);
    let has_sib = base == 4;
    let sib_base = sib.filter(|_| has_sib).map(|sib| sib & 7);
    let displacement = match form {
        1 => 1,
        2 => 4,
        _ if base == 5 || sib_base == Some(5) => 4,
        _ => 0,
    };
    let plain = form == 0 && !has_sib && base != 5;
    let segment = bytes
        .iter()
        .take(start.into())
        .any(|b| matches!(b, 0x64 | 0x65 | 0x67));
    let register = (plain && !segment).then_some(base | (rex & 1) << 3);
    let len = start + 3 + u8::from(has_sib) + displacement;
    Some((ControlOp::Invlpg { register }, len))
}

#[cfg(test)]
mod tests;
