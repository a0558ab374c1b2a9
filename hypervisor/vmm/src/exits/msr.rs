//! RDMSR, WRMSR and XSETBV.

use oxen_types::{Gaddr, PAGE_SIZE};
use oxen_virt::policy::{self, MsrAccess, MsrFault, MsrRead, MsrWrite};
use oxen_virt::x86::CR4_OSXSAVE;
use oxen_virt::{Event, Exit, Reg};

use super::{Cx, memory};
use crate::deliver::{arm_lapic_timer, clock};
use crate::guest_log;
use crate::host::Host;

pub(crate) fn read<H: Host>(cx: &mut Cx<'_, H>) {
    let msr = cx.context.backend.gprs().rcx as u32;
    let found = with_policy(cx, |access| access.read(msr));
    let value = match found {
        Ok(MsrRead::Value(value)) => Some(value),
        Ok(MsrRead::Lapic) => {
            let now = clock(cx.hvm, cx.vcpu.domain.machine.now());
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
            guest_log!(log::Level::Info, "{}: RDMSR {msr:#x}: #GP", cx.name());
            cx.inject(Event::GP);
        }
    }
}

pub(crate) fn write<H: Host>(cx: &mut Cx<'_, H>) {
    let (msr, value) = {
        let regs = cx.context.backend.gprs();
        (regs.rcx as u32, regs.edx_eax())
    };
    let done = match with_policy(cx, |access| access.write(msr, value)) {
        Ok(MsrWrite::Done) => true,
        Ok(MsrWrite::Command(msr)) => {
            cx.hvm.domain.vmm.host.command_msr(msr);
            true
        }
        Ok(MsrWrite::HypercallPage(at)) => fill_hypercall_page(cx, Gaddr::new(at)),
        Ok(MsrWrite::Lapic) => {
            let now = clock(cx.hvm, cx.vcpu.domain.machine.now());
            match cx.context.lapic().msr_write(msr, value, now) {
                Ok(effect) => {
                    cx.context.lapic_written();
                    memory::apply(cx.hvm, cx.vcpu, effect);
                    arm_lapic_timer(cx.hvm, cx.context, cx.vcpu);
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
        guest_log!(
            log::Level::Info,
            "{}: WRMSR {msr:#x} = {value:#x}: #GP",
            cx.name()
        );
        cx.inject(Event::GP);
    }
}

/// Of a vector that no APIC takes: only the error is noted.
pub(crate) fn self_ipi<H: Host>(cx: &mut Cx<'_, H>, vector: u8) {
    const SELF_IPI: u32 = 0x83f;
    let now = clock(cx.hvm, cx.vcpu.domain.machine.now());
    let _ = cx.context.lapic().msr_write(SELF_IPI, vector.into(), now);
}

fn with_policy<H: Host, R>(cx: &mut Cx<'_, H>, act: impl FnOnce(&mut MsrAccess<'_>) -> R) -> R {
    let domain = &cx.hvm.domain;
    let cpuid = domain.cpuid.read();
    let before = cx.context.backend.tsc_offset();
    let answer = act(&mut MsrAccess {
        vcpu: &mut *cx.context.backend,
        state: &mut cx.context.msrs,
        policy: &domain.msrs,
        cpuid: &cpuid,
        host_tsc: domain.vmm.host.tsc(),
    });
    let after = cx.context.backend.tsc_offset();
    if after != before {
        cx.hvm.set_tsc_offset(after);
        cx.vcpu.update_time();
    }
    answer
}

fn fill_hypercall_page<H: Host>(cx: &Cx<'_, H>, at: Gaddr) -> bool {
    let mut page = [0; PAGE_SIZE];
    policy::hypervisor::fill_hypercall_page(&mut page, cx.hvm.domain.vmm.settings.is_amd);
    cx.vcpu.domain.memory.write(at, &page).is_ok()
}

pub(crate) fn xsetbv<H: Host>(cx: &mut Cx<'_, H>) {
    // CPUs see to this before the intercept (APM 15.7); QEMU 10 does not.
    if cx.context.backend.get(Reg::Cr4) & CR4_OSXSAVE == 0 {
        return cx.inject(Event::UD);
    }
    let done = policy::xsetbv(&mut *cx.context.backend, &cx.hvm.domain.cpuid.read());
    match done {
        Ok(()) => cx.step(&Exit::Xsetbv),
        Err(MsrFault) => cx.inject(Event::GP),
    }
}
