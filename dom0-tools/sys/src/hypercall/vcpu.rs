//! Vcpus: how many, what they do, where they may run, how much they get (xen/domctl.h).

use bytemuck::Zeroable;
use guest_pv_abi::{self as abi, UnionBytes};

use super::{SchedParams, VcpuInfo};
use crate::{HypercallBuffer, Privcmd, Result};

/// The two affinities of a vcpu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AffinityKind {
    /// Where it may run.
    Hard,
    /// The CPUs that the vcpu prefers (soft affinity).
    Soft,
}

/// An affinity call whose bitmap is in the first `bytes` of the buffer.
fn affinity(
    vcpu: u32,
    kind: AffinityKind,
    buffer: &HypercallBuffer<'_>,
    bytes: usize,
) -> abi::DomctlVcpuAffinity {
    let none = abi::BitmapHandle::zeroed();
    let map = abi::BitmapHandle {
        bitmap: buffer.addr(),
        nr_bits: (buffer.len().min(bytes) * 8) as u32,
        ..none
    };
    let (flags, cpumap_hard, cpumap_soft) = match kind {
        AffinityKind::Hard => (abi::XEN_VCPUAFFINITY_HARD, map, none),
        AffinityKind::Soft => (abi::XEN_VCPUAFFINITY_SOFT, none, map),
    };
    abi::DomctlVcpuAffinity {
        vcpu,
        flags,
        cpumap_hard,
        cpumap_soft,
    }
}

impl Privcmd {
    /// Gives the domain `count` vcpus, all down.
    pub fn set_max_vcpus(&self, domain: u16, count: u32) -> Result<()> {
        self.domctl(abi::XEN_DOMCTL_MAX_VCPUS, domain, &count)
            .map(drop)
    }

    pub fn vcpu_info(&self, domain: u16, vcpu: u32) -> Result<VcpuInfo> {
        let mut arg = VcpuInfo::zeroed();
        arg.vcpu = vcpu;
        self.domctl(abi::XEN_DOMCTL_GETVCPUINFO, domain, &arg)
            .map(|(_, info)| info)
    }

    /// The CPUs of an affinity of a vcpu, one bit each, as the hypervisor stored them.
    pub fn set_vcpu_affinity(
        &self,
        domain: u16,
        vcpu: u32,
        kind: AffinityKind,
        cpus: &[u8],
    ) -> Result<Vec<u8>> {
        let buffer = self.buffer_of(cpus)?;
        let arg = affinity(vcpu, kind, &buffer, cpus.len());
        self.domctl(abi::XEN_DOMCTL_SETVCPUAFFINITY, domain, &arg)?;
        super::items(&buffer, cpus.len())
    }

    /// The CPUs of an affinity of a vcpu, one bit each, `cpus` at most.
    pub fn vcpu_affinity(
        &self,
        domain: u16,
        vcpu: u32,
        kind: AffinityKind,
        cpus: usize,
    ) -> Result<Vec<u8>> {
        let bytes = cpus.div_ceil(8);
        let buffer = self.buffer(bytes)?;
        let arg = affinity(vcpu, kind, &buffer, bytes);
        self.domctl(abi::XEN_DOMCTL_GETVCPUAFFINITY, domain, &arg)?;
        super::items(&buffer, bytes)
    }

    /// A domain's weight and cap under scheduler `scheduler` (see [`Privcmd::scheduler`]).
    pub fn sched_params(&self, domain: u16, scheduler: u32) -> Result<SchedParams> {
        let none = SchedParams { weight: 0, cap: 0 };
        self.scheduler_op(domain, scheduler, abi::XEN_DOMCTL_SCHEDOP_GETINFO, none)
    }

    pub fn set_sched_params(&self, domain: u16, scheduler: u32, params: SchedParams) -> Result<()> {
        self.scheduler_op(domain, scheduler, abi::XEN_DOMCTL_SCHEDOP_PUTINFO, params)
            .map(drop)
    }

    fn scheduler_op(
        &self,
        domain: u16,
        scheduler: u32,
        cmd: u32,
        params: SchedParams,
    ) -> Result<SchedParams> {
        let arg = abi::DomctlSchedulerOp {
            sched_id: scheduler,
            cmd,
            u: UnionBytes::holding(&params),
        };
        self.domctl(abi::XEN_DOMCTL_SCHEDULER_OP, domain, &arg)
            .map(|(_, answer)| answer.u.view())
    }
}
