//! A machine in memory: one clock for all, CPUs that are numbers, and a list of all that was done
//! to them.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::boxed::Box;
use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard};
use std::vec::Vec;

use oxen_core::domain::{Domain, DomainBuilder, DomainConfig};
use oxen_core::seams::{
    Clock, ClockScale, Console, FrameSource, MachineInfo, Platform, PowerAction,
};
use oxen_mm::FrameTable;
use oxen_types::{CpuId, CpuMask, DomainId, MAX_CPUS, Maddr, Polarity, Result, Trigger};
use oxen_virt::{BoxedVcpu, DomainControls, VirtError};

use super::backend::{FakeBackend, Script};
use crate::host::{Cpu, Hardware, Host, Ipi, PostedTarget, Time};
use crate::{PerCpu, Vmm};

/// TSC ticks of a nanosecond.
pub(crate) const TSC_PER_NS: u64 = 2;

/// An action on the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Did {
    Window,
    Idle,
    Dispatch(u8),
    MachineCheck,
    WriteBack,
    Kick(u32),
    Nmi(u32),
    Notify(u32),
    Deadline(u64),
    Work(u32),
    Port(u16, u32),
    Route(u32, u8),
    Mask(u32),
    Unmask(u32),
}

type Hook = Box<dyn FnMut() + Send>;

pub(crate) struct Fake {
    pub(crate) frames: &'static FrameTable,
    pub(crate) virt: &'static oxen_virt::Platform,
    pub(crate) cpus: &'static [PerCpu; MAX_CPUS],
    pub(crate) now: AtomicU64,
    /// How far the clock goes on after the first look behind each window.
    pub(crate) step: AtomicU64,
    pending_step: AtomicU64,
    pub(crate) clock_is_tsc: AtomicBool,
    pub(crate) online: u32,
    did: Mutex<Vec<Did>>,
    /// Called at each turn of a wait.
    on_poll: Mutex<Option<Hook>>,
    /// Of the vcpus, in the order in which they were made.
    scripts: Mutex<Vec<Arc<Script>>>,
    vectors: AtomicU64,
}

std::thread_local! {
    static THIS_CPU: Cell<u32> = const { Cell::new(0) };
}

/// From now on this thread is that CPU.
pub(crate) fn become_cpu(cpu: u32) {
    THIS_CPU.set(cpu);
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Fake {
    pub(crate) fn new(
        frames: &'static FrameTable,
        virt: &'static oxen_virt::Platform,
        online: u32,
    ) -> Self {
        Self {
            frames,
            virt,
            cpus: Box::leak(Box::new(PerCpu::array())),
            now: AtomicU64::new(1_000),
            step: AtomicU64::new(0),
            pending_step: AtomicU64::new(0),
            clock_is_tsc: AtomicBool::new(true),
            online,
            did: Mutex::default(),
            on_poll: Mutex::default(),
            scripts: Mutex::default(),
            vectors: AtomicU64::new(0x30),
        }
    }

    /// All that was done since the last call.
    pub(crate) fn take(&self) -> Vec<Did> {
        core::mem::take(&mut *lock(&self.did))
    }

    /// As [`Fake::take`], without windows and work, which come with each turn.
    pub(crate) fn take_rare(&self) -> Vec<Did> {
        let mut did = self.take();
        did.retain(|did| !matches!(did, Did::Window | Did::Work(_)));
        did
    }

    pub(crate) fn note(&self, did: Did) {
        lock(&self.did).push(did);
    }

    pub(crate) fn set_now(&self, ns: u64) {
        self.now.store(ns, Ordering::SeqCst);
    }

    pub(crate) fn on_poll(&self, hook: impl FnMut() + Send + 'static) {
        *lock(&self.on_poll) = Some(Box::new(hook));
    }

    /// The script of the vcpu that was made at that place.
    pub(crate) fn script(&self, n: usize) -> Arc<Script> {
        lock(&self.scripts)[n].clone()
    }

    pub(crate) fn vcpus_made(&self) -> usize {
        lock(&self.scripts).len()
    }

    fn call(&self, hook: &Mutex<Option<Hook>>) {
        let taken = lock(hook).take();
        if let Some(mut act) = taken {
            act();
            lock(hook).get_or_insert(act);
        }
    }

    pub(crate) fn own(&self) -> &'static PerCpu {
        &self.cpus[THIS_CPU.get() as usize]
    }
}

