//! A machine whose clock stands still, and that remembers what it was asked to do.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::boxed::Box;
use std::sync::{Arc, Mutex, OnceLock};
use std::vec::Vec;

use oxen_types::{CpuId, DomainId, Result};

use super::arch::FakeDomain;
use super::memory::FakeMemory;
use super::{FakeFrames, heap};
use crate::domain::{Domain, DomainBuilder, DomainConfig};
use crate::machine::Machine;
use crate::seams::{Clock, ClockScale, Console, FrameSource, MachineInfo, Platform, PowerAction};

pub struct FakePlatform {
    frames: &'static FakeFrames,
    machine: OnceLock<&'static Machine>,
    cpus: u32,
    pub now: AtomicU64,
    pub this_cpu: AtomicU32,
    pub wall: Mutex<(u64, u32)>,
    pub log: Mutex<Vec<u8>>,
    pub output: Mutex<Vec<u8>>,
    pub keys: Mutex<Vec<u8>>,
    pub kicked: Mutex<Vec<CpuId>>,
    pub rescheduled: Mutex<Vec<CpuId>>,
    pub rescheduled_at: Mutex<Vec<(CpuId, u64)>>,
    pub power: Mutex<Option<PowerAction>>,
    /// New domains fail to make their vcpus from this number on.
    pub fails_from: Mutex<Option<u32>>,
}

impl FakePlatform {
    pub fn new(frames: &'static FakeFrames, cpus: u32) -> Self {
        Self {
            frames,
            machine: OnceLock::new(),
            cpus,
            now: AtomicU64::new(1_000),
            this_cpu: AtomicU32::new(0),
            wall: Mutex::default(),
            log: Mutex::default(),
            output: Mutex::default(),
            keys: Mutex::default(),
            kicked: Mutex::default(),
            rescheduled: Mutex::default(),
            rescheduled_at: Mutex::default(),
            power: Mutex::default(),
            fails_from: Mutex::default(),
        }
    }

    pub fn attach(&self, machine: &'static Machine) {
        assert!(self.machine.set(machine).is_ok(), "one machine");
    }

    pub fn set_now(&self, now: u64) {
        self.now.store(now, Ordering::SeqCst);
    }
}

impl Clock for FakePlatform {
    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    fn sample(&self) -> (u64, u64) {
        (self.now() * 2, self.now())
    }

    fn scale(&self) -> ClockScale {
        ClockScale {
            mul: 1 << 31,
            shift: 0,
        }
    }

    fn tsc_khz(&self) -> u32 {
        2_000_000
    }

    fn tsc_is_stable(&self) -> bool {
        true
    }

    fn wall_clock_base(&self) -> (u64, u32) {
        *heap::lock(&self.wall)
    }

    fn set_wall_clock_base(&self, seconds: u64, nanoseconds: u32) {
        *heap::lock(&self.wall) = (seconds, nanoseconds);
    }
}

impl Console for FakePlatform {
    fn write(&self, bytes: &[u8]) {
        heap::lock(&self.output).extend_from_slice(bytes);
    }

    fn read(&self, _: &mut [u8]) -> usize {
        0
    }

    fn read_log(&self, index: Option<u32>, into: &mut [u8]) -> (usize, u32) {
        let log = heap::lock(&self.log);
        let at = (index.unwrap_or(0) as usize).min(log.len());
        let count = into.len().min(log.len() - at);
        into[..count].copy_from_slice(&log[at..at + count]);
        (count, (at + count) as u32)
    }

    fn clear_log(&self) {
        heap::lock(&self.log).clear();
    }

    fn debug_key(&self, key: u8) {
        heap::lock(&self.keys).push(key);
    }
}

impl Platform for FakePlatform {
    fn clock(&self) -> &dyn Clock {
        self
    }

    fn console(&self) -> &dyn Console {
        self
    }

    fn this_cpu(&self) -> CpuId {
        CpuId(self.this_cpu.load(Ordering::SeqCst))
    }

    fn command_line(&self) -> &str {
        "a command line"
    }

    fn kick(&self, cpu: CpuId) {
        heap::lock(&self.kicked).push(cpu);
    }

    fn reschedule(&self) {
        self.reschedule_on(self.this_cpu());
    }

    fn reschedule_on(&self, cpu: CpuId) {
        heap::lock(&self.rescheduled).push(cpu);
    }

    fn reschedule_at(&self, cpu: CpuId, at: u64) {
        heap::lock(&self.rescheduled_at).push((cpu, at));
    }

    fn deadline_changed(&self) {}

    fn info(&self) -> MachineInfo {
        MachineInfo {
            cpus: self.cpus,
            threads_per_core: 1,
            cores_per_socket: self.cpus,
            cpu_khz: 2_000_000,
            hw_cap: [0; 8],
            memory: self.frames.stats(),
            hap: true,
            shadow: true,
        }
    }

    fn idle_ns(&self, cpu: CpuId) -> u64 {
        1_000 + u64::from(cpu.0)
    }

    fn power(&self, action: PowerAction) {
        *heap::lock(&self.power) = Some(action);
    }

    fn guest_address_bits(&self) -> u8 {
        40
    }

    fn dom0_memory_map(&self, visit: &mut dyn FnMut(u64, u64, u32)) {
        visit(0, 0x10_0000, 1);
    }
}

impl DomainBuilder for FakePlatform {
    fn create_domain(
        &self,
        id: DomainId,
        config: DomainConfig,
        max_frames: u64,
    ) -> Result<Arc<Domain>> {
        let machine = self.machine.get().expect("a machine");
        let quiet = heap::quiet();
        let memory = Box::new(FakeMemory::new(self.frames, id, max_frames));
        let arch = Box::new(FakeDomain::new(*heap::lock(&self.fails_from)));
        drop(quiet);
        let domain = Domain::new(machine, id, config, memory, arch)?;
        domain.create_vcpus()?;
        Ok(domain)
    }
}
