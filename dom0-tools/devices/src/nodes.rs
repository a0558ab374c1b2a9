//! The two directories of a device, and where each side reports errors.

use crate::guest::Guest;
use crate::kind::Kind;
use crate::state::State;
use oxen_domain::nodes::home;
use oxen_domain::world::{Access, Change, DomId};

/// The nodes of a kind in the two directories. Links to each other, `state` and `online` come with
/// every kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nodes {
    pub front: Vec<(&'static str, String)>,
    pub back: Vec<(&'static str, String)>,
    /// Warnings for the user who attaches the device.
    pub warnings: Vec<String>,
}

pub(crate) fn front(domain: DomId, kind: Kind, id: u32) -> String {
    format!("{}/device/{}/{id}", home(domain), kind.name())
}

pub(crate) fn back(domain: DomId, kind: Kind, id: u32) -> String {
    format!("{}/{id}", all_back(domain, kind))
}

/// The directory of all back ends of that kind for one guest.
pub(crate) fn all_back(domain: DomId, kind: Kind) -> String {
    format!("{}/backend/{}/{domain}", home(0), kind.name())
}

/// The nodes at which Linux's drivers report why they gave up: dom0's driver, then the guest's.
pub(crate) fn errors(domain: DomId, kind: Kind, id: u32) -> [String; 2] {
    let kind = kind.name();
    [
        format!("{}/error/backend/{kind}/{domain}/{id}", home(0)),
        format!("{}/error/device/{kind}/{id}", home(domain)),
    ]
}

/// Creates both directories. The states come last, and the back end's after the front end's:
/// drivers read nothing before.
pub(crate) fn attach(guest: &Guest<'_>, kind: Kind, id: u32, nodes: &Nodes) -> Vec<Change> {
    let (front, back) = (front(guest.domain, kind, id), back(guest.domain, kind, id));
    let domain = guest.domain;
    let initialising = State::Initialising.number().to_string();
    let mut changes = forget_errors(domain, kind, id);
    directory(&mut changes, &front, Access::Owned(domain), &nodes.front);
    let links = [("backend", back.clone()), ("backend-id", "0".to_owned())];
    write_all(&mut changes, &front, &links);
    directory(&mut changes, &back, Access::Readable(domain), &nodes.back);
    let links = [
        ("frontend", front.clone()),
        ("frontend-id", domain.to_string()),
        ("online", "1".to_owned()),
    ];
    write_all(&mut changes, &back, &links);
    write_all(&mut changes, &front, &[("state", initialising.clone())]);
    write_all(&mut changes, &back, &[("state", initialising)]);
    changes
}

/// Removes both directories and the drivers' reports, and the back end's parent if this was its
/// last device.
pub(crate) fn remove(domain: DomId, kind: Kind, id: u32, last: bool) -> Vec<Change> {
    let mut changes = vec![
        removed(front(domain, kind, id)),
        removed(back(domain, kind, id)),
    ];
    if last {
        changes.extend(forget_all(domain, kind));
    }
    changes.extend(forget_errors(domain, kind, id));
    changes
}

/// Removes the directory of all back ends of that kind for one guest, and of their reports.
pub(crate) fn forget_all(domain: DomId, kind: Kind) -> [Change; 2] {
    let errors = format!("{}/error/backend/{}/{domain}", home(0), kind.name());
    [all_back(domain, kind), errors].map(removed)
}

pub(crate) fn forget_errors(domain: DomId, kind: Kind, id: u32) -> Vec<Change> {
    errors(domain, kind, id).map(removed).into()
}

/// Requests the back end's driver to close.
pub(crate) fn close(domain: DomId, kind: Kind, id: u32) -> Vec<Change> {
    let closing = State::Closing.number().to_string();
    let mut changes = Vec::new();
    write_all(
        &mut changes,
        &back(domain, kind, id),
        &[("online", "0".to_owned()), ("state", closing)],
    );
    changes
}

fn directory(
    changes: &mut Vec<Change>,
    path: &str,
    access: Access,
    nodes: &[(&'static str, String)],
) {
    changes.push(Change::Set {
        path: path.to_owned(),
        value: String::new(),
        access,
    });
    write_all(changes, path, nodes);
}

/// New nodes have their directory's permissions.
pub(crate) fn write_all(
    changes: &mut Vec<Change>,
    directory: &str,
    nodes: &[(&'static str, String)],
) {
    changes.extend(nodes.iter().map(|(key, value)| Change::Write {
        path: format!("{directory}/{key}"),
        value: value.clone(),
    }));
}

fn removed(path: String) -> Change {
    Change::Remove { path }
}
