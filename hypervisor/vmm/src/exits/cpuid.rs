//! CPUID: the domain's policy, completed with what is true at the moment.

use oxen_virt::policy::Live;
use oxen_virt::{Exit, Reg};

use super::Cx;
use crate::host::Host;

pub(crate) fn handle<H: Host>(cx: &mut Cx<'_, H>) {
    let (leaf, subleaf) = {
        let regs = cx.context.backend.gprs();
        (regs.rax as u32, regs.rcx as u32)
    };
    let info = cx.hvm.domain.hypervisor_info(cx.hvm.current_tsc_offset());
    let live = Live {
        vcpu: cx.vcpu.id.0,
        cr4: cx.context.backend.get(Reg::Cr4),
        xcr0: cx.context.backend.get(Reg::Xcr0),
        apic_enabled: cx.context.lapic_settings().hw_enabled(),
        hypervisor: &info,
    };
    let found = cx.hvm.domain.cpuid.read().query(leaf, subleaf, &live);
    let regs = cx.context.backend.gprs_mut();
    regs.rax = found.eax.into();
    regs.rbx = found.ebx.into();
    regs.rcx = found.ecx.into();
    regs.rdx = found.edx.into();
    cx.step(&Exit::Cpuid);
}
