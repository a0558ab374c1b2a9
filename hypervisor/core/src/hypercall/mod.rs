//! Hypercalls: one table that binds number, name, handler and who may call; one dispatcher.
//!
//! Arguments come in rdi, rsi, rdx, r10, r8, r9; the result goes to rax (public/arch-x86/xen-x86_64.h).
//! A handler decodes, checks, then acts. What is long returns [`Stop::Again`]: the call is executed
//! again, with the arguments as the handler left them, after the CPU has looked at its other work.

mod budget;
pub mod console;
pub mod hvm;
pub mod memory;
pub mod multicall;
mod progress;
pub mod sched;
pub mod vcpu;
pub mod version;

use alloc::sync::Arc;
use core::marker::PhantomData;

use bytemuck::Pod;
use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, Vaddr};

use crate::domain::Domain;
use crate::machine::Machine;
use crate::seams::LinearMemory;
use crate::vcpu::Vcpu;
use budget::Budget;
pub use budget::Work;
pub use progress::Long;

/// Why a handler did not finish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    Err(Errno),
    /// Execute the call again: `args`, or what the call keeps elsewhere, tell what is left to do.
    Again,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Err(errno)
    }
}

/// A handler's answer: the value for rax, or why not.
pub type Answer = Result<u64, Stop>;

/// What becomes of the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// rax gets this, and the guest goes on behind the hypercall.
    Done(u64),
    /// The hypercall instruction is executed again, with the arguments of [`Call::args`].
    Again,
}

/// A hypercall under way.
pub struct Call<'a> {
    pub vcpu: &'a Arc<Vcpu>,
    pub linear: &'a dyn LinearMemory,
    pub args: [u64; 6],
    budget: Budget,
}

/// A guest linear address that should hold values of `T`: an allegation, checked at each use.
#[derive(Debug)]
pub struct Handle<T> {
    at: u64,
    of: PhantomData<T>,
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> Handle<T> {
    pub fn new(at: u64) -> Self {
        Self {
            at,
            of: PhantomData,
        }
    }

    pub fn is_null(&self) -> bool {
        self.at == 0
    }

    pub fn raw(&self) -> u64 {
        self.at
    }

    /// The handle of the `index`-th value behind it.
    pub fn nth(&self, index: u64) -> Result<Self, Errno> {
        let bytes = index
            .checked_mul(size_of::<T>() as u64)
            .ok_or(Errno::Fault)?;
        Ok(Self::new(self.at.checked_add(bytes).ok_or(Errno::Fault)?))
    }

    /// The handle of a field at `offset` bytes into the value.
    pub fn field<F>(&self, offset: usize) -> Handle<F> {
        Handle::new(self.at.wrapping_add(offset as u64))
    }
}

impl<'a> Call<'a> {
    pub fn new(vcpu: &'a Arc<Vcpu>, linear: &'a dyn LinearMemory, args: [u64; 6]) -> Self {
        Self {
            vcpu,
            linear,
            args,
            budget: Budget::full(),
        }
    }

    /// A call within this one. It has what is left of this one's budget.
    fn inner(&self, args: [u64; 6]) -> Self {
        Self {
            vcpu: self.vcpu,
            linear: self.linear,
            args,
            budget: self.budget.clone(),
        }
    }

    /// Counts work that was done, or is about to be.
    pub fn spend(&self, work: Work, count: u64) {
        self.budget.spend(work, count);
    }

    /// Has this entry done as much as it may? Then the call stops here and goes on later.
    pub fn is_spent(&self) -> bool {
        self.budget.is_spent()
    }

    pub fn domain(&self) -> &Arc<Domain> {
        &self.vcpu.domain
    }

    pub fn machine(&self) -> &'static Machine {
        self.vcpu.domain.machine
    }

    pub fn is_privileged(&self) -> bool {
        self.vcpu.domain.config.privileged
    }

    pub fn require_privilege(&self) -> Result<(), Errno> {
        if self.is_privileged() {
            Ok(())
        } else {
            Err(Errno::Perm)
        }
    }

    pub fn handle<T>(&self, arg: usize) -> Handle<T> {
        Handle::new(self.args[arg])
    }

    /// One private copy of the value behind a handle.
    pub fn read<T: Pod>(&self, from: Handle<T>) -> Result<T, Errno> {
        let mut value = T::zeroed();
        self.linear
            .read(Vaddr::new(from.at), bytemuck::bytes_of_mut(&mut value))?;
        Ok(value)
    }

    pub fn write<T: Pod>(&self, to: Handle<T>, value: &T) -> Result<(), Errno> {
        self.linear
            .write(Vaddr::new(to.at), bytemuck::bytes_of(value))
    }

    pub fn read_bytes(&self, from: u64, into: &mut [u8]) -> Result<(), Errno> {
        self.linear.read(Vaddr::new(from), into)
    }

    pub fn write_bytes(&self, to: u64, from: &[u8]) -> Result<(), Errno> {
        self.linear.write(Vaddr::new(to), from)
    }

