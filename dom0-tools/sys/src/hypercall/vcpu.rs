//! Vcpus: how many, what they do, where they may run, how much they get (xen/domctl.h).

use guest_pv_abi as abi;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::{HypercallBuffer, Privcmd, Result};

/// `xen_domctl_getvcpuinfo`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct VcpuInfo {
    pub vcpu: u32,
    pub online: u8,
    pub blocked: u8,
    pub running: u8,
    pad: u8,
    /// Nanoseconds.
    pub cpu_time: u64,
    /// The physical CPU it is or was on.
    pub cpu: u32,
    pad2: u32,
}

/// What the scheduler gives a domain (credit and credit2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct SchedParams {
    pub weight: u16,
    /// Percent of one CPU, 0 for no cap.
    pub cap: u16,
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct SchedulerOp {
    pub(super) scheduler: u32,
    pub(super) cmd: u32,
    pub(super) params: SchedParams,
    pub(super) rest: [u32; 3],
}

/// `xen_domctl_vcpuaffinity` with its two `xenctl_bitmap`s.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Affinity {
    pub(super) vcpu: u32,
    pub(super) flags: u32,
    pub(super) hard: Bitmap,
    pub(super) soft: Bitmap,
}

impl Affinity {
    fn of(vcpu: u32, kind: AffinityKind, buffer: &HypercallBuffer, bytes: usize) -> Self {
        let map = Bitmap::of(buffer, buffer.len().min(bytes) * 8);
        let (flags, hard, soft) = match kind {
            AffinityKind::Hard => (abi::XEN_VCPUAFFINITY_HARD, map, Bitmap::default()),
            AffinityKind::Soft => (abi::XEN_VCPUAFFINITY_SOFT, Bitmap::default(), map),
        };
        Self {
            vcpu,
            flags,
            hard,
            soft,
        }
    }
}

#[derive(FromBytes, IntoBytes, Immutable, Default)]
#[repr(C)]
pub(super) struct Bitmap {
    pub(super) address: u64,
    pub(super) bits: u32,
    pub(super) pad: u32,
}

impl Bitmap {
    fn of(buffer: &HypercallBuffer, bits: usize) -> Self {
        // The buffer is a page at least, and `bits` came from a length of bytes inside it.
        Self {
            address: buffer.addr(),
            bits: bits as u32,
            pad: 0,
        }
    }
}

/// The two affinities of a vcpu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AffinityKind {
    /// Where it may run.
    Hard,
    /// Where it had better run.
    Soft,
}

impl Privcmd {
    /// Gives the domain `count` vcpus, all down.
    pub fn set_max_vcpus(&self, domain: u16, count: u32) -> Result<()> {
        self.domctl(abi::XEN_DOMCTL_MAX_VCPUS, domain, &count)
            .map(drop)
    }

    pub fn vcpu_info(&self, domain: u16, vcpu: u32) -> Result<VcpuInfo> {
        let mut arg = VcpuInfo::new_zeroed();
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
        let arg = Affinity::of(vcpu, kind, &buffer, cpus.len());
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
        let arg = Affinity::of(vcpu, kind, &buffer, bytes);
        self.domctl(abi::XEN_DOMCTL_GETVCPUAFFINITY, domain, &arg)?;
        super::items(&buffer, bytes)
    }

    /// A domain's weight and cap under scheduler `scheduler` (see [`Privcmd::scheduler`]).
    pub fn sched_params(&self, domain: u16, scheduler: u32) -> Result<SchedParams> {
        let none = SchedParams { weight: 0, cap: 0 };
        self.scheduler_op(domain, scheduler, 1, none)
    }

    pub fn set_sched_params(&self, domain: u16, scheduler: u32, params: SchedParams) -> Result<()> {
        self.scheduler_op(domain, scheduler, 0, params).map(drop)
    }

    fn scheduler_op(
        &self,
        domain: u16,
        scheduler: u32,
        cmd: u32,
        params: SchedParams,
    ) -> Result<SchedParams> {
        let arg = SchedulerOp {
            scheduler,
            cmd,
            params,
            rest: [0; 3],
        };
        self.domctl(abi::XEN_DOMCTL_SCHEDULER_OP, domain, &arg)
            .map(|(_, answer)| answer.params)
    }
}
