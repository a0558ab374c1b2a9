//! VMMCALL and VMCALL: from registers to core's dispatcher and back.

use oxen_core::dispatch::dispatch;
use oxen_core::hypercall::{Call, Outcome};
use oxen_types::Errno;
use oxen_virt::{CpuMode, Exit};

use super::Cx;
use crate::host::Host;
use crate::space::Linear;

pub(crate) fn handle<H: Host>(cx: &mut Cx<'_, H>) {
    let regs = *cx.context.backend.gprs();
    if cx.context.backend.cpl() != 0 {
        return finish(cx, Errno::Perm.to_abi() as u64);
    }
    let state = cx.context.backend.execution();
    if state.mode() != CpuMode::Long64 {
        // 32-bit callers pass other structures, which nobody we support needs.
        return finish(cx, Errno::NoSys.to_abi() as u64);
    }
    let linear = Linear::of(&state, &cx.vcpu.domain, cx.hvm.domain.limits());
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    let mut call = Call::new(cx.vcpu, &linear, args);
    let outcome = dispatch(regs.rax, &mut call);
    let args = call.args;
    cx.hvm.domain.vmm.trace.hypercall(cx.vcpu, &regs, &outcome);
    match outcome {
        Outcome::Done(value) => finish(cx, value),
        Outcome::Again => {
            let regs = cx.context.backend.gprs_mut();
            [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = args;
        }
    }
}

fn finish<H: Host>(cx: &mut Cx<'_, H>, result: u64) {
    cx.context.backend.gprs_mut().rax = result;
    cx.step(&Exit::Hypercall);
}
