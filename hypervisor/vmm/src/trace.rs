//! Tracing of exits and hypercalls: off but for what `trace=` on the command line or the debug key `t`
//! switches on.

use core::sync::atomic::{AtomicBool, Ordering};

use oxen_core::hypercall::Outcome;
use oxen_core::vcpu::Vcpu;
use oxen_virt::{Exit, Gprs, Reg, VcpuRegisters};

static EXITS: AtomicBool = AtomicBool::new(false);
static HYPERCALLS: AtomicBool = AtomicBool::new(false);

pub fn configure(words: &str) {
    for word in words.split(',') {
        match word {
            "exits" => EXITS.store(true, Ordering::Relaxed),
            "hypercalls" => HYPERCALLS.store(true, Ordering::Relaxed),
            other => log::warn!("trace={other} is not known: exits, hypercalls"),
        }
    }
}

/// The debug key: off, hypercalls, everything, off.
pub fn cycle() {
    let (exits, calls) = (
        EXITS.load(Ordering::Relaxed),
        HYPERCALLS.load(Ordering::Relaxed),
    );
    let (exits, calls) = match (exits, calls) {
        (false, false) => (false, true),
        (false, true) => (true, true),
        _ => (false, false),
    };
    EXITS.store(exits, Ordering::Relaxed);
    HYPERCALLS.store(calls, Ordering::Relaxed);
    log::info!("tracing: hypercalls {calls}, exits {exits}");
}

pub fn exit(vcpu: &Vcpu, backend: &dyn VcpuRegisters, exit: &Exit) {
    if EXITS.load(Ordering::Relaxed) {
        log::info!(
            "d{}v{} rip {:#x} {exit:?}",
            vcpu.domain.id,
            vcpu.id,
            backend.get(Reg::Rip)
        );
    }
}

pub fn hypercall(vcpu: &Vcpu, regs: &Gprs, outcome: &Outcome) {
    if HYPERCALLS.load(Ordering::Relaxed) {
        let entry = oxen_core::hypercall::TABLE
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
