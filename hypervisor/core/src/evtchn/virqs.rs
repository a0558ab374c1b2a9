//! Which port each virq is bound to (xen/xen.h, `VIRQ_*`).

use alloc::vec::Vec;

use guest_pv_abi as abi;
use oxen_types::{Errno, Port, Result, masked};

use crate::fallible::{self, Account};

/// Virqs that there are.
const COUNT: usize = 24;

/// Virqs that each vcpu has its own of; the others belong to the domain and are bound on vcpu 0.
const PER_VCPU: [u32; 4] = [
    abi::VIRQ_TIMER,
    abi::VIRQ_DEBUG,
    abi::VIRQ_XENOPROF,
    abi::VIRQ_XENPMU,
];

pub(super) fn is_per_vcpu(virq: u32) -> bool {
    PER_VCPU.contains(&virq)
}

/// A guest's number as an index.
fn below(number: u32, len: usize) -> Option<usize> {
    let number = number as usize;
    (number < len).then(|| masked(number, len))
}

type Place = Option<Port>;

pub(super) struct Virqs {
    per_vcpu: Vec<[Place; PER_VCPU.len()]>,
    of_domain: [Place; COUNT],
    charged: usize,
}

impl Virqs {
    pub(super) fn new(account: &Account, vcpus: u32) -> Result<Self> {
        let count = vcpus as usize;
        let charged = count * size_of::<[Place; PER_VCPU.len()]>();
        account.charge(charged)?;
        let per_vcpu = fallible::filled(count, || [None; PER_VCPU.len()]);
        Ok(Self {
            per_vcpu: per_vcpu.inspect_err(|_| account.refund(charged))?,
            of_domain: [None; COUNT],
            charged,
        })
    }

    pub(super) fn get(&self, vcpu: u32, virq: u32) -> Option<Port> {
        let place = match PER_VCPU.iter().position(|own| *own == virq) {
            Some(own) => {
                let vcpu = below(vcpu, self.per_vcpu.len())?;
                self.per_vcpu.get(vcpu)?.get(own)
            }
            None if vcpu == 0 => self.of_domain.get(below(virq, COUNT)?),
            None => None,
        };
        *place?
    }

    fn place(&mut self, vcpu: u32, virq: u32) -> Option<&mut Place> {
        match PER_VCPU.iter().position(|own| *own == virq) {
            Some(own) => {
                let vcpu = below(vcpu, self.per_vcpu.len())?;
                self.per_vcpu.get_mut(vcpu)?.get_mut(own)
            }
            None => self.of_domain.get_mut(below(virq, COUNT)?),
        }
    }

    /// May the virq be bound there? -EINVAL if it is none or belongs elsewhere, -EEXIST if it is
    /// bound.
    pub(super) fn check(&self, vcpu: u32, virq: u32) -> Result<()> {
        if virq as usize >= COUNT || (!is_per_vcpu(virq) && vcpu != 0) {
            return Err(Errno::Inval);
        }
        if vcpu as usize >= self.per_vcpu.len() {
            return Err(Errno::NoEnt);
        }
        match self.get(vcpu, virq) {
            Some(_) => Err(Errno::Exist),
            None => Ok(()),
        }
    }

    pub(super) fn bind(&mut self, vcpu: u32, virq: u32, port: Port) {
        if let Some(place) = self.place(vcpu, virq) {
            *place = Some(port);
        }
    }

    /// `vcpu` hears it: for a virq of the domain's that may be any.
    pub(super) fn unbind(&mut self, vcpu: u32, virq: u32) {
        if let Some(place) = self.place(vcpu, virq) {
            *place = None;
        }
    }

    pub(super) fn clear(&mut self, account: &Account) {
        self.per_vcpu = Vec::new();
        account.refund(core::mem::take(&mut self.charged));
    }
}
