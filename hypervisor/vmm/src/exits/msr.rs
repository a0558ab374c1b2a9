//! RDMSR, WRMSR and XSETBV.

use oxen_arch::time;
use oxen_types::{Gaddr, PAGE_SIZE};
use oxen_virt::policy::{self, MsrAccess, MsrFault, MsrRead, MsrWrite};
use oxen_virt::x86::CR4_OSXSAVE;
use oxen_virt::{Event, Exit, Reg, spec};

use super::{Cx, memory};
use crate::run::{arm_lapic_timer, clock};

pub fn read(cx: &mut Cx<'_>) {
    let msr = cx.context.backend.gprs().rcx as u32;
    let found = with_policy(cx, |access| access.read(msr));
    let value = match found {
        Ok(MsrRead::Value(value)) => Some(value),
        Ok(MsrRead::Lapic) => {
            let now = clock(cx.hv, cx.vcpu.domain.machine.now());
            cx.context.lapic().msr_read(msr, now).ok()
        }
        Err(MsrFault) => None,
    };
    match value {
        Some(value) => {
            cx.context.backend.gprs_mut().set_edx_eax(value);
            cx.step(&Exit::Rdmsr);
        }
        None => {
            oxen_arch::guest_log!(log::Level::Info, "{}: RDMSR {msr:#x}: #GP", cx.name());
            cx.inject(Event::GP);
        }
    }
}

pub fn write(cx: &mut Cx<'_>) {
    let (msr, value) = {
        let regs = cx.context.backend.gprs();
        (regs.rcx as u32, regs.edx_eax())
    };
    let done = match with_policy(cx, |access| access.write(msr, value)) {
        Ok(MsrWrite::Done) => true,
        Ok(MsrWrite::Command(msr)) => {
            spec::command(msr);
            true
        }
        Ok(MsrWrite::HypercallPage(at)) => fill_hypercall_page(cx, Gaddr::new(at)),
        Ok(MsrWrite::Lapic) => {
            let now = clock(cx.hv, cx.vcpu.domain.machine.now());
            match cx.context.lapic().msr_write(msr, value, now) {
                Ok(effect) => {
                    cx.context.lapic_written();
                    memory::apply(cx.hv, cx.vcpu, effect);
                    arm_lapic_timer(cx.context, cx.vcpu);
                    true
                }
                Err(_) => false,
            }
        }
        Err(MsrFault) => false,
    };
    if done {
        cx.step(&Exit::Wrmsr);
    } else {
        oxen_arch::guest_log!(
            log::Level::Info,
            "{}: WRMSR {msr:#x} = {value:#x}: #GP",
            cx.name()
        );
        cx.inject(Event::GP);
    }
}

/// Of a vector that no APIC takes: only the error is noted.
pub fn self_ipi(cx: &mut Cx<'_>, vector: u8) {
    const SELF_IPI: u32 = 0x83f;
    let now = clock(cx.hv, cx.vcpu.domain.machine.now());
    let _ = cx.context.lapic().msr_write(SELF_IPI, vector.into(), now);
}

fn with_policy<R>(cx: &mut Cx<'_>, act: impl FnOnce(&mut MsrAccess<'_>) -> R) -> R {
    let policy = crate::policy::msr_policy(cx.hv.hv.hardware.is_some());
    let cpuid = cx.hv.hv.cpuid.read();
    let before = cx.context.backend.tsc_offset();
    let answer = act(&mut MsrAccess {
        vcpu: &mut *cx.context.backend,
        state: &mut cx.context.msrs,
        policy: &policy,
        cpuid: &cpuid,
        host_tsc: time::rdtsc(),
    });
    let after = cx.context.backend.tsc_offset();
    if after != before {
        cx.hv.set_tsc_offset(after);
        cx.vcpu.update_time();
    }
    answer
}

fn fill_hypercall_page(cx: &Cx<'_>, at: Gaddr) -> bool {
    let mut page = [0; PAGE_SIZE];
    policy::hypervisor::fill_hypercall_page(&mut page, crate::globals::get().is_amd);
    cx.vcpu.domain.memory.write(at, &page).is_ok()
}

pub fn xsetbv(cx: &mut Cx<'_>) {
    // CPUs see to this before the intercept (APM 15.7); QEMU 10 does not.
    if cx.context.backend.get(Reg::Cr4) & CR4_OSXSAVE == 0 {
        return cx.inject(Event::UD);
    }
    let done = policy::xsetbv(&mut *cx.context.backend, &cx.hv.hv.cpuid.read());
    match done {
        Ok(()) => cx.step(&Exit::Xsetbv),
        Err(MsrFault) => cx.inject(Event::GP),
    }
}
