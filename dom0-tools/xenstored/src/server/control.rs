//! Commands to the daemon itself.

use super::Server;
use super::requests::decimal;
use crate::error::StoreError;
use crate::record::Record;
use crate::wire::strings;

const HELP: &str = "check\nhelp\nmemreport\nprint <text>\nquota [<domid>|set <name> <value>]";

impl Server {
    pub(super) fn control(&mut self, payload: &[u8]) -> Result<String, StoreError> {
        let words = strings(payload)?;
        let (command, args) = words.split_first().ok_or(StoreError::Inval)?;
        match (*command, args) {
            (b"help", []) => Ok(HELP.to_owned()),
            (b"check", []) if self.tree.is_consistent() => Ok("OK".to_owned()),
            (b"check", []) => Err(StoreError::Io),
            (b"print", [text]) => {
                eprintln!(
                    "xenstored: {}",
                    String::from_utf8_lossy(text).escape_default()
                );
                Ok("OK".to_owned())
            }
            (b"memreport", []) => Ok(self.report()),
            (b"quota", []) => Ok(self
                .quota
                .list()
                .map(|(name, value)| format!("{name}: {value}\n"))
                .concat()),
            (b"quota", [domain]) => Ok(self.usage(self.introduced(decimal(domain)?)?)),
            (b"quota", [b"set", name, value]) => {
                let (name, value) = (String::from_utf8_lossy(name).into_owned(), decimal(value)?);
                if !self.quota.set(&name, value) {
                    return Err(StoreError::Inval);
                }
                self.records.push(Record::Quota { name, value });
                Ok("OK".to_owned())
            }
            _ => Err(StoreError::Inval),
        }
    }

    fn report(&self) -> String {
        let nodes = self.tree.root().count();
        let mut text = format!("nodes: {nodes}\nconnections: {}\n", self.connections.len());
        for (id, connection) in &self.connections {
            let (watches, transactions) = (connection.watches.len(), connection.transactions.len());
            let waiting = connection.outbox.len();
            text += &format!(
                "{id:?}: watches {watches}, transactions {transactions}, bytes waiting {waiting}\n"
            );
        }
        text.truncate(crate::wire::PAYLOAD_MAX - 1);
        text
    }

    fn usage(&self, domain: u16) -> String {
        let connection = self.connections.get(&super::ConnId::Domain(domain));
        let count = |of: fn(&super::Connection) -> usize| connection.map_or(0, of);
        format!(
            "nodes: {}\nwatches: {}\ntransactions: {}\noutstanding: {}\nqueue: {}\n",
            self.tree.usage(domain).nodes,
            count(|c| c.watches.len()),
            count(|c| c.transactions.len()),
            count(|c| c.outbox.replies()),
            count(|c| c.outbox.len()),
        )
    }
}
