//! Exits of the guest: one match, with a handler for each reason.

mod cpuid;
mod hypercall;
mod io;
mod memory;
mod msr;
mod paging;

use alloc::sync::Arc;

use oxen_core::vcpu::Vcpu;
use oxen_virt::dev::lapic::Effect;
use oxen_virt::emul::{self, EmulOutcome, PhysAccess, RealMode};
use oxen_virt::x86::RFLAGS_IF;
use oxen_virt::{Event, Exit, Reg, VcpuEmulation, Window};

use crate::deliver;
use crate::guest_log;
use crate::host::Host;
use crate::runner::{Phys, Runner};
use crate::space::Devices;
use crate::vcpu::{Context, HvmVcpu};

/// A vcpu with its context, on the CPU that runs it: the handler context of its exits.
pub(crate) struct Cx<'a, H: Host> {
    pub(crate) context: &'a mut Context,
    pub(crate) hvm: &'a HvmVcpu<H>,
    pub(crate) vcpu: &'a Arc<Vcpu>,
}

impl<H: Host> Runner for Cx<'_, H> {
    type Exit = Exit;

    fn load(&mut self, phys: &mut Phys) {
        self.hvm.apply_tsc(self.context);
        let host = &self.hvm.domain.vmm.host;
        self.context.load(phys, || host.posted_target());
    }

    fn unload(&mut self, phys: &mut Phys) {
        self.context.unload(phys);
    }

    fn prepare(&mut self, now: u64) -> bool {
        deliver::prepare(self, now)
    }

    fn set_deadline(&mut self, at: impl FnOnce() -> Option<u64>) -> bool {
        let Some((timer, tsc_at)) = self.context.run_deadline() else {
            return false;
        };
        let time = &self.hvm.domain.vmm.host;
        timer.set_deadline(at().map(|ns| tsc_at.get(ns, time)));
        true
    }

    fn catch_up(&mut self) {
        let generation = self.hvm.domain.flush.generation();
        if self.context.flushed != generation {
            self.context.flush_translations();
            self.context.flushed = generation;
        }
    }

    fn is_ready(&self) -> bool {
        let domain = &self.hvm.domain;
        match (&self.context.shadow, &domain.shadow) {
            (Some(shadow), Some(shared)) => {
                let paging = self.context.backend.execution().paging(domain.limits());
                shadow.is_ready(shared, &paging)
            }
            _ => true,
        }
    }

    fn make_ready(&mut self) {
        let (domain, memory) = (&self.hvm.domain, &*self.vcpu.domain.memory);
        let context = &mut *self.context;
        if let (Some(shadow), Some(shared)) = (&mut context.shadow, &domain.shadow) {
            let paging = context.backend.execution().paging(domain.limits());
            if let Some(roots) = shadow.prepare(shared, memory, &paging) {
                context.backend.move_shadow_roots(roots);
            }
            context.backend.flush_tlb();
        }
    }

    fn enter(&mut self, phys: &mut Phys) -> Exit {
        match phys {
            Some(phys) => self.context.backend.run(phys),
            None => Exit::InvalidState,
        }
    }

    fn handle(&mut self, exit: Exit) {
        handle(exit, self);
    }
}

/// Does what an exit asks for.
fn handle<H: Host>(exit: Exit, cx: &mut Cx<'_, H>) {
    cx.context.sync_cr8();
    let vmm = cx.hvm.domain.vmm;
    vmm.trace.exit(cx.vcpu, &*cx.context.backend, &exit);
    match exit {
        Exit::Settled => {}
        // The CPU's loop takes the interrupt at its next window.
        Exit::ExternalInterrupt | Exit::HostNmi => {}
        Exit::ShadowLost => halt_in_shadow(cx),
        // Exits that acknowledge take what `window` would.
        Exit::TakenInterrupt(vector) => vmm.host.dispatch(vector),
        // The exit has swallowed it: the handler has to be told.
        Exit::HostMachineCheck => vmm.host.raise_machine_check(),
        Exit::InterruptWindow => cx
            .context
            .backend
            .request_interrupt_window(Window::Unwanted),
        Exit::NmiWindow => {}
        Exit::LevelEoi(vector) => memory::apply(cx.hvm, cx.vcpu, Effect::LevelEoi(vector)),
        Exit::SelfIpi(vector) => msr::self_ipi(cx, vector),
        Exit::Hypercall => hypercall::handle(cx),
        Exit::Cpuid => cpuid::handle(cx),
        Exit::Rdmsr => msr::read(cx),
        Exit::Wrmsr => msr::write(cx),
        Exit::Hlt => halt(cx),
        Exit::Io(io) => io::handle(cx, io),
        Exit::NestedFault(fault) => memory::handle(cx, fault),
        Exit::Xsetbv => msr::xsetbv(cx),
        Exit::PageFault { code, address } => paging::fault(cx, code, address),
        Exit::Invlpg => paging::invlpg(cx),
        Exit::ControlRegister(access) => paging::control_register(cx, access),
        Exit::RealMode => real_mode(cx),
        Exit::Pause => {
            let cpu = vmm.host.this_cpu();
            vmm.machine.sched.give_way(cpu, vmm.machine.now());
            vmm.cpu(cpu).request_reschedule();
        }
        Exit::Invd | Exit::Wbinvd => write_back(cx, &exit),
        Exit::Rdpmc => cx.inject(Event::GP),
        Exit::Monitor | Exit::Mwait | Exit::VirtInstruction | Exit::Rdpru => cx.inject(Event::UD),
        Exit::Icebp => {
            cx.step(&exit);
            cx.inject(Event::DB);
        }
        Exit::TaskSwitch => cx.crash("no hardware task switches are offered:", &exit),
        Exit::Exception { .. }
        | Exit::InvalidState
        | Exit::ForeignRoot(_)
        | Exit::Unknown { .. } => cx.crash("stopped by", &exit),
        Exit::Shutdown => cx.crash("triple fault:", &exit),
    }
}

