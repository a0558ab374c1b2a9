//! A domain's nodes in the store, with who may read and write them. The set and the permissions are
//! libxl's, because guests and other tools count on them (docs/misc/xenstore-paths).

use crate::layout::{CONSOLE_GFN, STORE_GFN};
use crate::world::{Access, Change, DomId};
use oxen_config::{DomainConfig, Uuid};
use std::collections::BTreeMap;

/// How much unread console output is kept for a domain, in bytes.
const CONSOLE_LIMIT: u32 = 1 << 20;
/// The longest chain of `-1`, `-2`, ... that is tried for a name.
const MAX_SUFFIX: u32 = 10_000;

/// The home of a domain in the store.
#[must_use]
pub fn home(domain: DomId) -> String {
    format!("/local/domain/{domain}")
}

/// The node of a domain's UUID, which stays when the number changes.
#[must_use]
pub fn vm(uuid: Uuid) -> String {
    format!("/vm/{uuid}")
}

/// The ports through which a domain reaches store and console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    pub store: u32,
    pub console: u32,
}

/// The nodes of a new domain. `started` is in seconds since the epoch.
#[must_use]
pub fn create(
    domain: DomId,
    uuid: Uuid,
    config: &DomainConfig,
    ports: Ports,
    started: u64,
) -> Vec<Change> {
    let (home, vm) = (home(domain), vm(uuid));
    let read = Access::Readable(domain);
    let own = Access::Owned(domain);
    let kib = u64::from(config.memory_mib) * 1024;
    let mut list = List::default();
    list.remove(&home);
    list.remove(&vm);
    list.set(&home, "", read);
    list.set(&vm, "", read);
    list.set(&format!("{vm}/uuid"), &uuid.to_string(), read);
    list.set(&format!("{vm}/name"), &config.name, read);
    list.set(&format!("{vm}/start_time"), &started.to_string(), read);
    let mut here =
        |path: &str, value: &str, access| list.set(&format!("{home}/{path}"), value, access);
    here("vm", &vm, read);
    here("name", &config.name, read);
    here("domid", &domain.to_string(), read);
    here("cpu", "", read);
    for vcpu in 0..config.max_vcpus {
        here(&format!("cpu/{vcpu}"), "", read);
        let state = if vcpu < config.vcpus {
            "online"
        } else {
            "offline"
        };
        here(&format!("cpu/{vcpu}/availability"), state, read);
    }
    here("memory", "", read);
    // The guest treats the difference to the memory that it sees at boot as memory that it must not
    // touch. So this is the memory at build, not maxmem.
    here("memory/static-max", &kib.to_string(), read);
    here("memory/target", &kib.to_string(), read);
    here("memory/videoram", "0", read);
    here("device", "", read);
    here("device/suspend", "", read);
    here("device/suspend/event-channel", "", own);
    here("control", "", read);
    for path in [
        "shutdown",
        "feature-poweroff",
        "feature-reboot",
        "feature-suspend",
        "sysrq",
    ] {
        here(&format!("control/{path}"), "", own);
    }
    here("control/platform-feature-multiprocessor-suspend", "1", read);
    here("control/platform-feature-xs_reset_watches", "1", read);
    for path in ["data", "drivers", "feature", "attr", "error"] {
        here(path, "", own);
    }
    here("platform", "", read);
    here("store", "", read);
    here("store/port", &ports.store.to_string(), read);
    here("store/ring-ref", &STORE_GFN.to_string(), read);
    console(&mut here, domain, ports);
    let back = console_backend(domain);
    list.set(
        &format!("/local/domain/0/backend/console/{domain}"),
        "",
        read,
    );
    list.set(&back, "", read);
    for (key, value) in [
        ("frontend", format!("{home}/console").as_str()),
        ("frontend-id", &domain.to_string()),
        ("online", "1"),
        ("state", "1"),
        ("protocol", "vt100"),
    ] {
        list.set(&format!("{back}/{key}"), value, read);
    }
    list.changes
}

fn console(here: &mut impl FnMut(&str, &str, Access), domain: DomId, ports: Ports) {
    let read = Access::Readable(domain);
    here("console", "", read);
    for (key, value) in [
        ("backend", console_backend(domain).as_str()),
        ("backend-id", "0"),
        ("limit", &CONSOLE_LIMIT.to_string()),
        ("type", "xenconsoled"),
        ("output", "pty"),
        ("tty", ""),
        ("port", &ports.console.to_string()),
        ("ring-ref", &CONSOLE_GFN.to_string()),
    ] {
        here(&format!("console/{key}"), value, read);
    }
}

fn console_backend(domain: DomId) -> String {
    format!("/local/domain/0/backend/console/{domain}/0")
}

/// Removes everything of a domain.
#[must_use]
pub fn remove(domain: DomId, uuid: Option<Uuid>) -> Vec<Change> {
    let mut list = List::default();
    list.remove(&home(domain));
    for kind in ["console", "vbd", "vif"] {
        list.remove(&format!("/local/domain/0/backend/{kind}/{domain}"));
        list.remove(&format!("/local/domain/0/error/backend/{kind}/{domain}"));
    }
    if let Some(uuid) = uuid {
        list.remove(&vm(uuid));
    }
    list.changes
}

/// Gives a domain another name.
#[must_use]
pub fn rename(domain: DomId, uuid: Uuid, name: &str) -> Vec<Change> {
    let write = |path: String| Change::Write {
        path,
        value: name.to_owned(),
    };
    vec![
        write(format!("{}/name", home(domain))),
        write(format!("{}/name", vm(uuid))),
    ]
}

/// Gives the rest of an ended domain another name and UUID, so that its successor can have the old
/// ones.
#[must_use]
pub fn preserve(domain: DomId, old: Uuid, new: Uuid, name: &str) -> Vec<Change> {
    let (home, vm) = (home(domain), vm(new));
    let read = Access::Readable(domain);
    let mut list = List::default();
    list.set(&vm, "", read);
    list.set(&format!("{vm}/uuid"), &new.to_string(), read);
    list.set(&format!("{vm}/name"), name, read);
    list.set(&format!("{home}/vm"), &vm, read);
    list.set(&format!("{home}/name"), name, read);
    list.remove(&self::vm(old));
    list.changes
}

/// The first of `name-1`, `name-2`, ... that is free.
#[must_use]
pub fn free_name(name: &str, taken: impl Fn(&str) -> bool) -> Option<String> {
    (1..MAX_SUFFIX)
        .map(|n| format!("{name}-{n}"))
        .find(|candidate| !taken(candidate))
}

/// Collects changes. A new node has its parent's permissions, so permissions are set only where
/// they differ, which halves the number of requests.
#[derive(Default)]
struct List {
    changes: Vec<Change>,
    made: BTreeMap<String, Access>,
}

impl List {
    fn set(&mut self, path: &str, value: &str, access: Access) {
        let parent = path
            .rsplit_once('/')
            .and_then(|(parent, _)| self.made.get(parent));
        let (inherited, path, value) = (parent == Some(&access), path.to_owned(), value.to_owned());
        self.made.insert(path.clone(), access);
        self.changes.push(if inherited {
            Change::Write { path, value }
        } else {
            Change::Set {
                path,
                value,
                access,
            }
        });
    }

    fn remove(&mut self, path: &str) {
        self.changes.push(Change::Remove {
            path: path.to_owned(),
        });
    }
}
