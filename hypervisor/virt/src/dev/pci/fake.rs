//! A machine with PCI functions that behave like hardware: read-only bits, BARs that can be sized,
//! MSI-X tables in memory. It checks what must never happen as it happens.

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use oxen_types::Mfn;

use super::host::*;
use super::regs::*;
use crate::dev::message::Message;

/// Host messages carry this, a guest's never does.
pub(super) const HOST_ADDRESS: u64 = 0xfeed_0000;

#[derive(Clone)]
pub(super) struct Function {
    pub(super) config: Vec<u8>,
    writable: Vec<u8>,
    pub(super) msi: Option<u16>,
    pub(super) msix: Option<u16>,
}

impl Function {
    pub(super) fn new(header_type: u8) -> Self {
        let mut function = Self {
            config: std::vec![0; 4096],
            writable: std::vec![0; 4096],
            msi: None,
            msix: None,
        };
        function.set(VENDOR, 4, 0x1234_8086);
        function.set(HEADER_TYPE, 1, u32::from(header_type));
        function.allow(COMMAND, 2, 0x0547);
        function
    }

    pub(super) fn set(&mut self, reg: u16, size: u8, value: u32) {
        for n in 0..size {
            self.config[usize::from(reg) + usize::from(n)] = (value >> (8 * n)) as u8;
        }
    }

    pub(super) fn get(&self, reg: u16, size: u8) -> u32 {
        (0..size)
            .map(|n| u32::from(self.config[usize::from(reg) + usize::from(n)]) << (8 * n))
            .fold(0, |all, byte| all | byte)
    }

    pub(super) fn allow(&mut self, reg: u16, size: u8, mask: u32) {
        for n in 0..size {
            self.writable[usize::from(reg) + usize::from(n)] = (mask >> (8 * n)) as u8;
        }
    }

    pub(super) fn bar(mut self, index: u16, flags: u32, size: u64, addr: u64) -> Self {
        let reg = BAR_0 + 4 * index;
        let mask = !(size - 1);
        self.set(reg, 4, addr as u32 | flags);
        self.allow(reg, 4, mask as u32 & !0xf);
        if flags & BAR_TYPE == BAR_TYPE_64 {
            self.set(reg + 4, 4, (addr >> 32) as u32);
            self.allow(reg + 4, 4, (mask >> 32) as u32);
        }
        self
    }

    pub(super) fn rom(mut self, size: u32, value: u32) -> Self {
        self.set(ROM, 4, value);
        self.allow(ROM, 4, !(size - 1) | 1);
        self
    }

    /// Appends a capability to the list.
    pub(super) fn cap(&mut self, at: u16, id: u16) {
        self.set(STATUS, 2, STATUS_CAP_LIST);
        let mut pointer = CAP_HEAD;
        while self.get(pointer, 1) != 0 {
            pointer = self.get(pointer, 1) as u16 + 1;
        }
        self.set(pointer, 1, u32::from(at));
        self.set(at, 2, u32::from(id));
    }

    pub(super) fn with_msi(mut self, at: u16, control: u32) -> Self {
        self.cap(at, CAP_MSI);
        self.set(at + 2, 2, control);
        self.allow(at + 2, 2, 0x71);
        self.allow(at + 4, 4, !3);
        for reg in (at + 8..at + 24).step_by(4) {
            self.allow(reg, 4, u32::MAX);
        }
        self.msi = Some(at);
        self
    }

    pub(super) fn with_msix(mut self, at: u16, count: u32, table: u32, pending: u32) -> Self {
        self.cap(at, CAP_MSIX);
        self.set(at + 2, 2, count - 1);
        self.allow(at + 2, 2, 0xc000);
        self.set(at + 4, 4, table);
        self.set(at + 8, 4, pending);
        self.msix = Some(at);
        self
    }

    /// Function-level reset: what a domain can set is cleared.
    pub(super) fn reset(&mut self) {
        for (byte, writable) in self.config.iter_mut().zip(&self.writable) {
            *byte &= !writable;
        }
    }

    /// Where the MSI-X table answers, if it does.
    pub(super) fn table(&self) -> Option<u64> {
        let at = self.msix.filter(|_| self.get(COMMAND, 2) & 2 != 0)?;
        let place = self.get(at + 4, 4);
        Some(self.bar_base(place & 7) + u64::from(place & !7))
    }

    fn bar_base(&self, index: u32) -> u64 {
        let reg = BAR_0 + 4 * index as u16;
        let low = self.get(reg, 4);
        let high = match low & BAR_TYPE {
            BAR_TYPE_64 => u64::from(self.get(reg + 4, 4)) << 32,
            _ => 0,
        };
        high | u64::from(low & !0xf)
    }
}

#[derive(Default)]
pub(super) struct Machine {
    pub(super) functions: BTreeMap<Sbdf, Function>,
    pub(super) memory: BTreeMap<u64, u32>,
    pub(super) mapped: BTreeSet<u64>,
    pub(super) refused: BTreeSet<u64>,
    /// Live handles with the data of their first vector, and what each vector is bound to.
    pub(super) vectors: BTreeMap<u32, (u32, Vec<Option<Message>>)>,
    pub(super) exhausted: bool,
    pub(super) accesses: usize,
    pub(super) forwarded: Vec<(u64, u8)>,
    next: u32,
}

