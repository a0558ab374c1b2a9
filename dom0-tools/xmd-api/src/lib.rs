//! The language between xmd and its clients, and the client's end of the socket ([`client`]). The
//! daemon is the crate xmd; xm and other tools need this crate alone.
//!
//! The language is JSON, one object a line.
//!
//! A client sends requests, each with an `id` of its choice and an `op`:
//!
//! ```json
//! {"id": 1, "op": "create", "config": {"name": "demo", ...}, "paused": false}
//! {"id": 2, "op": "destroy", "domain": "demo"}
//! ```
//!
//! The daemon replies to each with any number of events and then one result, all with the same
//! `id`:
//!
//! ```json
//! {"id": 1, "event": {"kind": "progress", "step": "loading-kernel"}}
//! {"id": 1, "ok": {"domain": 3, "name": "demo", "uuid": "..."}}
//! {"id": 2, "error": {"what": "cannot find demo", "cause": "...", "remedy": "see xm list"}}
//! ```
//!
//! `domain` is a name or a number, always as a string. The operations, their fields and their
//! results; where no result is named it is `{"domain", "name", "uuid"}`:
//!
//! - `version`: the result is `{"version", "pid"}`.
//! - `create`: `config` (the output of `xm create -n --json`), `paused`, `quiet` (no progress).
//! - `list`: the result is `[{"domain", "name", "uuid", "state"}]`, the domains in the journal. A
//!   domain whose last step failed has the reason in `broken`.
//! - `config`: `domain`. The result is the configuration from which the domain was created.
//! - `shutdown`: `domain`, `request` (`poweroff`, `reboot`, `halt` or `suspend`).
//! - `destroy`, `pause`, `unpause`, `resume`: `domain`.
//! - `rename`: `domain`, `name`.
//! - `sysrq`: `domain`, `key`.
//! - `trigger`: `domain`, `trigger` (a number of `XEN_DOMCTL_SENDTRIGGER_*`), `vcpu`.
//! - `attach`: `domain`, `device` (`{"vbd": ...}` as in the configuration's `disks`, or `{"vif":
//!   ...}`).
//! - `detach`: `domain`, `kind` (`vbd` or `vif`), `device` (its name or number), `force`.
//! - `set-memory`: `domain`, `mib`, `force` (even if the guest may not survive). The guest follows
//!   later.
//! - `set-max-memory`: `domain`, `mib`.
//! - `set-vcpus`: `domain`, `count`.
//! - `pin`: `domain`, `vcpu` (none for all), `hard`, `soft` (CPUs; none for no change).
//! - `media`: `domain`, `device` (a CD drive), `target` (an image, or null to empty the drive).
//! - `log`: `lines`. The result is `{"text"}`.
//! - `events`: there is no result; events follow until the client closes the connection.
//!
//! An event is `progress` (with `step`), `warning` (with `text`) or, after `events`, one of
//! `started`, `ended` (with `reason`) and `gone`, with `domain` and `name`.

#![forbid(unsafe_code)]
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

pub mod client;

use oxen_config::{CpuSet, DomainConfig, Uuid};
use oxen_devices::{Kind, Spec};
use oxen_domain::Error;
use oxen_domain::build::Step;
use oxen_domain::lifecycle;
use oxen_domain::world::DomId;
use serde::{Deserialize, Serialize};

/// Where the daemon listens.
pub const SOCKET: &str = "/run/xen/xmd.sock";
/// The environment variable that overrides the path of the socket, for clients.
pub const SOCKET_ENV: &str = "XMD_SOCKET";
/// The longest line that the daemon takes, in bytes.
pub const MAX_LINE: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub id: u64,
    #[serde(flatten)]
    pub op: Op,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Op {
    Version,
    Create {
        config: Box<DomainConfig>,
        #[serde(default)]
        paused: bool,
        /// Whether progress events are left out.
        #[serde(default)]
        quiet: bool,
    },
    List,
    Config {
        domain: String,
    },
    Shutdown {
        domain: String,
        request: lifecycle::Request,
    },
    Destroy {
        domain: String,
    },
    Pause {
        domain: String,
    },
    Unpause {
        domain: String,
    },
    Resume {
        domain: String,
    },
    Rename {
        domain: String,
        name: String,
    },
    Sysrq {
        domain: String,
        key: char,
    },
    Trigger {
        domain: String,
        trigger: u32,
        vcpu: u32,
    },
    Attach {
        domain: String,
        device: Box<Spec>,
    },
    Detach {
        domain: String,
        kind: Kind,
        device: String,
        #[serde(default)]
        force: bool,
    },
    SetMemory {
        domain: String,
        mib: u32,
        /// Whether to set the target even if the guest may not survive with so little.
        #[serde(default)]
        force: bool,
    },
    SetMaxMemory {
        domain: String,
        mib: u32,
    },
    SetVcpus {
        domain: String,
        count: u32,
    },
    Pin {
        domain: String,
        /// The vcpu; all of the domain's if none is named.
        #[serde(default)]
        vcpu: Option<u32>,
        #[serde(default)]
        hard: Option<CpuSet>,
        #[serde(default)]
        soft: Option<CpuSet>,
    },
    /// Inserts a disc into a CD drive, or ejects it.
    Media {
        domain: String,
        device: String,
        /// The image; `None` leaves the drive empty.
        target: Option<String>,
    },
    Log {
        lines: usize,
    },
    Events,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    pub id: u64,
    #[serde(flatten)]
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    Event(Event),
    Ok(serde_json::Value),
    Error(Error),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    Progress {
        step: Step,
    },
    Warning {
        text: String,
    },
    Started {
        domain: DomId,
        name: String,
    },
    Ended {
        domain: DomId,
        name: String,
        reason: String,
    },
    Gone {
        domain: DomId,
        name: String,
    },
}

/// The domain of an operation, by all its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub domain: DomId,
    pub name: String,
    pub uuid: Uuid,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_as_documented() {
        let request: Request =
            serde_json::from_str(r#"{"id": 2, "op": "destroy", "domain": "demo"}"#)
                .expect("a request");
        assert_eq!(
            request,
            Request {
                id: 2,
                op: Op::Destroy {
                    domain: "demo".into()
                }
            }
        );
        let error = Error::new("cannot find demo", "there is none").remedy("see xm list");
        let reply = serde_json::to_string(&Reply {
            id: 2,
            body: Body::Error(error),
        })
        .expect("JSON");
        assert_eq!(
            reply,
            r#"{"id":2,"error":{"what":"cannot find demo","cause":"there is none","remedy":"see xm list"}}"#
        );
        let event = Reply {
            id: 1,
            body: Body::Event(Event::Progress {
                step: Step::LoadingKernel,
            }),
        };
        let text = serde_json::to_string(&event).expect("JSON");
        assert_eq!(
            text,
            r#"{"id":1,"event":{"kind":"progress","step":"loading-kernel"}}"#
        );
        assert_eq!(
            serde_json::from_str::<Reply>(&text).expect("and back"),
            event
        );
    }

    #[test]
    fn nonsense_is_no_request() {
        for line in [
            "",
            "{}",
            r#"{"id":1}"#,
            r#"{"id":1,"op":"fly"}"#,
            r#"{"id":-1,"op":"list"}"#,
            "[1]",
        ] {
            assert!(serde_json::from_str::<Request>(line).is_err(), "{line}");
        }
    }
}