/// The handle that a vmm has.
#[derive(Clone, Copy)]
pub(crate) struct FakeHost(pub(crate) &'static Fake);

pub(crate) type FakeVmm = Vmm<FakeHost>;

impl Cpu for FakeHost {
    fn this_cpu(&self) -> CpuId {
        CpuId(THIS_CPU.get())
    }

    fn window(&self) {
        let step = self.0.step.load(Ordering::SeqCst);
        self.0.pending_step.store(step, Ordering::SeqCst);
        self.0.note(Did::Window);
    }

    fn idle(&self) {
        self.0.note(Did::Idle);
    }

    fn dispatch(&self, vector: u8) {
        self.0.note(Did::Dispatch(vector));
    }

    fn raise_machine_check(&self) {
        self.0.note(Did::MachineCheck);
    }

    fn write_back_caches(&self) {
        self.0.note(Did::WriteBack);
    }

    fn random(&self) -> u64 {
        4
    }

    fn command_msr(&self, _: u32) {}
}

impl Ipi for FakeHost {
    fn online(&self) -> CpuMask {
        let mut mask = CpuMask::EMPTY;
        (0..self.0.online).for_each(|cpu| mask.add(CpuId(cpu)));
        mask
    }

    fn kick(&self, cpu: CpuId) {
        self.0.note(Did::Kick(cpu.0));
    }

    fn nmi(&self, cpu: CpuId) {
        self.0.note(Did::Nmi(cpu.0));
    }

    fn notify(&self, cpu: CpuId) {
        self.0.note(Did::Notify(cpu.0));
    }

    fn poll(&self) {
        self.0.call(&self.0.on_poll);
    }

    fn posted_target(&self) -> Option<PostedTarget> {
        Some(PostedTarget {
            vector: 0xf4,
            apic_id: THIS_CPU.get(),
            x2apic: true,
        })
    }
}

impl Time for FakeHost {
    fn now_ns(&self) -> u64 {
        self.0.now.load(Ordering::SeqCst)
    }

    fn tsc(&self) -> u64 {
        self.now_ns() * TSC_PER_NS
    }

    fn tsc_at(&self, ns: u64) -> u64 {
        ns * TSC_PER_NS
    }

    fn tsc_khz(&self) -> u32 {
        1_000_000 * TSC_PER_NS as u32
    }

    fn tsc_scale(&self) -> ClockScale {
        self.0.scale()
    }

    fn clock_name(&self) -> &'static str {
        "Tsc"
    }

    fn clock_is_tsc(&self) -> bool {
        self.0.clock_is_tsc.load(Ordering::SeqCst)
    }

    fn tsc_is_reliable(&self) -> bool {
        true
    }

    fn set_deadline(&self, ns: u64) {
        self.0.note(Did::Deadline(ns));
    }
}

impl Hardware for FakeHost {
    fn port_read(&self, _: u16, size: u8) -> u32 {
        0x1234_5678 & (u32::MAX >> (32 - 8 * u32::from(size)))
    }

    fn port_write(&self, port: u16, _: u8, value: u32) {
        self.0.note(Did::Port(port, value));
    }

    fn map_device(&self, _: Maddr) -> bool {
        true
    }

    fn mmio_read(&self, _: Maddr, _: u8) -> u64 {
        u64::MAX
    }

    fn mmio_write(&self, _: Maddr, _: u8, _: u64) {}

    fn route_gsi(&self, gsi: u32, vector: u8, _: Trigger, _: Polarity) -> bool {
        self.0.note(Did::Route(gsi, vector));
        true
    }

    fn mask_gsi(&self, gsi: u32) {
        self.0.note(Did::Mask(gsi));
    }

