//! The guest's memory as an instruction sees it: linear addresses, RAM and devices behind them.

use oxen_types::{Gaddr, Vaddr};

use super::alu::Width;
use crate::backend::{Execution, VcpuEmulation};
use oxen_paging::walk::{Access, Limits, Paging, PhysRead, Translation, WalkError, walk};

/// Guest physical space: RAM, and the devices between it.
pub trait PhysAccess: PhysRead {
    /// 1, 2, 4 or 8 bytes within one page. `None` where nothing is.
    fn read(&mut self, at: Gaddr, size: u8) -> Option<u64>;
    /// False where nothing is.
    fn write(&mut self, at: Gaddr, size: u8, value: u64) -> bool;
    /// Of the guest's processor.
    fn limits(&self) -> Limits;
}

/// Why an instruction cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    Page {
        address: Vaddr,
        code: u32,
    },
    Protection,
    /// Neither RAM nor a device.
    NoMemory(Gaddr),
}

/// Where an operand lies. It may run over the end of a page into another.
#[derive(Clone, Copy, Debug)]
pub(super) struct OperandLocation {
    width: Width,
    first: Gaddr,
    in_first: u8,
    second: Option<Gaddr>,
}

impl OperandLocation {
    pub(super) fn touches(&self, page: Gaddr) -> bool {
        self.first.frame() == page.frame() || self.second.is_some_and(|s| s.frame() == page.frame())
    }

    fn byte(&self, index: u8) -> Option<Gaddr> {
        match self.second {
            Some(second) if index >= self.in_first => {
                second.checked_add(u64::from(index - self.in_first))
            }
            _ => self.first.checked_add(u64::from(index)),
        }
    }
}

pub(super) struct Memory<'a> {
    space: &'a mut dyn PhysAccess,
    paging: Paging,
    user: bool,
}

impl<'a> Memory<'a> {
    pub(super) fn new(vcpu: &dyn VcpuEmulation, space: &'a mut dyn PhysAccess) -> Self {
        Self::at(&vcpu.execution(), vcpu.cpl(), space)
    }

    /// For those who have asked the vcpu already.
    pub(super) fn at(state: &Execution, cpl: u8, space: &'a mut dyn PhysAccess) -> Self {
        let paging = state.paging(space.limits());
        Self {
            space,
            paging,
            user: cpl == 3,
        }
    }

    pub(super) fn translate(
        &self,
        at: Vaddr,
        width: Width,
        access: Access,
    ) -> Result<OperandLocation, Fault> {
        let first = self.walk(at, access)?;
        let bytes = width.bytes();
        if first.left_in_page >= u64::from(bytes) {
            return Ok(OperandLocation {
                width,
                first: first.gpa,
                in_first: bytes,
                second: None,
            });
        }
        let next = Vaddr::new(at.raw().wrapping_add(first.left_in_page));
        let second = self.walk(next, access)?;
        Ok(OperandLocation {
            width,
            first: first.gpa,
            in_first: first.left_in_page as u8,
            second: Some(second.gpa),
        })
    }

    pub(super) fn walk(&self, at: Vaddr, access: Access) -> Result<Translation, Fault> {
        let access = if self.user {
            access | Access::USER
        } else {
            access
        };
        walk(&*self.space, &self.paging, at, access).map_err(|e| match e {
            WalkError::Fault { code } => Fault::Page { address: at, code },
            WalkError::NotCanonical | WalkError::Unsupported => Fault::Protection,
            WalkError::BadTable(at) => Fault::NoMemory(at),
        })
    }

    pub(super) fn read(&mut self, operand: &OperandLocation) -> Result<u64, Fault> {
        if operand.second.is_none() {
            let size = operand.width.bytes();
            return self
                .space
                .read(operand.first, size)
                .ok_or(Fault::NoMemory(operand.first));
        }
        let mut value = 0;
        for i in 0..operand.width.bytes() {
            let at = operand.byte(i).ok_or(Fault::Protection)?;
            let byte = self.space.read(at, 1).ok_or(Fault::NoMemory(at))?;
            value |= (byte & 0xff) << (8 * u32::from(i));
        }
        Ok(value)
    }

    pub(super) fn write(&mut self, operand: &OperandLocation, value: u64) -> Result<(), Fault> {
        if operand.second.is_none() {
            let done = self
                .space
                .write(operand.first, operand.width.bytes(), value);
            return if done {
                Ok(())
            } else {
                Err(Fault::NoMemory(operand.first))
            };
        }
        for i in 0..operand.width.bytes() {
            let at = operand.byte(i).ok_or(Fault::Protection)?;
            if !self.space.write(at, 1, value >> (8 * u32::from(i)) & 0xff) {
                return Err(Fault::NoMemory(at));
            }
        }
        Ok(())
    }

    pub(super) fn fetch(&self, at: Gaddr, into: &mut [u8]) -> bool {
        self.space.read_bytes(at, into)
    }
}
