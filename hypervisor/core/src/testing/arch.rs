//! Processors that remember what was done to them.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use guest_pv_abi::{CpuidLeaf, MsrEntry};
use oxen_types::{Errno, Result, VcpuId};

use super::heap;
use crate::vcpu::Vcpu;
use crate::vcpu::{DomainArch, PostedStart, VcpuArch};

/// Records that a vcpu has, and their sizes: CPU, LAPIC registers, MTRR.
const RECORDS: [(u16, usize); 3] = [(2, 1032), (6, 1024), (14, 240)];

pub struct FakeVcpu {
    pub vectors: Mutex<Vec<u8>>,
    pub nmis: AtomicU32,
    pub deliverable: AtomicBool,
    pub posted: Mutex<PostedStart>,
    records: Mutex<BTreeMap<u16, Vec<u8>>>,
}

impl FakeVcpu {
    fn new() -> Self {
        Self {
            vectors: Mutex::default(),
            nmis: AtomicU32::new(0),
            deliverable: AtomicBool::new(false),
            posted: Mutex::default(),
            records: Mutex::new(RECORDS.map(|(kind, len)| (kind, std::vec![0; len])).into()),
        }
    }

    /// The vectors posted since the last call.
    pub fn take_vectors(&self) -> Vec<u8> {
        core::mem::take(&mut *heap::lock(&self.vectors))
    }
}

impl VcpuArch for FakeVcpu {
    fn run(&self, _: &Arc<Vcpu>, _: u64) {}

    fn start_pvh(&self, _: u32, _: u32) -> Result<()> {
        Ok(())
    }

    fn as_fake(&self) -> &FakeVcpu {
        self
    }

    fn post_vector(&self, vector: u8) {
        heap::lock(&self.vectors).push(vector);
    }

    fn post_nmi(&self) {
        self.nmis.fetch_add(1, Ordering::SeqCst);
    }

    fn posted_start(&self) -> PostedStart {
        *self.posted.lock().expect("posted")
    }

    fn tsc_offset(&self) -> u64 {
        0
    }

    fn has_deliverable_event(&self) -> bool {
        self.deliverable.load(Ordering::SeqCst)
    }

    fn save(&self, kind: u16, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let records = heap::lock(&self.records);
        let record = records.get(&kind).ok_or(Errno::NoEnt)?.clone();
        drop(records);
        write(&record)
    }

    fn load(&self, kind: u16, record: &[u8]) -> Result<()> {
        let mut records = heap::lock(&self.records);
        let old = records.get_mut(&kind).ok_or(Errno::NoEnt)?;
        if old.len() != record.len() {
            return Err(Errno::NoData);
        }
        *old = record.to_vec();
        Ok(())
    }

    fn load_start_context(&self, context: &[u8]) -> Result<()> {
        if context.first() == Some(&0xff) {
            return Err(Errno::Inval);
        }
        Ok(())
    }
}

#[derive(Default)]
pub struct FakeDomain {
    leaves: Mutex<Vec<u8>>,
    /// The first vcpu number whose creation fails.
    pub fails_from: Option<u32>,
}

impl FakeDomain {
    pub fn new(fails_from: Option<u32>) -> Self {
        let leaves: [[u32; 6]; 2] = [
            [0, u32::MAX, 1, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
            [1, u32::MAX, 0x0080_0f12, 0, 0, 0],
        ];
        let bytes = leaves.iter().flatten().flat_map(|w| w.to_le_bytes());
        Self {
            leaves: Mutex::new(bytes.collect()),
            fails_from,
        }
    }
}

impl DomainArch for FakeDomain {
    fn dump(&self, _: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }

    fn new_vcpu(&self, id: VcpuId) -> Result<Box<dyn VcpuArch>> {
        if self.fails_from.is_some_and(|first| id.0 >= first) {
            return Err(Errno::NoMem);
        }
        let _quiet = heap::quiet();
        Ok(Box::new(FakeVcpu::new()))
    }

    fn set_cpuid(&self, leaves: &[u8]) -> Result<()> {
        if leaves.starts_with(&[0xff; 4]) {
            return Err(Errno::Inval);
        }
        *heap::lock(&self.leaves) = leaves.to_vec();
        Ok(())
    }

    fn cpuid(&self, visit: &mut dyn FnMut(&CpuidLeaf) -> Result<()>) -> Result<()> {
        let leaves = heap::lock(&self.leaves).clone();
        let mut rest = leaves.as_slice();
        while let Some((leaf, tail)) = guest_pv_abi::take_first::<CpuidLeaf>(rest) {
            visit(&leaf)?;
            rest = tail;
        }
        Ok(())
    }

    fn set_msrs(&self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn msrs(&self, _: &mut dyn FnMut(&MsrEntry) -> Result<()>) -> Result<()> {
        Ok(())
    }
}
