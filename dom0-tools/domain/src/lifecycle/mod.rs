//! Operations on a running domain: listing, finding, shutting down, SysRq; and dom0's own nodes.

use crate::nodes;
use crate::world::{Change, DomId, Hypervisor, Store, explain};
use crate::{Error, Result};
use oxen_config::Uuid;
use oxen_sys::hypercall::DomainInfo;
use serde::{Deserialize, Serialize};

/// A polite request, which the guest's kernel carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    Poweroff,
    Reboot,
    Halt,
    Suspend,
}

impl Request {
    /// The word that the guest's kernel knows.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Poweroff => "poweroff",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
            Self::Suspend => "suspend",
        }
    }
}

/// A domain with its name.
#[derive(Debug, Clone)]
pub struct Listed {
    pub info: DomainInfo,
    /// None for one that the store does not know (yet).
    pub name: Option<String>,
}

impl Listed {
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        Uuid(self.info.handle)
    }
}

/// All domains, by number.
///
/// # Errors
/// `Error` if the hypervisor or the store does not answer.
pub fn list(hypervisor: &dyn Hypervisor, store: &mut dyn Store) -> Result<Vec<Listed>> {
    list_with(hypervisor, store, |_| None)
}

/// All domains, for a caller that knows the names of most: the store is read for the others only.
///
/// # Errors
/// `Error` if the hypervisor or the store does not answer.
pub fn list_with(
    hypervisor: &dyn Hypervisor,
    store: &mut dyn Store,
    known: impl Fn(&DomainInfo) -> Option<String>,
) -> Result<Vec<Listed>> {
    let infos = hypervisor
        .domains()
        .map_err(|errno| explain("cannot list domains", errno))?;
    let mut names: Vec<Option<String>> = infos.iter().map(known).collect();
    let unknown = names.iter().zip(&infos).filter(|(name, _)| name.is_none());
    let paths: Vec<String> = unknown
        .map(|(_, info)| format!("{}/name", nodes::home(info.domain)))
        .collect();
    let read = store.read_all(&paths)?;
    let missing = names.iter_mut().filter(|name| name.is_none());
    missing.zip(read).for_each(|(name, read)| *name = read);
    let listed = infos.into_iter().zip(names).map(|(info, name)| Listed {
        info,
        name: name.filter(|name| !name.is_empty()),
    });
    Ok(listed.collect())
}

/// The domain of that name or number.
///
/// # Errors
/// `Error` if there is no such domain, or if the hypervisor or the store does not answer.
pub fn find(hypervisor: &dyn Hypervisor, store: &mut dyn Store, wanted: &str) -> Result<Listed> {
    pick(list(hypervisor, store)?, wanted)
}

/// Finds a domain by name or number in a list.
///
/// # Errors
/// `Error` if there is no such domain.
pub fn pick(domains: Vec<Listed>, wanted: &str) -> Result<Listed> {
    let number = wanted.parse::<DomId>().ok();
    let found = domains.into_iter().find(|domain| {
        domain.name.as_deref() == Some(wanted) || number == Some(domain.info.domain)
    });
    found.ok_or_else(|| {
        Error::new(
            format!("cannot find {wanted}"),
            "there is no domain of that name or number",
        )
        .remedy("see xm list")
    })
}

/// Sends a request to the guest's kernel.
///
/// # Errors
/// `Error` if there is no such domain, if it has ended, or if the store refuses.
pub fn request(
    hypervisor: &dyn Hypervisor,
    store: &mut dyn Store,
    domain: DomId,
    request: Request,
) -> Result<()> {
    let what = format!("cannot ask domain {domain} to {}", request.word());
    if domain == 0 {
        return Err(Error::new(what, "it is the privileged domain")
            .remedy(format!("run {} in it", request.word())));
    }
    let info = hypervisor
        .info(domain)
        .map_err(|errno| explain(&what, errno))?;
    if info.dying() || info.shutdown().is_some() {
        return Err(
            Error::new(what, "it has ended already").remedy("xm destroy removes what is left")
        );
    }
    let path = format!("{}/control/shutdown", nodes::home(domain));
    if store.read(&path)?.is_none() {
        return Err(Error::new(what, "it has no node for requests in the store")
            .remedy("xm destroy ends it"));
    }
    store.apply(&[Change::Write {
        path,
        value: request.word().to_owned(),
    }])
}

/// Sends a magic SysRq key.
///
/// # Errors
/// `Error` of the store.
pub fn sysrq(store: &mut dyn Store, domain: DomId, key: char) -> Result<()> {
    let path = format!("{}/control/sysrq", nodes::home(domain));
    if store.read(&path)?.is_none() {
        let what = format!("cannot send SysRq to domain {domain}");
        return Err(Error::new(what, "it has no node for that in the store").remedy("see xm list"));
    }
    store.apply(&[Change::Write {
        path,
        value: key.to_string(),
    }])
}

/// The privileged domain's own nodes, as every tool expects them. Can be repeated.
///
/// # Errors
/// `Error` of the store.
pub fn enter_dom0(store: &mut dyn Store, uuid: Uuid) -> Result<()> {
    let write = |path: &str, value: &str| Change::Write {
        path: path.to_owned(),
        value: value.to_owned(),
    };
    let vm = nodes::vm(uuid);
    let mut changes = vec![
        write("/local/domain/0/domid", "0"),
        write("/local/domain/0/vm", &vm),
        write(&format!("{vm}/uuid"), &uuid.to_string()),
        write("/tool/xmd/domid", "0"),
        write("/local/pool/0/name", "Pool-0"),
    ];
    if store.read("/local/domain/0/name")?.is_none() {
        changes.push(write("/local/domain/0/name", "Domain-0"));
        changes.push(write(&format!("{vm}/name"), "Domain-0"));
    }
    store.apply(&changes)
}

#[cfg(test)]
mod tests;
