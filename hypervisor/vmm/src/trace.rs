//! Tracing of exits and hypercalls: off but for what `trace=` on the command line or the debug key
//! `t` switches on.

use core::sync::atomic::{AtomicBool, Ordering};

use oxen_core::hypercall::Outcome;
use oxen_core::vcpu::Vcpu;
use oxen_virt::{Exit, Gprs, Reg, VcpuRegisters};

/// Which of them are traced.
#[derive(Default)]
pub struct Trace {
    exits: AtomicBool,
    hypercalls: AtomicBool,
}

impl Trace {
    /// `trace=` on the command line: a list of `exits` and `hypercalls`.
    pub fn configure(&self, words: &str) {
        for word in words.split(',') {
            match word {
                "exits" => self.exits.store(true, Ordering::Relaxed),
                "hypercalls" => self.hypercalls.store(true, Ordering::Relaxed),
                other => log::warn!("trace={other} is not known: exits, hypercalls"),
            }
        }
    }

    /// The debug key: off, hypercalls, everything, off.
    pub fn cycle(&self) {
        let (exits, calls) = (
            self.exits.load(Ordering::Relaxed),
            self.hypercalls.load(Ordering::Relaxed),
        );
        let (exits, calls) = match (exits, calls) {
            (false, false) => (false, true),
            (false, true) => (true, true),
            _ => (false, false),
        };
        self.exits.store(exits, Ordering::Relaxed);
        self.hypercalls.store(calls, Ordering::Relaxed);
        log::info!("tracing: hypercalls {calls}, exits {exits}");
    }

    pub(crate) fn exit(&self, vcpu: &Vcpu, backend: &dyn VcpuRegisters, exit: &Exit) {
        if self.exits.load(Ordering::Relaxed) {
            log::info!(
                "d{}v{} rip {:#x} {exit:?}",
                vcpu.domain.id,
                vcpu.id,
                backend.get(Reg::Rip)
            );
        }
    }

    pub(crate) fn hypercall(&self, vcpu: &Vcpu, regs: &Gprs, outcome: &Outcome) {
        if self.hypercalls.load(Ordering::Relaxed) {
            let entry = oxen_core::dispatch::TABLE
                .iter()
                .find(|entry| u64::from(entry.number) == regs.rax);
            let name = entry.map_or("?", |entry| entry.name);
            log::info!(
                "d{}v{} {name}({}) {:#x}, {:#x}, {:#x} -> {outcome:x?}",
                vcpu.domain.id,
                vcpu.id,
                regs.rax,
                regs.rdi,
                regs.rsi,
                regs.rdx
            );
        }
    }
}