/// INVD and WBINVD. dom0 has devices that do not look into caches. Other guests' memory is always
/// coherent for them, and INVD would lose what others wrote.
fn write_back<H: Host>(cx: &mut Cx<'_, H>, exit: &Exit) {
    if cx.hvm.domain.devices.is_some() {
        cx.hvm.domain.vmm.host.write_back_caches();
    }
    cx.step(exit);
}

/// A privileged instruction of a real mode that is none to the CPU.
fn real_mode<H: Host>(cx: &mut Cx<'_, H>) {
    match cx.with_memory(emul::real_mode) {
        RealMode::Done => {}
        RealMode::Exit(Exit::Rdmsr) => msr::read(cx),
        RealMode::Exit(Exit::Wrmsr) => msr::write(cx),
        RealMode::Exit(Exit::Hlt) => halt(cx),
        RealMode::Exit(exit) => write_back(cx, &exit),
        RealMode::Unknown(bytes) => {
            log::error!("{}: not emulated in real mode: {bytes:02x?}", cx.name());
            cx.crash("stopped by", &Exit::RealMode);
        }
    }
}

/// Carries out a HLT that stands behind an STI: the entry would deliver an interrupt between the
/// two.
fn halt_in_shadow<H: Host>(cx: &mut Cx<'_, H>) {
    let halts = |backend: &mut dyn VcpuEmulation, space: &mut dyn PhysAccess| {
        backend.cpl() == 0 && emul::insn_len(backend, space, &Exit::Hlt).is_some()
    };
    if cx.with_memory(halts) {
        halt(cx);
    }
}

fn halt<H: Host>(cx: &mut Cx<'_, H>) {
    cx.step(&Exit::Hlt);
    // A single step over it: the CPU does not stay halted.
    if cx.context.backend.event_pending() {
        return;
    }
    let interrupts_on = cx.context.backend.get(Reg::Rflags) & RFLAGS_IF != 0;
    if cx.context.lapic().highest_pending().is_some() && interrupts_on {
        return;
    }
    if !interrupts_on && !cx.hvm.posted.nmi_pending() {
        // Nothing but an NMI, INIT or SIPI would wake it: it is off.
        cx.vcpu.go_down();
        return;
    }
    cx.vcpu.block();
}

impl<H: Host> Cx<'_, H> {
    pub(crate) fn inject(&mut self, event: Event) {
        self.context.backend.inject(event);
    }

    /// Steps over the instruction that exited.
    pub(crate) fn step(&mut self, exit: &Exit) {
        let len = match self.context.backend.insn_len() {
            Some(len) => Some(len),
            None => self.with_memory(|backend, space| emul::insn_len(backend, space, exit)),
        };
        match len {
            Some(len) => self.context.backend.advance_rip(len),
            // The guest changed the instruction under our hands: it runs what is there now.
            None => guest_log!(
                log::Level::Debug,
                "{}: no instruction at the exit {exit:?}",
                self.name()
            ),
        }
    }

    /// The vcpu with its domain's memory, without devices.
    pub(crate) fn with_memory<R>(
        &mut self,
        act: impl FnOnce(&mut dyn VcpuEmulation, &mut dyn PhysAccess) -> R,
    ) -> R {
        let mut none = |_, _, _| None;
        let mut space = Devices {
            domain: &self.vcpu.domain,
            limits: self.hvm.domain.limits(),
            device: &mut none,
        };
        act(&mut *self.context.backend, &mut space)
    }

    /// Does what the emulator says after an instruction.
    pub(crate) fn finish(&mut self, outcome: EmulOutcome, what: &dyn core::fmt::Debug) {
        match outcome {
            EmulOutcome::Done | EmulOutcome::Retry => {}
            EmulOutcome::Inject(event) => self.inject(event),
            EmulOutcome::Unknown { bytes, len } => {
                let bytes = bytes.get(..len.into()).unwrap_or(&bytes);
                guest_log!(
                    log::Level::Warn,
                    "{}: cannot emulate {bytes:02x?} for {what:?}",
                    self.name()
                );
                self.inject(Event::UD);
            }
        }
    }

    /// The guest cannot go on: its domain ends as crashed, with its state in the log.
    pub(crate) fn crash(&mut self, why: &str, exit: &Exit) {
        log::error!(
            "{} crashed, {why} {exit:?}\n{:?}",
            self.name(),
            &*self.context.backend
        );
        let domain = &self.vcpu.domain;
        domain
            .shutdown(guest_pv_abi::SHUTDOWN_CRASH)
            .perform(domain);
    }

    pub(crate) fn name(&self) -> Name {
        Name(self.vcpu.domain.id.0, self.vcpu.id.0)
    }
}

/// d1v0, as the log names a vcpu.
pub(crate) struct Name(u16, u32);

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "d{}v{}", self.0, self.1)
    }
}
