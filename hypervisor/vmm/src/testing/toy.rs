//! A guest CPU of a second kind: it has no virtualization hardware, and its exits are words of its
//! own.

use std::boxed::Box;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use guest_pv_abi::{CpuidLeaf, MsrEntry};
use oxen_core::domain::Domain;
use oxen_core::vcpu::{DomainArch, Hold, PostedStart, Vcpu, VcpuArch};
use oxen_mm::GuestSpace;
use oxen_mm::p2m::{Rules, SpaceConfig};
use oxen_mm::pt::Npt;
use oxen_types::{DomainId, Errno, Result, VcpuId};

use super::Lab;
use super::host::{FakeVmm, lock};
use crate::flush::{Flush, FlushHandle};
use crate::run;
use crate::runner::{Phys, Runner};

/// Why a toy's guest was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ToyExit {
    /// The toy yields the CPU.
    Yield,
    /// The toy waits for an event.
    Wait,
}

/// A step of the loop with a toy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Load,
    Unload,
    Prepare,
    /// With whether the CPU counted as inside.
    CatchUp(bool),
    Ready(bool),
    MakeReady(bool),
    Enter(bool),
    Handle(ToyExit),
}

pub(crate) struct ToyState {
    pub(crate) steps: Mutex<Vec<Step>>,
    pub(crate) exits: Mutex<VecDeque<ToyExit>>,
    /// How often its tables are not ready before they are.
    pub(crate) unready: AtomicU32,
    /// The result of [`Runner::prepare`].
    pub(crate) can_run: Mutex<bool>,
}

impl ToyState {
    pub(crate) fn take(&self) -> Vec<Step> {
        core::mem::take(&mut *lock(&self.steps))
    }
}

struct ToyVcpu {
    vmm: &'static FakeVmm,
    flush: Arc<Flush>,
    state: Arc<ToyState>,
}

struct ToyRunner<'a> {
    toy: &'a ToyVcpu,
    vcpu: &'a Arc<Vcpu>,
}

impl ToyRunner<'_> {
    fn note(&self, step: Step) {
        lock(&self.toy.state.steps).push(step);
    }

    fn is_inside(&self) -> bool {
        let own = self.toy.vmm.this_cpu();
        own.inside(self.vcpu.domain.id).is_some()
    }
}

impl Runner for ToyRunner<'_> {
    type Exit = ToyExit;

    fn load(&mut self, _: &mut Phys) {
        self.note(Step::Load);
    }

    fn unload(&mut self, _: &mut Phys) {
        self.note(Step::Unload);
    }

    fn prepare(&mut self, _: u64) -> bool {
        self.note(Step::Prepare);
        *lock(&self.toy.state.can_run)
    }

    fn set_deadline(&mut self, _: impl FnOnce() -> Option<u64>) -> bool {
        false
    }

    fn catch_up(&mut self) {
        self.note(Step::CatchUp(self.is_inside()));
        self.toy.flush.generation();
    }

    fn is_ready(&self) -> bool {
        self.note(Step::Ready(self.is_inside()));
        self.toy.state.unready.load(Ordering::SeqCst) == 0
    }

    fn make_ready(&mut self) {
        self.note(Step::MakeReady(self.is_inside()));
        self.toy.state.unready.fetch_sub(1, Ordering::SeqCst);
    }

    fn enter(&mut self, _: &mut Phys) -> ToyExit {
        self.note(Step::Enter(self.is_inside()));
        let exit = lock(&self.toy.state.exits).pop_front();
        exit.unwrap_or(ToyExit::Yield)
    }

    fn handle(&mut self, exit: ToyExit) {
        self.note(Step::Handle(exit));
        match exit {
            ToyExit::Yield => self.toy.vmm.this_cpu().request_reschedule(),
            ToyExit::Wait => self.vcpu.block(),
        }
    }
}

impl VcpuArch for ToyVcpu {
    fn run(&self, vcpu: &Arc<Vcpu>, slice_end: u64) {
        let mut runner = ToyRunner { toy: self, vcpu };
        run::run(self.vmm, vcpu, &mut runner, slice_end);
    }

    fn post_vector(&self, _: u8) {}

    fn post_nmi(&self) {}

    fn posted_start(&self) -> PostedStart {
        PostedStart::default()
    }

    fn tsc_offset(&self) -> u64 {
        0
    }

    fn has_deliverable_event(&self) -> bool {
        false
    }

    fn save(&self, _: u16, _: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        Err(Errno::NoEnt)
    }

    fn load(&self, _: u16, _: &[u8]) -> Result<()> {
        Err(Errno::NoEnt)
    }

    fn load_start_context(&self, _: &[u8]) -> Result<()> {
        Err(Errno::OpNotSupp)
    }

    fn start_pvh(&self, _: u32, _: u32) -> Result<()> {
        Err(Errno::OpNotSupp)
    }
}

struct ToyDomain {
    vmm: &'static FakeVmm,
    flush: Arc<Flush>,
    state: Arc<ToyState>,
}

impl DomainArch for ToyDomain {
    fn new_vcpu(&self, _: VcpuId) -> Result<Box<dyn VcpuArch>> {
        Ok(Box::new(ToyVcpu {
            vmm: self.vmm,
            flush: self.flush.clone(),
            state: self.state.clone(),
        }))
    }

    fn set_cpuid(&self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn set_msrs(&self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn cpuid(&self, _: &mut dyn FnMut(&CpuidLeaf) -> Result<()>) -> Result<()> {
        Ok(())
    }

    fn msrs(&self, _: &mut dyn FnMut(&MsrEntry) -> Result<()>) -> Result<()> {
        Ok(())
    }

    fn dump(&self, _: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

pub(crate) struct Toy {
    pub(crate) domain: Arc<Domain>,
    pub(crate) state: Arc<ToyState>,
}

impl Toy {
    pub(crate) fn vcpu(&self) -> Arc<Vcpu> {
        self.domain.vcpu(0).expect("it has one")
    }
}

impl Lab {
    /// A started domain of one vcpu of that kind.
    pub(crate) fn toy(&self) -> Toy {
        let id = DomainId(7);
        let flush = Flush::new(id, self.vmm, false);
        let space = SpaceConfig {
            owner: id,
            identity: false,
            address_bits: 40,
            max_frames: 16,
            pool_pages: 64,
            rules: Rules {
                large_exec: true,
                guest_pat: false,
            },
        };
        let handle = Box::new(FlushHandle(flush.clone()));
        let memory = GuestSpace::<Npt>::new(self.vmm.frames, space, handle).expect("memory");
        let state = Arc::new(ToyState {
            steps: Mutex::default(),
            exits: Mutex::default(),
            unready: AtomicU32::new(0),
            can_run: Mutex::new(true),
        });
        let arch = ToyDomain {
            vmm: self.vmm,
            flush,
            state: state.clone(),
        };
        let config = super::config(1, false);
        let machine = self.vmm.machine;
        let domain = Domain::new(machine, id, config, Box::new(memory), Box::new(arch))
            .expect("memory for a domain");
        domain.create_vcpus().expect("memory for a vcpu");
        machine.insert(domain.clone()).expect("room");
        let vcpu = domain.vcpu(0).expect("it has one");
        vcpu.release(Hold::Down);
        domain.unpause().expect("its first start");
        self.fake.take();
        Toy { domain, state }
    }
}