impl Machine {
    pub(super) fn with(functions: impl IntoIterator<Item = (Sbdf, Function)>) -> Self {
        Self {
            functions: functions.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(super) fn at(&self, sbdf: Sbdf) -> &Function {
        &self.functions[&sbdf]
    }

    /// A table word as the device holds it; unwritten control words are masked.
    pub(super) fn word(&self, addr: u64) -> u32 {
        let default = u32::from(addr & 0xf == 12);
        self.memory.get(&addr).copied().unwrap_or(default)
    }

    pub(super) fn targets(&self) -> Vec<Option<Message>> {
        let all = self.vectors.values();
        all.flat_map(|(_, targets)| targets.iter().copied())
            .collect()
    }

    fn is_host_message(&self, address: u64, data: u32) -> bool {
        let mut live = self.vectors.values();
        address == HOST_ADDRESS && live.any(|(base, _)| *base == data)
    }

    /// Checks that no device could raise anything but a live host vector.
    pub(super) fn check_messages(&self) {
        for function in self.functions.values() {
            if let Some(at) = function.msi
                && function.get(at + 2, 2) & 1 != 0
            {
                let wide = function.get(at + 2, 2) & 0x80 != 0;
                let high = if wide { function.get(at + 8, 4) } else { 0 };
                let address = u64::from(high) << 32 | u64::from(function.get(at + 4, 4));
                let data = function.get(at + if wide { 12 } else { 8 }, 2);
                assert!(
                    self.is_host_message(address, data),
                    "MSI {address:x} {data:x}"
                );
            }
            if let Some(at) = function.msix
                && let Some(base) = function.table()
                && function.get(at + 2, 2) & 0xc000 == 0x8000
            {
                for n in 0..u64::from(function.get(at + 2, 2) & 0x7ff) + 1 {
                    let entry = base + 16 * n;
                    if self.word(entry + 12) & 1 == 0 {
                        let address =
                            u64::from(self.word(entry + 4)) << 32 | u64::from(self.word(entry));
                        let data = self.word(entry + 8);
                        assert!(
                            self.is_host_message(address, data),
                            "MSI-X {address:x} {data:x}"
                        );
                    }
                }
            }
        }
    }
}

impl PciHost for Machine {
    fn config_read(&mut self, sbdf: Sbdf, reg: u16, size: u8) -> u32 {
        assert!(super::address::is_access(reg, size) && reg < 4096);
        self.accesses += 1;
        match self.functions.get(&sbdf) {
            Some(function) => function.get(reg, size),
            None => super::claims::low_bytes(size),
        }
    }

    fn config_write(&mut self, sbdf: Sbdf, reg: u16, size: u8, value: u32) {
        assert!(super::address::is_access(reg, size) && reg < 4096);
        self.accesses += 1;
        let Some(function) = self.functions.get_mut(&sbdf) else {
            return;
        };
        for n in 0..size {
            let at = usize::from(reg) + usize::from(n);
            let mask = function.writable[at];
            function.config[at] = function.config[at] & !mask | (value >> (8 * n)) as u8 & mask;
        }
    }

    fn mmio_read(&mut self, addr: u64, size: u8) -> u64 {
        assert!(addr.is_multiple_of(u64::from(size)));
        self.forwarded.push((addr, size));
        u64::from(self.word(addr & !3)) >> (8 * (addr & 3))
    }

    fn mmio_write(&mut self, addr: u64, size: u8, value: u64) {
        assert!(addr.is_multiple_of(u64::from(size)));
        self.forwarded.push((addr, size));
        if size >= 4 {
            self.memory.insert(addr, value as u32);
        }
        if size == 8 {
            self.memory.insert(addr + 4, (value >> 32) as u32);
        }
    }

    fn map_identity(&mut self, first: Mfn, count: u64) -> bool {
        let pages = first.raw()..first.raw() + count;
        if count > 0x10_0000 || pages.clone().any(|page| self.refused.contains(&page)) {
            return false;
        }
        self.mapped.extend(pages);
        true
    }

    fn unmap_identity(&mut self, first: Mfn, count: u64) {
        self.mapped
            .retain(|page| !(first.raw()..first.raw() + count).contains(page));
    }
}

impl MsiHost for Machine {
    fn max_multiple(&self) -> u8 {
        8
    }

    fn alloc(&mut self, sbdf: Sbdf, count: u8) -> Option<HostMsi> {
        assert!(self.functions.contains_key(&sbdf) && count.is_power_of_two());
        if self.exhausted {
            return None;
        }
        self.next += 1;
        let data = self.next * 8;
        let targets = std::vec![None; usize::from(count)];
        self.vectors.insert(self.next, (data, targets));
        Some(HostMsi {
            handle: MsiHandle(self.next),
            address: HOST_ADDRESS,
            data,
        })
    }

    fn bind(&mut self, handle: MsiHandle, index: u8, target: Option<Message>) {
        let (_, targets) = self.vectors.get_mut(&handle.0).expect("bound after free");
        targets[usize::from(index)] = target;
    }

    fn free(&mut self, handle: MsiHandle) {
        assert!(self.vectors.remove(&handle.0).is_some(), "freed twice");
    }
}
