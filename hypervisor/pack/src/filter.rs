//! The filter for code: the operands that are distances from the instruction become addresses, high
//! byte first.
//!
//! Two calls of one function have different distances and the same address, which the model then
//! knows. The operands are rel32 of CALL, JMP and Jcc, and the displacement of an operand that is
//! relative to RIP. The instruction's other bytes, which tell where such an operand is, do not
//! change, so the way back finds the same places.

use crate::insn::{Parser, Part};

/// Calls `change` with the place of each operand and the offset that follows it.
fn each(code: &mut [u8], change: fn([u8; 4], u32) -> [u8; 4]) {
    let mut parser = Parser::default();
    let mut at = 0;
    while let Some(rest) = code.get_mut(at..) {
        if parser.is_distance()
            && let Some(operand) = rest.first_chunk_mut::<4>()
        {
            *operand = change(*operand, at as u32 + 4);
            at += 4;
            for _ in 0..4 {
                parser.step(0);
            }
            continue;
        }
        let Some(byte) = rest.first() else { return };
        parser.step(*byte);
        at += 1;
    }
}

/// From distances to addresses.
#[cfg(not(target_os = "none"))]
pub(crate) fn apply(code: &mut [u8]) {
    each(code, |operand, end| {
        u32::from_le_bytes(operand).wrapping_add(end).to_be_bytes()
    });
}

/// From addresses to distances.
pub(crate) fn restore(code: &mut [u8]) {
    each(code, |operand, end| {
        u32::from_be_bytes(operand).wrapping_sub(end).to_le_bytes()
    });
}

impl Parser {
    /// Whether the next four bytes are a distance from the end of these bytes, or of the
    /// instruction.
    fn is_distance(&self) -> bool {
        self.index == 0
            && (self.part == Part::Relative
                || self.part == Part::Displacement && self.is_relative())
    }
}