    /// The domain that a `domid_t` names: the caller's own for DOMID_SELF or its number, another one
    /// only for a privileged caller.
    pub fn target(&self, id: u16) -> Result<Arc<Domain>, Errno> {
        let id = DomainId(id);
        if id == DomainId::SELF || id == self.domain().id {
            return Ok(self.domain().clone());
        }
        self.require_privilege()?;
        self.machine().domain(id).ok_or(Errno::Srch)
    }
}

/// One hypercall: the only place that says it exists.
pub struct Entry {
    pub number: u32,
    pub name: &'static str,
    pub handler: fn(&mut Call<'_>) -> Answer,
    /// Argument registers that it has. It may change these, and no others
    /// (public/arch-x86/xen-x86_64.h).
    pub arguments: usize,
    /// Only a privileged domain may call it at all; others get -EPERM.
    pub privileged: bool,
}

const fn entry(
    number: u32,
    name: &'static str,
    arguments: usize,
    handler: fn(&mut Call<'_>) -> Answer,
) -> Entry {
    Entry {
        number,
        name,
        handler,
        arguments,
        privileged: false,
    }
}

const fn privileged(
    number: u32,
    name: &'static str,
    arguments: usize,
    handler: fn(&mut Call<'_>) -> Answer,
) -> Entry {
    Entry {
        privileged: true,
        ..entry(number, name, arguments, handler)
    }
}

/// Every hypercall that exists here; any other number is -ENOSYS.
pub static TABLE: &[Entry] = &[
    privileged(
        abi::HYPERVISOR_PLATFORM_OP,
        "platform_op",
        1,
        crate::control::platform::call,
    ),
    entry(abi::HYPERVISOR_MEMORY_OP, "memory_op", 2, memory::call),
    entry(abi::HYPERVISOR_MULTICALL, "multicall", 2, multicall::call),
    entry(
        abi::HYPERVISOR_SET_TIMER_OP,
        "set_timer_op",
        1,
        vcpu::set_timer_op,
    ),
    entry(abi::HYPERVISOR_XEN_VERSION, "xen_version", 2, version::call),
    entry(abi::HYPERVISOR_CONSOLE_IO, "console_io", 3, console::call),
    entry(
        abi::HYPERVISOR_GRANT_TABLE_OP,
        "grant_table_op",
        3,
        crate::grant::call,
    ),
    entry(abi::HYPERVISOR_VM_ASSIST, "vm_assist", 2, vcpu::vm_assist),
    entry(abi::HYPERVISOR_VCPU_OP, "vcpu_op", 3, vcpu::call),
    entry(abi::HYPERVISOR_SCHED_OP, "sched_op", 2, sched::call),
    entry(
        abi::HYPERVISOR_EVENT_CHANNEL_OP,
        "event_channel_op",
        2,
        crate::evtchn::call,
    ),
    entry(
        abi::HYPERVISOR_PHYSDEV_OP,
        "physdev_op",
        2,
        crate::control::physdev::call,
    ),
    entry(abi::HYPERVISOR_HVM_OP, "hvm_op", 2, hvm::call),
    privileged(
        abi::HYPERVISOR_SYSCTL,
        "sysctl",
        1,
        crate::control::sysctl::call,
    ),
    privileged(
        abi::HYPERVISOR_DOMCTL,
        "domctl",
        1,
        crate::control::domctl::call,
    ),
];

/// Numbers from here on are never a hypercall.
const NUMBERS: usize = 64;

/// The table by number, so that a call costs one look.
static BY_NUMBER: [Option<&'static Entry>; NUMBERS] = by_number();

const fn by_number() -> [Option<&'static Entry>; NUMBERS] {
    let mut table: [Option<&'static Entry>; NUMBERS] = [None; NUMBERS];
    let mut i = 0;
    while i < TABLE.len() {
        table[TABLE[i].number as usize] = Some(&TABLE[i]);
        i += 1;
    }
    table
}

/// Runs one hypercall. The caller has checked that the guest's kernel made it.
pub fn dispatch(number: u64, call: &mut Call<'_>) -> Outcome {
    call.budget = Budget::full();
    #[cfg(test)]
    let answer =
        |number, call: &mut Call<'_>| crate::testing::heap::in_core(|| answer(number, call));
    let answer = answer(number, call);
    if call.machine().frames.take_emptied() {
        call.machine().reap();
    }
    match answer {
        Ok(value) => Outcome::Done(value),
        Err(Stop::Err(errno)) => Outcome::Done(errno.to_abi() as u64),
        Err(Stop::Again) => Outcome::Again,
    }
}

pub(crate) fn answer(number: u64, call: &mut Call<'_>) -> Answer {
    let entry = usize::try_from(number)
        .ok()
        .and_then(|n| BY_NUMBER.get(n).copied().flatten());
    let Some(entry) = entry else {
        return Err(Errno::NoSys.into());
    };
    if entry.privileged {
        call.require_privilege()?;
    }
    let given = call.args;
    let answer = (entry.handler)(call);
    if let (Some(others), Some(given)) = (
        call.args.get_mut(entry.arguments..),
        given.get(entry.arguments..),
    ) {
        others.copy_from_slice(given);
    }
    answer
}

#[cfg(test)]
mod tests;
