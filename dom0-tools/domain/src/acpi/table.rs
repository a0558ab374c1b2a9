//! The header that all tables but the RSDP share, and their checksum.

pub(super) const OEM: &[u8; 6] = b"OXEN  ";
const OEM_TABLE: &[u8; 8] = b"PVHGUEST";
const LENGTH_AT: usize = 4;
const CHECKSUM_AT: usize = 9;

pub(super) struct Table(Vec<u8>);

impl Table {
    pub(super) fn new(signature: &[u8; 4], revision: u8) -> Self {
        let mut bytes = signature.to_vec();
        bytes.extend(0u32.to_le_bytes());
        bytes.extend([revision, 0]);
        bytes.extend_from_slice(OEM);
        bytes.extend_from_slice(OEM_TABLE);
        bytes.extend(1u32.to_le_bytes());
        bytes.extend_from_slice(b"OXEN");
        bytes.extend(1u32.to_le_bytes());
        Self(bytes)
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Fills with zeros up to an offset that the specification names.
    pub(super) fn zero_to(&mut self, offset: usize) {
        debug_assert!(self.0.len() <= offset);
        self.0.resize(offset, 0);
    }

    /// Length and checksum set, the table is done.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let length = (self.0.len() as u32).to_le_bytes();
        self.0.splice(LENGTH_AT..LENGTH_AT + 4, length);
        let sum = checksum(&self.0);
        self.0.splice(CHECKSUM_AT..=CHECKSUM_AT, [sum]);
        self.0
    }
}

/// The checksum that makes the sum of all bytes zero, where the checksum's own byte is still zero.
pub(super) fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}
