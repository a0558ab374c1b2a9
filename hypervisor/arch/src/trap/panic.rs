//! The end of the hypervisor: a report on the console, the other CPUs stopped, then a halt or a
//! reboot.
#![allow(unsafe_code, reason = "reads stack frames")]

use super::{TrapFrame, fault_address, is_ours, is_text};
use crate::cpu::{self, regs};
use crate::{apic, console, power, symbols, time};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};
use core::{mem, ptr};
use oxen_types::CpuId;

const NOBODY: u32 = u32::MAX;
const MAX_FRAMES: usize = 32;
const REBOOT_DELAY_NS: u64 = 5_000_000_000;

/// The CPU that panics.
static OWNER: AtomicU32 = AtomicU32::new(NOBODY);
static ACTION: AtomicU8 = AtomicU8::new(PanicAction::Reboot as u8);
static STATE_HOOK: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// The step after a panic's report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PanicAction {
    /// A reboot after five seconds.
    Reboot = 0,
    /// A halt for good.
    Halt = 1,
}

/// Chooses the step after a panic's report.
pub fn set_panic_action(action: PanicAction) {
    ACTION.store(action as u8, Ordering::Relaxed);
}

/// Sets the function that writes what a CPU is doing (domain, vcpu). It runs in any state, so it
/// takes no lock.
pub fn set_state_hook(hook: fn(CpuId, &mut dyn Write)) {
    STATE_HOOK.store(hook as *mut (), Ordering::Release);
}

/// Whether a CPU panics.
pub fn is_panicking() -> bool {
    OWNER.load(Ordering::Acquire) != NOBODY
}

/// A trap that nothing can repair.
pub(super) fn fatal(frame: &TrapFrame) -> ! {
    begin();
    console::emergency(|out| {
        let _ = write!(
            out,
            "\nFATAL: {} (error code {:#x}",
            frame.name(),
            frame.error
        );
        if let Some(address) = fault_address(frame) {
            let _ = write!(out, ", address {address:#x}");
        }
        let _ = writeln!(out, ") on CPU{}", cpu::cpu_id());
        report(out, frame);
    });
    finish()
}

/// Writes registers and backtrace of a CPU that goes on afterwards. Not through the log: the CPU
/// may be in the midst of a line of its own, and hold the log's lock.
pub(super) fn dump(frame: &TrapFrame, why: &str) {
    console::emergency(|out| {
        let _ = writeln!(out, "{why} CPU{}", cpu::cpu_id());
        report(out, frame);
    });
}

fn report(out: &mut dyn Write, frame: &TrapFrame) {
    state(out);
    let _ = writeln!(out, "{frame}");
    let _ = writeln!(out, "  {}", symbols::Located(frame.rip));
    let _ = backtrace_from(out, frame.rbp);
}

fn state(out: &mut dyn Write) {
    let hook = STATE_HOOK.load(Ordering::Acquire);
    if hook.is_null() {
        return;
    }
    // SAFETY: only `set_state_hook` stores here, and it stores such a function.
    let hook = unsafe { mem::transmute::<*mut (), fn(CpuId, &mut dyn Write)>(hook) };
    hook(cpu::cpu_id(), out);
}

/// Writes the callers of the current function, by frame pointers.
pub fn backtrace(out: &mut dyn Write) -> fmt::Result {
    let rbp: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack)) };
    backtrace_from(out, rbp)
}

fn backtrace_from(out: &mut dyn Write, mut rbp: u64) -> fmt::Result {
    for _ in 0..MAX_FRAMES {
        if !is_ours(rbp) || !rbp.is_multiple_of(8) {
            break;
        }
        // SAFETY: an aligned address of the hypervisor's; a wild one faults, and `begin` sees the
        // panic within the panic.
        let (next, ret) = unsafe { (*(rbp as *const u64), *(rbp as *const u64).add(1)) };
        if !is_text(ret) {
            break;
        }
        writeln!(out, "  {}", symbols::ReturnTo(ret))?;
        if next <= rbp {
            break;
        }
        rbp = next;
    }
    Ok(())
}

/// Takes the role of the panicking CPU; a second panic on it, or one elsewhere, just stops.
fn begin() {
    let me = cpu::cpu_id().0;
    match OWNER.compare_exchange(NOBODY, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => apic::stop_other_cpus(),
        Err(owner) if owner == me => {
            console::emergency(|out| {
                let _ = writeln!(out, "panic within a panic");
            });
            finish()
        }
        Err(_) => regs::halt_forever(),
    }
}

fn finish() -> ! {
    if ACTION.load(Ordering::Relaxed) == PanicAction::Halt as u8 {
        console::emergency(|out| {
            let _ = writeln!(out, "halted (noreboot)");
        });
        regs::halt_forever();
    }
    console::emergency(|out| {
        let _ = writeln!(out, "reboot in five seconds");
    });
    time::busy_wait_ns(REBOOT_DELAY_NS);
    power::reboot()
}

#[panic_handler]
fn on_panic(info: &core::panic::PanicInfo<'_>) -> ! {
    x86_64::instructions::interrupts::disable();
    begin();
    console::emergency(|out| {
        let _ = writeln!(out, "\nPANIC on CPU{}: {}", cpu::cpu_id(), info.message());
        if let Some(place) = info.location() {
            let _ = writeln!(out, "  at {place}");
        }
        state(out);
        let _ = backtrace(out);
    });
    finish()
}
