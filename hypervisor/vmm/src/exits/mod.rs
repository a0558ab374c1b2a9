//! What the guest stopped for, and what becomes of it: one match, a handler each.

mod cpuid;
mod hypercall;
mod io;
mod memory;
mod msr;
mod paging;

use alloc::sync::Arc;

use oxen_core::vcpu::Vcpu;
use oxen_virt::dev::lapic::Effect;
use oxen_virt::emul::{self, GuestSpace, Outcome, RealMode};
use oxen_virt::x86::RFLAGS_IF;
use oxen_virt::{Event, Exit, Reg, VcpuEmulation, Window};

use crate::space::Devices;
use crate::trace;
use crate::vcpu::{Context, HvVcpu};

/// Everything about one exit.
pub struct Cx<'a> {
    pub context: &'a mut Context,
    pub hv: &'a HvVcpu,
    pub vcpu: &'a Arc<Vcpu>,
}

pub fn handle(exit: Exit, context: &mut Context, hv: &HvVcpu, vcpu: &Arc<Vcpu>) {
    context.sync_cr8();
    trace::exit(vcpu, &*context.backend, &exit);
    let mut cx = Cx { context, hv, vcpu };
    match exit {
        Exit::Settled => {}
        // The CPU's loop takes the interrupt at its next window.
        Exit::ExternalInterrupt | Exit::HostNmi => {}
        Exit::ShadowLost => halt_in_shadow(&mut cx),
        // Exits that acknowledge take what `window` would.
        Exit::TakenInterrupt(vector) => oxen_arch::irq::dispatch(vector),
        // The exit has swallowed it: the handler has to be told.
        Exit::HostMachineCheck => oxen_arch::trap::raise_machine_check(),
        Exit::InterruptWindow => cx
            .context
            .backend
            .request_interrupt_window(Window::Unwanted),
        Exit::NmiWindow => {}
        Exit::LevelEoi(vector) => memory::apply(hv, vcpu, Effect::LevelEoi(vector)),
        Exit::SelfIpi(vector) => msr::self_ipi(&mut cx, vector),
        Exit::Hypercall => hypercall::handle(&mut cx),
        Exit::Cpuid => cpuid::handle(&mut cx),
        Exit::Rdmsr => msr::read(&mut cx),
        Exit::Wrmsr => msr::write(&mut cx),
        Exit::Hlt => halt(&mut cx),
        Exit::Io(io) => io::handle(&mut cx, io),
        Exit::NestedFault(fault) => memory::handle(&mut cx, fault),
        Exit::Xsetbv => msr::xsetbv(&mut cx),
        Exit::PageFault { code, address } => paging::fault(&mut cx, code, address),
        Exit::Invlpg => paging::invlpg(&mut cx),
        Exit::ControlRegister(access) => paging::control_register(&mut cx, access),
        Exit::RealMode => real_mode(&mut cx),
        Exit::Pause => {
            let machine = vcpu.domain.machine;
            machine
                .sched
                .give_way(machine.platform.this_cpu(), machine.now());
            machine.platform.reschedule();
        }
        Exit::Invd | Exit::Wbinvd => write_back(&mut cx, &exit),
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

/// INVD and WBINVD. dom0 has devices that do not look into caches. Other guests' memory is always coherent for them,
/// and INVD would lose what others wrote.
fn write_back(cx: &mut Cx<'_>, exit: &Exit) {
    if cx.hv.hv.hardware.is_some() {
        oxen_arch::cpu::regs::wbinvd();
    }
    cx.step(exit);
}

/// A privileged instruction of a real mode that is none to the CPU.
fn real_mode(cx: &mut Cx<'_>) {
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

/// Carries out a HLT that stands behind an STI: the entry would deliver an interrupt between the two.
fn halt_in_shadow(cx: &mut Cx<'_>) {
    let halts = |backend: &mut dyn VcpuEmulation, space: &mut dyn GuestSpace| {
        backend.cpl() == 0 && emul::insn_len(backend, space, &Exit::Hlt).is_some()
    };
    if cx.with_memory(halts) {
        halt(cx);
    }
}

fn halt(cx: &mut Cx<'_>) {
    cx.step(&Exit::Hlt);
    // A single step over it: the CPU does not stay halted.
    if cx.context.backend.event_pending() {
        return;
    }
    let interrupts_on = cx.context.backend.get(Reg::Rflags) & RFLAGS_IF != 0;
    if cx.context.lapic().highest_pending().is_some() && interrupts_on {
        return;
    }
    if !interrupts_on && !cx.hv.posted.nmi_pending() {
        // Nothing but an NMI, INIT or SIPI would wake it: it is off.
        cx.vcpu.go_down();
        return;
    }
    cx.vcpu.block();
}

impl Cx<'_> {
    pub fn inject(&mut self, event: Event) {
        self.context.backend.inject(event);
    }

    /// Steps over the instruction that exited.
    pub fn step(&mut self, exit: &Exit) {
        let len = match self.context.backend.insn_len() {
            Some(len) => Some(len),
            None => self.with_memory(|backend, space| emul::insn_len(backend, space, exit)),
        };
        match len {
            Some(len) => self.context.backend.advance_rip(len),
            // The guest changed the instruction under our hands: it runs what is there now.
            None => oxen_arch::guest_log!(
                log::Level::Debug,
                "{}: no instruction at the exit {exit:?}",
                self.name()
            ),
        }
    }

    /// The vcpu with its domain's memory, without devices.
    pub fn with_memory<R>(
        &mut self,
        act: impl FnOnce(&mut dyn VcpuEmulation, &mut dyn GuestSpace) -> R,
    ) -> R {
        let (hv, vcpu) = (self.hv, self.vcpu);
        let mut none = |_, _, _| None;
        let mut space = Devices {
            domain: &vcpu.domain,
            hv: &hv.hv,
            device: &mut none,
        };
        act(&mut *self.context.backend, &mut space)
    }

    /// Does what the emulator says after an instruction.
    pub fn finish(&mut self, outcome: Outcome, what: &dyn core::fmt::Debug) {
        match outcome {
            Outcome::Done | Outcome::Retry => {}
            Outcome::Inject(event) => self.inject(event),
            Outcome::Unknown { bytes, len } => {
                let bytes = bytes.get(..len.into()).unwrap_or(&bytes);
                oxen_arch::guest_log!(
                    log::Level::Warn,
                    "{}: cannot emulate {bytes:02x?} for {what:?}",
                    self.name()
                );
                self.inject(Event::UD);
            }
        }
    }

    /// The guest cannot go on: its domain ends as crashed, with its state in the log.
    pub fn crash(&mut self, why: &str, exit: &Exit) {
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

    pub fn name(&self) -> Name {
        Name(self.vcpu.domain.id.0, self.vcpu.id.0)
    }
}

/// d1v0, as the log names a vcpu.
pub struct Name(u16, u32);

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "d{}v{}", self.0, self.1)
    }
}
