//! Whatever two guests and dom0 pass to any hypercall: nothing panics, no call goes on for ever,
//! and when the domains are gone, all of their frames are.

use std::vec::Vec;

use guest_pv_abi as abi;
use proptest::prelude::*;

use crate::dispatch::{TABLE, declarations, dispatch};
use crate::hypercall::op::declared::Declaration;
use crate::hypercall::{Call, Outcome};
use crate::testing::{Guest, Linear, PAGE, USABLE, World, heap};

/// One call: who makes it, with what in its memory and registers.
#[derive(Clone, Debug)]
pub(super) struct Step {
    caller: usize,
    entry: usize,
    /// The operation, if it is one that is declared.
    operation: Option<prop::sample::Index>,
    args: [u64; 6],
    memory: Vec<u32>,
}

impl Step {
    fn operation(&self, number: u32) -> Option<Declaration> {
        let all: Vec<_> = declarations(number).iter().copied().flatten().collect();
        let chosen = self.operation.filter(|_| !all.is_empty())?;
        Some(**chosen.get(&all))
    }
}

/// Values that mean something somewhere: small numbers, domain ids, addresses of the argument and
/// of other pages, and the edges of everything.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => 0u32..40,
        2 => prop_oneof![Just(0x7ff0u32), Just(0x7ff0_7ff0), Just(1), Just(2)],
        2 => (0u32..34).prop_map(|page| page * PAGE as u32),
        1 => prop_oneof![Just(u32::MAX), Just(i32::MAX as u32), Just(1 << 31), Just(4095)],
        1 => any::<u32>(),
    ]
}

fn register() -> impl Strategy<Value = u64> {
    prop_oneof![
        5 => 0u64..40,
        4 => (0u64..34, 0u64..3).prop_map(|(page, offset)| page * PAGE + offset * 4094),
        1 => prop_oneof![Just(u64::MAX), Just(1 << 63), Just(u64::from(u32::MAX)), Just(1 << 47)],
        1 => any::<u64>(),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let memory = prop::collection::vec(word(), 0..40);
    (
        0usize..3,
        0..TABLE.len(),
        prop::option::weighted(0.8, any::<prop::sample::Index>()),
        prop::array::uniform6(register()),
        memory,
    )
        .prop_map(|(caller, entry, operation, args, memory)| Step {
            caller,
            entry,
            operation,
            args,
            memory,
        })
}

/// The number of a declared operation, and the envelope's version where there is one, so that the
/// fuzz gets past them.
fn prepare(guest: &Guest, number: u32, step: &Step) -> [u64; 6] {
    let mut args = step.args;
    let operation = step.operation(number);
    let place = 2 * PAGE + (args[5] % 3) * 2000;
    if guest
        .domain
        .memory
        .write(oxen_types::Gaddr::new(place), &bytes(&step.memory))
        .is_err()
    {
        return args;
    }
    let version = match number {
        abi::HYPERVISOR_DOMCTL => Some(abi::DOMCTL_INTERFACE_VERSION),
        abi::HYPERVISOR_SYSCTL => Some(abi::SYSCTL_INTERFACE_VERSION),
        abi::HYPERVISOR_PLATFORM_OP => Some(abi::XENPF_INTERFACE_VERSION),
        _ => None,
    };
    if let Some(version) = version {
        let command = operation.map_or(step.args[0] % 90, |op| op.number) as u32;
        let envelope = [command, version, step.args[1] as u32 % 4, 0];
        let at = oxen_types::Gaddr::new(place);
        let len = if number == abi::HYPERVISOR_DOMCTL {
            4
        } else {
            2
        };
        let _ = guest.domain.memory.write(at, &bytes(&envelope[..len]));
        args[0] = place;
        return args;
    }
    if let Some(op) = operation {
        args[0] = op.number;
    }
    if !step.args[4].is_multiple_of(4) {
        // Mostly a structure that can be read.
        args[if number == abi::HYPERVISOR_VCPU_OP {
            2
        } else {
            1
        }] = place;
    }
    args
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// Makes the call, in at most `parts` parts: one that would go on longer is left there.
fn make(guest: &Guest, number: u32, args: [u64; 6], parts: usize) {
    let Some(vcpu) = guest.domain.vcpu(0) else {
        return;
    };
    let linear = Linear(&guest.domain);
    let mut call = Call::new(&vcpu, &linear, args);
    for _ in 0..parts {
        if let Outcome::Done(_) = dispatch(number.into(), &mut call) {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_call_harms(steps in prop::collection::vec(step(), 1..60)) {
        no_call_of_these_harms(&steps);
    }
}

/// Makes the calls, destroys all domains, and looks whether everything came back. In half of all
/// cases the heap fails now and then.
pub(super) fn no_call_of_these_harms(steps: &[Step]) {
    heap::fail_sometimes(steps.len() as u64);
    let (world, dom0) = World::new();
    let guests = [dom0, world.guest(1, 2), world.guest(2, 1)];
    for step in steps {
        let guest = &guests[step.caller];
        let number = TABLE[step.entry].number;
        let args = prepare(guest, number, step);
        // The lists that a guest may name can be long; a few parts show all there is to see.
        make(guest, number, args, 8);
    }
    // Of what dom0 made and mapped nothing stays: it goes last, which no hypercall could do.
    let mut all: Vec<_> = world.machine.all_domains().collect();
    for guest in guests {
        if !all.iter().any(|domain| domain.id == guest.domain.id) {
            all.push(guest.domain);
        }
    }
    for domain in all.iter().rev() {
        world.destroy(domain);
    }
    assert_eq!(world.machine.domain_count(), 0);
    for domain in &all {
        assert_eq!(domain.grants.usage(), (0, 0));
        assert_eq!(domain.events.usage().0, 0);
        assert_eq!(domain.memory.ram_frames(), 0);
        assert_eq!(domain.heap.used(), 0);
    }
    drop(all);
    assert_eq!(world.free_frames(), USABLE);
}
