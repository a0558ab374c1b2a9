//! A guest's kernel, as far as it makes hypercalls.

use std::sync::Arc;

use bytemuck::Pod;
use guest_pv_abi as abi;
use oxen_types::{Errno, Gaddr, Gfn, PAGE_SIZE, Result, Vaddr};

use super::FakeVcpu;
use crate::dispatch::dispatch;
use crate::domain::Domain;
use crate::hypercall::{Call, Outcome};
use crate::seams::LinearMemory;
use crate::vcpu::{Hold, Vcpu};

pub const PAGE: u64 = PAGE_SIZE as u64;
/// Pages of RAM, from gfn 0.
const RAM: u64 = 32;
/// Where the arguments of hypercalls are put.
const ARGUMENT: u64 = 16 * PAGE;
/// No call goes on longer than this.
const MOST_PARTS: usize = 20_000;

/// Linear addresses are guest-physical ones.
pub struct Linear<'a>(pub &'a Domain);

impl LinearMemory for Linear<'_> {
    fn read(&self, from: Vaddr, into: &mut [u8]) -> Result<()> {
        self.0.memory.read(Gaddr::new(from.raw()), into)
    }

    fn write(&self, to: Vaddr, from: &[u8]) -> Result<()> {
        self.0.memory.write(Gaddr::new(to.raw()), from)
    }

    fn translate(&self, at: Vaddr) -> Result<Gaddr> {
        let at = Gaddr::new(at.raw());
        self.0
            .memory
            .lookup(at.frame())
            .map(|_| at)
            .ok_or(Errno::Fault)
    }

    fn space(&self) -> u64 {
        0
    }
}

pub struct Guest {
    pub domain: Arc<Domain>,
}

impl Guest {
    pub fn start(domain: Arc<Domain>) -> Self {
        for gfn in 0..RAM {
            domain.memory.populate(Gfn::new(gfn), 0).expect("RAM");
        }
        domain.vcpus().for_each(|vcpu| vcpu.release(Hold::Down));
        domain.unpause().expect("its first start");
        Self { domain }
    }

    /// Ends the guest as SCHEDOP_shutdown would.
    pub fn shut_down(&self, reason: u32) {
        self.domain.shutdown(reason).perform(&self.domain);
    }

    pub fn id(&self) -> u16 {
        self.domain.id.0
    }

    pub fn vcpu(&self, id: u32) -> Arc<Vcpu> {
        self.domain.vcpu(id).expect("vcpu")
    }

    /// Looks at what was done to a vcpu's processor.
    pub fn with_arch<R>(&self, id: u32, look: impl FnOnce(&FakeVcpu) -> R) -> R {
        let vcpu = self.vcpu(id);
        look(vcpu.arch.as_fake())
    }

    pub fn read<T: Pod>(&self, at: u64) -> T {
        let mut value = T::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut value);
        self.domain
            .memory
            .read(Gaddr::new(at), bytes)
            .expect("RAM to read");
        value
    }

    pub fn write<T: Pod>(&self, at: u64, value: &T) {
        self.write_all(at, core::slice::from_ref(value));
    }

    pub fn write_all<T: Pod>(&self, at: u64, values: &[T]) {
        self.domain
            .memory
            .write(Gaddr::new(at), bytemuck::cast_slice(values))
            .expect("RAM to write");
    }

    /// As `write`, where the page may be gone.
    pub fn try_write<T: Pod>(&self, at: u64, value: &T) {
        // The call that needs it will say so.
        let _ = self
            .domain
            .memory
            .write(Gaddr::new(at), bytemuck::bytes_of(value));
    }

    pub fn try_op<T: Pod>(&self, number: u32, cmd: u32, argument: &T) -> i64 {
        self.try_write(ARGUMENT, argument);
        self.call(number, &[cmd.into(), ARGUMENT])
    }

    pub fn try_grant_op<T: Pod>(&self, cmd: u32, argument: &T) -> i64 {
        self.try_write(ARGUMENT, argument);
        self.call(abi::HYPERVISOR_GRANT_TABLE_OP, &[cmd.into(), ARGUMENT, 1])
    }

    pub fn try_vcpu_op<T: Pod>(&self, cmd: u32, id: u32, argument: &T) -> i64 {
        self.try_write(ARGUMENT, argument);
        let number = abi::HYPERVISOR_VCPU_OP;
        self.call(number, &[cmd.into(), id.into(), ARGUMENT])
    }

    /// A hypercall by a vcpu, in all its parts; its result and the number of parts.
    pub fn call_on(&self, vcpu: u32, number: u32, args: &[u64]) -> (i64, usize) {
        let vcpu = self.vcpu(vcpu);
        let linear = Linear(&self.domain);
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let mut call = Call::new(&vcpu, &linear, all);
        for part in 1..=MOST_PARTS {
            match dispatch(number.into(), &mut call) {
                Outcome::Done(value) => return (value as i64, part),
                Outcome::Again => {}
            }
        }
        panic!("hypercall {number} {args:x?} does not end");
    }

    /// One entry to the hypervisor: the first part of a call, or the next.
    pub fn enter(&self, number: u32, args: &mut [u64; 6]) -> Outcome {
        let (vcpu, linear) = (self.vcpu(0), Linear(&self.domain));
        let mut call = Call::new(&vcpu, &linear, *args);
        let outcome = dispatch(number.into(), &mut call);
        *args = call.args;
        outcome
    }

    pub fn call(&self, number: u32, args: &[u64]) -> i64 {
        self.call_on(0, number, args).0
    }

    /// A hypercall with a command and a structure, which comes back as the hypervisor left it.
    pub fn op<T>(&self, number: u32, cmd: u32, argument: &mut T) -> i64
    where
        T: Pod,
    {
        self.write(ARGUMENT, argument);
        let result = self.call(number, &[cmd.into(), ARGUMENT]);
        *argument = self.read(ARGUMENT);
        result
    }

    /// Grant table operations on one structure.
    pub fn grant_op<T>(&self, cmd: u32, argument: &mut T) -> i64
    where
        T: Pod,
    {
        self.write(ARGUMENT, argument);
        let result = self.call(abi::HYPERVISOR_GRANT_TABLE_OP, &[cmd.into(), ARGUMENT, 1]);
        *argument = self.read(ARGUMENT);
        result
    }

    /// A hypercall whose only argument is an envelope: domctl, sysctl, platform_op.
    pub fn envelope<T>(&self, number: u32, argument: &mut T) -> i64
    where
        T: Pod,
    {
        self.write(ARGUMENT, argument);
        let result = self.call(number, &[ARGUMENT]);
        *argument = self.read(ARGUMENT);
        result
    }

    /// A domctl and its argument, which comes back.
    pub fn domctl<T>(&self, cmd: u32, domain: u16, argument: &mut T) -> i64
    where
        T: Pod,
    {
        use abi::UnionBytes;
        let mut op = abi::Domctl::with(cmd, domain, argument);
        let result = self.envelope(abi::HYPERVISOR_DOMCTL, &mut op);
        *argument = op.u.view();
        result
    }

    pub fn sysctl<T>(&self, cmd: u32, argument: &mut T) -> i64
    where
        T: Pod,
    {
        use abi::UnionBytes;
        let mut op = abi::Sysctl::with(cmd, argument);
        let result = self.envelope(abi::HYPERVISOR_SYSCTL, &mut op);
        *argument = op.u.view();
        result
    }
}

/// -errno as hypercalls return it.
pub fn errno(errno: Errno) -> i64 {
    errno.to_abi()
}
