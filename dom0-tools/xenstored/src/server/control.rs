//! Commands to the daemon itself, as Xen's `xenstore-control` sends them (docs/misc/xenstore.txt
//! there).

use super::requests::decimal;
use super::{ConnId, Platform, Server};
use crate::error::StoreError;
use crate::perms::DomId;
use crate::quota::Quota;
use crate::record::Record;
use crate::wire::strings;

const HELP: &str = "check\nhelp\nlog [on|off|+<switch>|-<switch>]\nlogfile <file>\nmemreport\nprint <text>\n\
                    quota [<domid>|set <name> <value>]\nquota-soft [set <name> <value>]";
const DONE: &str = "OK";

/// The kinds of events that are written to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// Each request.
    pub io: bool,
    /// Guests at their limits.
    pub quota: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            io: false,
            quota: true,
        }
    }
}

impl Log {
    /// `on`, `off`, `+io`, `-quota` and so on; false for anything else.
    fn switch(&mut self, word: &[u8]) -> bool {
        let (on, name) = match word {
            b"on" => (true, None),
            b"off" => (false, None),
            [b'+', name @ ..] => (true, Some(name)),
            [b'-', name @ ..] => (false, Some(name)),
            _ => return false,
        };
        match name {
            None => *self = Self { io: on, quota: on },
            Some(b"io") => self.io = on,
            Some(b"quota") => self.quota = on,
            Some(_) => return false,
        }
        true
    }
}

impl Server {
    pub(super) fn control(
        &mut self,
        payload: &[u8],
        platform: &mut dyn Platform,
    ) -> Result<String, StoreError> {
        let words = strings(payload)?;
        let (command, args) = words.split_first().ok_or(StoreError::Inval)?;
        match (*command, args) {
            (b"help", []) => Ok(HELP.to_owned()),
            (b"check", []) if self.tree.is_consistent() => Ok(DONE.to_owned()),
            (b"check", []) => Err(StoreError::Io),
            (b"print", [text]) => {
                eprintln!(
                    "xenstored: {}",
                    String::from_utf8_lossy(text).escape_default()
                );
                Ok(DONE.to_owned())
            }
            (b"log", []) => Ok(format!(
                "io: {}\nquota: {}\n",
                u8::from(self.log.io),
                u8::from(self.log.quota)
            )),
            (b"log", [word]) => {
                let known = self.log.switch(word);
                known.then(|| DONE.to_owned()).ok_or(StoreError::Inval)
            }
            (b"logfile", [file]) => {
                let file = core::str::from_utf8(file).map_err(|_| StoreError::Inval)?;
                platform.log_to(file).map(|()| DONE.to_owned())
            }
            (b"memreport", []) => Ok(self.report()),
            (b"quota", []) => Ok(self.hard_quotas()),
            (b"quota", [domain]) => Ok(self.usage(self.introduced(decimal(domain)?)?)),
            (b"quota", [b"set", name, value]) => self.set_quota(name, value, false),
            (b"quota-soft", []) => {
                let line = |(name, value)| format!("{name:<17}: {value:>8}\n");
                Ok(self.quota.soft_list().map(line).concat())
            }
            (b"quota-soft", [b"set", name, value]) => self.set_quota(name, value, true),
            _ => Err(StoreError::Inval),
        }
    }

    fn hard_quotas(&self) -> String {
        let all = self.quota.list().into_iter();
        all.map(|(name, value, means)| format!("{name:<17}: {value:>8} {means}\n"))
            .collect()
    }

    fn set_quota(&mut self, name: &[u8], value: &[u8], soft: bool) -> Result<String, StoreError> {
        let value = decimal(value)?;
        let name = core::str::from_utf8(name).map_err(|_| StoreError::Inval)?;
        let name = if soft {
            Quota::soft_name(name)
        } else {
            name.to_owned()
        };
        // A soft limit has no other name.
        if !soft && name.starts_with("soft-") || !self.quota.set(&name, value) {
            return Err(StoreError::Inval);
        }
        self.records.push(Record::Quota { name, value });
        Ok(DONE.to_owned())
    }

    fn report(&self) -> String {
        let nodes = self.tree.root().count();
        let mut text = format!("nodes: {nodes}\nconnections: {}\n", self.connections.len());
        for (id, connection) in &self.connections {
            let (watches, transactions) = (connection.watches.len(), connection.transactions.len());
            let (waiting, held) = (connection.outbox.len(), connection.held());
            text += &format!(
                "{id:?}: watches {watches}, transactions {transactions}, bytes waiting {waiting}, bytes held \
                 {held}\n"
            );
        }
        text.truncate(crate::wire::PAYLOAD_MAX - 1);
        text
    }

    fn usage(&self, domain: DomId) -> String {
        let connection = self.connections.get(&ConnId::Domain(domain));
        let count = |of: fn(&super::Connection) -> usize| connection.map_or(0, of);
        let rows = [
            ("nodes", self.tree.usage(domain).nodes as usize),
            ("watches", count(|c| c.watches.len())),
            ("transactions", count(|c| c.transactions.len())),
            ("outstanding", count(|c| c.outbox.replies())),
            ("memory", self.memory_of(domain)),
            ("queue", count(|c| c.outbox.len())),
        ];
        let rows = rows.map(|(name, value)| format!("{name:<17}: {value:>8}\n"));
        format!("Domain {domain}:\n{}", rows.concat())
    }
}
