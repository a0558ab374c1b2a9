//! The affinity of vcpus: at the build of a domain, and while it runs.

use crate::world::{DomId, Hypervisor, explain};
use crate::{Error, Result};
use oxen_config::{Affinity, CpuSet, DomainConfig};
use oxen_sys::hypercall::AffinityKind;

/// Sets the affinity of each vcpu of a new domain from its configuration.
///
/// # Errors
/// `Error` if a set names no CPU of this machine, or if the hypervisor refuses.
pub fn apply(hypervisor: &dyn Hypervisor, config: &DomainConfig, domain: DomId) -> Result<()> {
    for vcpu in 0..config.max_vcpus {
        let hard = chosen(config.affinity.as_ref(), vcpu);
        let soft = chosen(config.soft_affinity.as_ref(), vcpu);
        pin(hypervisor, domain, vcpu, hard, soft)?;
    }
    Ok(())
}

/// The set of a vcpu.
fn chosen(affinity: Option<&Affinity>, vcpu: u32) -> Option<&CpuSet> {
    match affinity? {
        Affinity::Together(set) => Some(set),
        Affinity::Each(sets) => sets.get(vcpu as usize),
    }
}

/// Sets the hard affinity of a vcpu to `hard`, and the soft one to `soft`; `None` leaves that one
/// as it is.
///
/// # Errors
/// `Error` if a set names no CPU of this machine, or if the hypervisor refuses. Nothing has changed
/// then.
pub fn pin(
    hypervisor: &dyn Hypervisor,
    domain: DomId,
    vcpu: u32,
    hard: Option<&CpuSet>,
    soft: Option<&CpuSet>,
) -> Result<()> {
    let wishes = [(AffinityKind::Hard, hard), (AffinityKind::Soft, soft)];
    if wishes.iter().all(|(_, set)| set.is_none()) {
        return Ok(());
    }
    let what = || format!("cannot place vcpu {vcpu} of domain {domain}");
    let cpus = hypervisor.cpus().map_err(|errno| explain(what(), errno))?;
    let mut maps = Vec::new();
    for (kind, set) in wishes {
        let Some(set) = set else { continue };
        let map = bitmap(set, cpus).ok_or_else(|| {
            let cause = "none of these CPUs is there".to_owned();
            Error::new(what(), cause).remedy(format!("this machine has 0-{}", cpus.max(1) - 1))
        })?;
        maps.push((kind, map));
    }
    for (kind, map) in maps {
        let set = hypervisor.set_affinity(domain, vcpu, kind, &map);
        set.map_err(|errno| explain(what(), errno))?;
    }
    Ok(())
}

/// The members of a set that this machine has, one bit each; None if there are none.
fn bitmap(set: &CpuSet, cpus: u32) -> Option<Vec<u8>> {
    let mut bits = vec![0u8; (cpus as usize).div_ceil(8)];
    for cpu in (0..cpus).filter(|cpu| set.contains(*cpu)) {
        if let Some(byte) = bits.get_mut(cpu as usize / 8) {
            *byte |= 1 << (cpu % 8);
        }
    }
    bits.iter().any(|byte| *byte != 0).then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fake;
    use oxen_sys::hypercall::CreateDomain;

    fn set(text: &str) -> CpuSet {
        CpuSet::parse(text).expect("a good list")
    }

    #[test]
    fn sets_become_bits_of_cpus_that_are_there() {
        assert_eq!(bitmap(&set("0-3,^1"), 16), Some(vec![0b1101, 0]));
        assert_eq!(bitmap(&set("all"), 3), Some(vec![0b111]));
        assert_eq!(bitmap(&set("all,^0"), 3), Some(vec![0b110]));
        assert_eq!(bitmap(&set("8-20"), 10), Some(vec![0, 0b11]));
        assert_eq!(bitmap(&set("8-20"), 8), None);
    }

    #[test]
    fn a_set_without_a_cpu_changes_nothing() {
        let fake = Fake::new(64);
        let domain = fake.create(&CreateDomain::pvh([1; 16], 1)).expect("one");
        pin(&fake, domain, 0, Some(&set("1")), Some(&set("0-1"))).expect("both are there");
        let error = pin(&fake, domain, 0, Some(&set("0")), Some(&set("77")))
            .expect_err("no CPU 77")
            .to_string();
        assert!(error.contains("this machine has 0-3"), "{error}");
        let state = fake.state.borrow();
        let found = &state.domains[&domain].affinity;
        assert_eq!(found[&(0, AffinityKind::Hard)], [0b10]);
        assert_eq!(found[&(0, AffinityKind::Soft)], [0b11]);
    }
}
