//! Carrying out an instruction for the guest.

use super::registers::VcpuRegisters;

/// Access to the instruction that caused an exit. Meaningful between an exit and the next entry.
pub trait VcpuEmulation: VcpuRegisters {
    /// The length of the instruction in bytes, if the hardware reports one.
    fn insn_len(&self) -> Option<u8>;
    /// The bytes of the instruction, if the hardware reports those that it fetched; else empty.
    fn insn_bytes(&self) -> &[u8];
    /// Steps over an instruction of `len` bytes that was emulated: advances RIP, ends an interrupt
    /// shadow, clears RFLAGS.RF, and raises #DB if RFLAGS.TF is set.
    fn advance_rip(&mut self, len: u8);
    /// Discards this vcpu's cached translations before its next entry.
    fn flush_tlb(&mut self);
}
