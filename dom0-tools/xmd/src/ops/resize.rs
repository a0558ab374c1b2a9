//! Memory, vcpus and affinity of running domains. A change becomes part of the domain's
//! configuration, so that a restart keeps it.

use super::{Context, json, subject};
use oxen_config::{Affinity, CpuSet, DomainConfig};
use oxen_domain::lifecycle::Listed;
use oxen_domain::{Error, Result, affinity, resize};

impl Context<'_> {
    pub(super) fn set_memory(
        &mut self,
        wanted: &str,
        mib: u32,
        force: bool,
    ) -> Result<serde_json::Value> {
        let found = self.find(wanted)?;
        let most = self
            .manager()
            .by_domain(found.info.domain)
            .map_or(u32::MAX, |entry| entry.config.maxmem_mib);
        let world = &mut self.world;
        let domain = found.info.domain;
        resize::set_memory(world.hypervisor, world.store, domain, mib, most, force)?;
        self.keep(&found, &format!("memory={mib}"), |config| {
            config.memory_mib = mib;
        })
    }

    pub(super) fn set_max_memory(&mut self, wanted: &str, mib: u32) -> Result<serde_json::Value> {
        let found = self.find(wanted)?;
        let world = &mut self.world;
        resize::set_max_memory(world.hypervisor, world.store, found.info.domain, mib)?;
        self.keep(&found, &format!("maxmem={mib}"), |config| {
            config.maxmem_mib = mib;
        })
    }

    pub(super) fn set_vcpus(&mut self, wanted: &str, count: u32) -> Result<serde_json::Value> {
        let found = self.find(wanted)?;
        let world = &mut self.world;
        resize::set_vcpus(world.hypervisor, world.store, found.info.domain, count)?;
        self.keep(&found, &format!("vcpus={count}"), |config| {
            config.vcpus = count;
        })
    }

    /// Sets the affinity of one vcpu, or of all.
    pub(super) fn pin(
        &mut self,
        wanted: &str,
        vcpu: Option<u32>,
        hard: Option<&CpuSet>,
        soft: Option<&CpuSet>,
    ) -> Result<serde_json::Value> {
        let found = self.find(wanted)?;
        let most = found.info.max_vcpu_id.saturating_add(1);
        let which = match vcpu {
            Some(vcpu) if vcpu >= most => {
                let cause = format!("its vcpus are 0 to {}", most - 1);
                let what = format!("cannot place vcpu {vcpu} of {wanted}");
                return Err(Error::new(what, cause).remedy("see xm vcpu-list"));
            }
            Some(vcpu) => vcpu..vcpu + 1,
            None => 0..most,
        };
        for vcpu in which.clone() {
            affinity::pin(self.world.hypervisor, found.info.domain, vcpu, hard, soft)?;
        }
        self.keep(&found, "vcpus were placed", |config| {
            note(&mut config.affinity, most, which.clone(), hard);
            note(&mut config.soft_affinity, most, which, soft);
        })
    }

    /// Notes the new size in the configuration of a domain that xmd manages.
    fn keep(
        &mut self,
        found: &Listed,
        what: &str,
        edit: impl FnOnce(&mut DomainConfig),
    ) -> Result<serde_json::Value> {
        let subject = subject(found);
        self.log.line(&format!("{}: {what}", subject.name));
        if self.manager().by_domain(subject.domain).is_some() {
            self.manager().reconfigure(subject.uuid, edit)?;
        }
        Ok(json(subject))
    }
}

/// Enters the affinity of some vcpus into a configuration.
fn note(
    affinity: &mut Option<Affinity>,
    vcpus: u32,
    which: core::ops::Range<u32>,
    set: Option<&CpuSet>,
) {
    let Some(set) = set else { return };
    let mut each: Vec<CpuSet> = match affinity.take() {
        None => Vec::new(),
        Some(Affinity::Together(same)) => vec![same; vcpus as usize],
        Some(Affinity::Each(sets)) => sets,
    };
    each.resize(each.len().max(vcpus as usize), CpuSet::All);
    for (_, slot) in each
        .iter_mut()
        .enumerate()
        .filter(|(vcpu, _)| which.contains(&(*vcpu as u32)))
    {
        slot.clone_from(set);
    }
    *affinity = Some(Affinity::Each(each));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_noted_for_each_vcpu() {
        let set = |text| CpuSet::parse(text).expect("a list");
        let mut affinity = None;
        note(&mut affinity, 3, 1..2, Some(&set("1")));
        let expected = vec![CpuSet::All, set("1"), CpuSet::All];
        assert_eq!(affinity, Some(Affinity::Each(expected)));
        let mut affinity = Some(Affinity::Together(set("0")));
        note(&mut affinity, 2, 0..1, None);
        assert_eq!(affinity, Some(Affinity::Together(set("0"))));
        note(&mut affinity, 2, 0..1, Some(&set("2-3")));
        assert_eq!(affinity, Some(Affinity::Each(vec![set("2-3"), set("0")])));
    }
}
