//! A back end whose runs are a script: the registers and events are a real one's, which never runs.

use core::fmt;
use std::boxed::Box;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use oxen_types::Maddr;
use oxen_virt::fpu::Fpu;
use oxen_virt::{
    ApicAssist, BoxedVcpu, Event, Execution, Exit, Gprs, PhysCpu, Reg, RunDeadline, SegReg,
    Segment, ShadowRoots, VcpuBackend, VcpuEmulation, VcpuEvents, VcpuRegisters, Window,
};

use super::host::{Fake, lock};

/// An action of the vmm on the back end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Load,
    Unload,
    Run,
    FlushTlb,
    Inject(Event),
    Window(Window),
    Advance(u8),
    Leave(Option<u64>),
    Reset(bool),
}

type Step = Box<dyn FnOnce(&mut BoxedVcpu) -> Exit + Send>;

/// The runs that a vcpu will have, and a list of all that was done to it.
pub(crate) struct Script {
    fake: &'static Fake,
    steps: Mutex<VecDeque<Step>>,
    acts: Mutex<Vec<Act>>,
    /// Whether the back end has a timer that ends a run.
    pub(crate) has_deadline: Mutex<bool>,
}

impl Script {
    pub(crate) fn new(fake: &'static Fake) -> Self {
        Self {
            fake,
            steps: Mutex::default(),
            acts: Mutex::default(),
            has_deadline: Mutex::default(),
        }
    }

    /// The next run does this to the guest, and ends so. After the last the CPU is made to ask the
    /// scheduler.
    pub(crate) fn then(&self, step: impl FnOnce(&mut BoxedVcpu) -> Exit + Send + 'static) {
        lock(&self.steps).push_back(Box::new(step));
    }

    pub(crate) fn exits(&self, exit: Exit) {
        self.then(move |_| exit);
    }

    /// All that was done since the last call.
    pub(crate) fn take(&self) -> Vec<Act> {
        core::mem::take(&mut *lock(&self.acts))
    }

    /// As [`Script::take`]: what was injected.
    pub(crate) fn injected(&self) -> Vec<Event> {
        let inject = |act| match act {
            Act::Inject(event) => Some(event),
            _ => None,
        };
        self.take().into_iter().filter_map(inject).collect()
    }

    fn note(&self, act: Act) {
        lock(&self.acts).push(act);
    }
}

pub(crate) struct FakeBackend {
    real: BoxedVcpu,
    script: Arc<Script>,
    timer: Timer,
}

struct Timer(Arc<Script>);

impl RunDeadline for Timer {
    fn set_deadline(&mut self, tsc: Option<u64>) {
        self.0.note(Act::Leave(tsc));
    }
}

impl FakeBackend {
    pub(crate) fn new(real: BoxedVcpu, script: Arc<Script>) -> Self {
        let timer = Timer(script.clone());
        Self {
            real,
            script,
            timer,
        }
    }
}

impl VcpuRegisters for FakeBackend {
    fn gprs(&self) -> &Gprs {
        self.real.gprs()
    }

    fn gprs_mut(&mut self) -> &mut Gprs {
        self.real.gprs_mut()
    }

    fn get(&self, reg: Reg) -> u64 {
        self.real.get(reg)
    }

    fn set(&mut self, reg: Reg, value: u64) {
        self.real.set(reg, value);
    }

    fn segment(&self, reg: SegReg) -> Segment {
        self.real.segment(reg)
    }

    fn set_segment(&mut self, reg: SegReg, segment: Segment) {
        self.real.set_segment(reg, segment);
    }

    fn cpl(&self) -> u8 {
        self.real.cpl()
    }

    fn execution(&self) -> Execution {
        self.real.execution()
    }

    fn fpu(&self) -> &Fpu {
        self.real.fpu()
    }

    fn fpu_mut(&mut self) -> &mut Fpu {
        self.real.fpu_mut()
    }

    fn tsc_offset(&self) -> u64 {
        self.real.tsc_offset()
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.real.set_tsc_offset(offset);
    }
}

impl VcpuEmulation for FakeBackend {
    fn insn_len(&self) -> Option<u8> {
        Some(3)
    }

    fn insn_bytes(&self) -> &[u8] {
        self.real.insn_bytes()
    }

    fn advance_rip(&mut self, len: u8) {
        self.script.note(Act::Advance(len));
        self.real.advance_rip(len);
    }

    fn flush_tlb(&mut self) {
        self.script.note(Act::FlushTlb);
        self.real.flush_tlb();
    }
}

impl VcpuEvents for FakeBackend {
    fn inject(&mut self, event: Event) {
        self.script.note(Act::Inject(event));
        self.real.inject(event);
    }

    fn pending_event(&self) -> Option<Event> {
        self.real.pending_event()
    }

    fn event_pending(&self) -> bool {
        self.real.event_pending()
    }

    fn can_take_interrupt(&self) -> bool {
        self.real.can_take_interrupt()
    }

    fn can_take_nmi(&self) -> bool {
        self.real.can_take_nmi()
    }

    fn request_interrupt_window(&mut self, window: Window) {
        self.script.note(Act::Window(window));
        self.real.request_interrupt_window(window);
    }
}

impl VcpuBackend for FakeBackend {
    fn load(&mut self, _: &mut PhysCpu) {
        self.script.note(Act::Load);
    }

    fn unload(&mut self, _: &mut PhysCpu) {
        self.script.note(Act::Unload);
    }

    fn run(&mut self, _: &mut PhysCpu) -> Exit {
        self.script.note(Act::Run);
        let step = lock(&self.script.steps).pop_front();
        match step {
            Some(step) => step(&mut self.real),
            None => {
                self.script.fake.own().request_reschedule();
                Exit::ExternalInterrupt
            }
        }
    }

    fn apic_assist(&mut self) -> Option<&mut dyn ApicAssist> {
        None
    }

    fn run_deadline(&mut self) -> Option<&mut dyn RunDeadline> {
        let has = *lock(&self.script.has_deadline);
        has.then_some(&mut self.timer as &mut dyn RunDeadline)
    }

    fn set_nested_root(&mut self, root: Maddr) {
        self.real.set_nested_root(root);
    }

    fn set_shadow_roots(&mut self, roots: ShadowRoots) {
        self.real.set_shadow_roots(roots);
    }

    fn move_shadow_roots(&mut self, roots: ShadowRoots) {
        self.real.move_shadow_roots(roots);
    }

    fn reset(&mut self, cold: bool) {
        self.script.note(Act::Reset(cold));
        self.real.reset(cold);
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.real.dump(f)
    }
}