    fn unmask_gsi(&self, gsi: u32) {
        self.0.note(Did::Unmask(gsi));
    }

    fn alloc_vector(&self) -> Option<u8> {
        let vector = self.0.vectors.fetch_add(1, Ordering::SeqCst);
        u8::try_from(vector).ok().filter(|vector| *vector < 0xe0)
    }

    fn free_vector(&self, _: u8) {}

    fn message_destination(&self) -> Option<u8> {
        Some(0)
    }

    fn power_off(&self) -> ! {
        panic!("powered off")
    }

    fn reboot(&self) -> ! {
        panic!("rebooted")
    }
}

impl Host for FakeHost {
    fn work(&self, cpu: CpuId) {
        self.0.note(Did::Work(cpu.0));
    }

    fn new_vcpu(&self, domain: &Arc<DomainControls>) -> core::result::Result<BoxedVcpu, VirtError> {
        let script = Arc::new(Script::new(self.0));
        lock(&self.0.scripts).push(script.clone());
        let real = self.0.virt.new_vcpu(domain)?;
        Ok(Box::new(FakeBackend::new(real, script)))
    }
}

impl Clock for Fake {
    fn now(&self) -> u64 {
        let step = self.pending_step.swap(0, Ordering::SeqCst);
        self.now.fetch_add(step, Ordering::SeqCst)
    }

    fn sample(&self) -> (u64, u64) {
        (self.now() * TSC_PER_NS, self.now())
    }

    fn scale(&self) -> ClockScale {
        ClockScale {
            mul: 1 << 31,
            shift: 0,
        }
    }

    fn tsc_khz(&self) -> u32 {
        1_000_000 * TSC_PER_NS as u32
    }

    fn tsc_is_stable(&self) -> bool {
        true
    }

    fn wall_clock_base(&self) -> (u64, u32) {
        (0, 0)
    }

    fn set_wall_clock_base(&self, _: u64, _: u32) {}
}

impl Console for Fake {
    fn write(&self, _: &[u8]) {}

    fn read(&self, _: &mut [u8]) -> usize {
        0
    }

    fn read_log(&self, _: Option<u32>, _: &mut [u8]) -> (usize, u32) {
        (0, 0)
    }

    fn clear_log(&self) {}

    fn debug_key(&self, _: u8) {}
}

impl Platform for Fake {
    fn clock(&self) -> &dyn Clock {
        self
    }

    fn console(&self) -> &dyn Console {
        self
    }

    fn this_cpu(&self) -> CpuId {
        CpuId(THIS_CPU.get())
    }

    fn command_line(&self) -> &str {
        ""
    }

    fn kick(&self, cpu: CpuId) {
        if cpu != Platform::this_cpu(self) {
            self.note(Did::Kick(cpu.0));
        }
    }

    fn reschedule(&self) {
        self.own().request_reschedule();
    }

    fn reschedule_on(&self, cpu: CpuId) {
        self.cpus[cpu.index()].request_reschedule();
        Platform::kick(self, cpu);
    }

    fn reschedule_at(&self, cpu: CpuId, at: u64) {
        if self.cpus[cpu.index()].request_reschedule_at(at) {
            Platform::kick(self, cpu);
        }
    }

    fn deadline_changed(&self) {}

    fn info(&self) -> MachineInfo {
        MachineInfo {
            memory: self.frames.stats(),
            hap: true,
            shadow: true,
            ..MachineInfo::default()
        }
    }

    fn idle_ns(&self, cpu: CpuId) -> u64 {
        self.cpus[cpu.index()].idle_ns()
    }

    fn power(&self, _: PowerAction) {}

    fn guest_address_bits(&self) -> u8 {
        40
    }

    fn dom0_memory_map(&self, _: &mut dyn FnMut(u64, u64, u32)) {}
}

impl DomainBuilder for Fake {
    fn create_domain(&self, _: DomainId, _: DomainConfig, _: u64) -> Result<Arc<Domain>> {
        unreachable!("the tests make domains themselves")
    }
}
