//! String instructions, element by element, so that a fault leaves the registers where they are.

use oxen_types::{Gaddr, Vaddr};

use super::MAX_REPEAT;
use super::alu::Width;
use super::decode::Insn;
use super::operand::{self, RCX, RDI, RSI, accumulator, address_part};
use super::space::{Fault, Memory, PhysAccess};
use crate::backend::{Reg, SegReg, VcpuEmulation};
use crate::x86::RFLAGS_DF;
use oxen_paging::walk::Access;

/// Runs `element` once, or up to the count in RCX with a REP, then steps over the instruction if
/// all is done. `element` answers whether it did its work.
fn repeat(
    vcpu: &mut dyn VcpuEmulation,
    insn: &Insn,
    mut element: impl FnMut(&mut dyn VcpuEmulation) -> Result<bool, Fault>,
) -> Result<bool, Fault> {
    let counter = address_part(RCX, insn.address_bytes);
    let mut done = false;
    for _ in 0..MAX_REPEAT {
        if insn.rep && operand::read(vcpu.gprs(), counter) == 0 {
            vcpu.advance_rip(insn.len);
            return Ok(true);
        }
        match element(vcpu) {
            Ok(true) => done = true,
            // What was done stays done; the guest meets the rest itself.
            Ok(false) => return Ok(done),
            Err(_) if done => return Ok(true),
            Err(fault) => return Err(fault),
        }
        if !insn.rep {
            vcpu.advance_rip(insn.len);
            return Ok(true);
        }
        let left = operand::read(vcpu.gprs(), counter).wrapping_sub(1);
        operand::write(vcpu.gprs_mut(), counter, left);
        if operand::truncate(left, insn.address_bytes) == 0 {
            vcpu.advance_rip(insn.len);
            return Ok(true);
        }
    }
    Ok(true)
}

/// The linear address in RSI or RDI.
fn pointer(vcpu: &dyn VcpuEmulation, insn: &Insn, number: u8, seg: SegReg) -> Result<Vaddr, Fault> {
    let offset = operand::read(vcpu.gprs(), address_part(number, insn.address_bytes));
    Ok(operand::linear(vcpu, seg, offset))
}

fn step(vcpu: &mut dyn VcpuEmulation, insn: &Insn, number: u8, width: Width) {
    let part = address_part(number, insn.address_bytes);
    let bytes = u64::from(width.bytes());
    let old = operand::read(vcpu.gprs(), part);
    let down = vcpu.get(Reg::Rflags) & RFLAGS_DF != 0;
    let new = if down {
        old.wrapping_sub(bytes)
    } else {
        old.wrapping_add(bytes)
    };
    operand::write(vcpu.gprs_mut(), part, new);
}

pub(super) fn movs(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn PhysAccess,
    insn: &Insn,
    width: Width,
    page: Gaddr,
) -> Result<bool, Fault> {
    repeat(vcpu, insn, |vcpu| {
        let from = pointer(vcpu, insn, RSI, insn.segment)?;
        let to = pointer(vcpu, insn, RDI, SegReg::Es)?;
        let mut memory = Memory::new(vcpu, space);
        let from = memory.translate(from, width, Access::READ)?;
        let to = memory.translate(to, width, Access::WRITE)?;
        if !from.touches(page) && !to.touches(page) {
            return Ok(false);
        }
        let value = memory.read(&from)?;
        memory.write(&to, value)?;
        step(vcpu, insn, RSI, width);
        step(vcpu, insn, RDI, width);
        Ok(true)
    })
}

pub(super) fn stos(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn PhysAccess,
    insn: &Insn,
    width: Width,
    page: Gaddr,
) -> Result<bool, Fault> {
    let value = operand::read(vcpu.gprs(), accumulator(width.bytes()));
    repeat(vcpu, insn, |vcpu| {
        let to = pointer(vcpu, insn, RDI, SegReg::Es)?;
        let mut memory = Memory::new(vcpu, space);
        let to = memory.translate(to, width, Access::WRITE)?;
        if !to.touches(page) {
            return Ok(false);
        }
        memory.write(&to, value)?;
        step(vcpu, insn, RDI, width);
        Ok(true)
    })
}

pub(super) fn ins(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn PhysAccess,
    insn: &Insn,
    width: Width,
    port: &mut dyn FnMut(Option<u32>) -> u32,
) -> Result<bool, Fault> {
    repeat(vcpu, insn, |vcpu| {
        let to = pointer(vcpu, insn, RDI, SegReg::Es)?;
        let mut memory = Memory::new(vcpu, space);
        // Before the port is read: a read can have effects, and a fault repeats the instruction.
        let to = memory.translate(to, width, Access::WRITE)?;
        memory.write(&to, u64::from(port(None)) & width.mask())?;
        step(vcpu, insn, RDI, width);
        Ok(true)
    })
}

pub(super) fn outs(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn PhysAccess,
    insn: &Insn,
    width: Width,
    port: &mut dyn FnMut(Option<u32>) -> u32,
) -> Result<bool, Fault> {
    repeat(vcpu, insn, |vcpu| {
        let from = pointer(vcpu, insn, RSI, insn.segment)?;
        let mut memory = Memory::new(vcpu, space);
        let from = memory.translate(from, width, Access::READ)?;
        port(Some(memory.read(&from)? as u32));
        step(vcpu, insn, RSI, width);
        Ok(true)
    })
}
