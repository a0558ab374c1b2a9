//! The limits of one guest's use of the store; dom0 is not limited.
//!
//! Two kinds of limits, each for one domain. A hard one is a refusal. A soft one is a line in the
//! log with the domain's number, so that somebody may look before it comes to that. All can be
//! changed at run time (`xenstore control quota`); what is above a new limit already may stay, but
//! not grow.

macro_rules! quotas {
    ($($(#[$doc:meta])* $field:ident, $name:literal, $default:expr, $means:literal;)*) => {
        /// The hard limits. The defaults are those of Xen 4.17.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Quota {
            $($(#[$doc])* pub $field: u32,)*
            pub soft: Soft,
        }

        impl Default for Quota {
            fn default() -> Self {
                Self { $($field: $default,)* soft: Soft::default() }
            }
        }

        impl Quota {
            /// Name, value and meaning of each hard limit.
            pub fn list(&self) -> Vec<(&'static str, u32, &'static str)> {
                vec![$(($name, self.$field, $means)),*]
            }

            fn slot(&mut self, name: &str) -> Option<&mut u32> {
                match name {
                    $($name => Some(&mut self.$field),)*
                    _ => None,
                }
            }
        }
    };
}

quotas! {
    nodes, "nodes", 1000, "nodes that it owns";
    watches, "watches", 128, "watches (and one more)";
    transactions, "transactions", 10, "transactions at a time (and one more)";
    /// Replies that wait for the guest to take them before its next request is looked at.
    outstanding, "outstanding", 20, "answers that wait for it";
    transaction_nodes, "transaction-nodes", 1024, "nodes that a transaction touches";
    /// Bytes of everything that the guest makes the store keep.
    memory, "memory", 2560 * 1024, "bytes of all that it makes the store keep";
    /// Bytes of one node: value, names of children, permissions.
    node_size, "node-size", 2048, "bytes of a node";
    permissions, "permissions", 5, "permissions of a node";
    /// Bytes that wait for the guest to take them; watch events beyond are lost.
    queue, "queue", 256 * 1024, "bytes that wait for it, before events are dropped";
}

/// The soft limits; 0 is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soft {
    pub nodes: u32,
    pub watches: u32,
    pub transactions: u32,
    pub memory: u32,
}

impl Default for Soft {
    fn default() -> Self {
        Self {
            nodes: 800,
            watches: 100,
            transactions: 8,
            memory: 2048 * 1024,
        }
    }
}

/// Before the name of a soft limit, where hard and soft ones are distinguished by name.
const SOFT: &str = "soft-";

impl Quota {
    pub const fn soft_list(&self) -> [(&'static str, u32); 4] {
        [
            ("nodes", self.soft.nodes),
            ("watches", self.soft.watches),
            ("transactions", self.soft.transactions),
            ("memory", self.soft.memory),
        ]
    }

    /// The name of a soft limit among all limits.
    pub fn soft_name(name: &str) -> String {
        format!("{SOFT}{name}")
    }

    /// Changes a limit; false if there is none of that name.
    pub fn set(&mut self, name: &str, value: u32) -> bool {
        let slot = match name.strip_prefix(SOFT) {
            Some("nodes") => Some(&mut self.soft.nodes),
            Some("watches") => Some(&mut self.soft.watches),
            Some("transactions") => Some(&mut self.soft.transactions),
            Some("memory") => Some(&mut self.soft.memory),
            Some(_) => None,
            None => self.slot(name),
        };
        slot.map(|slot| *slot = value).is_some()
    }

    /// The limits that differ from the defaults, by the names that [`Self::set`] takes.
    pub fn changed(&self) -> Vec<(String, u32)> {
        let first = Self::default();
        let hard = self.list().into_iter().zip(first.list());
        let hard = hard
            .filter(|(now, then)| now.1 != then.1)
            .map(|(now, _)| (now.0.to_owned(), now.1));
        let soft = self.soft_list().into_iter().zip(first.soft_list());
        let soft = soft
            .filter(|(now, then)| now.1 != then.1)
            .map(|(now, _)| (Self::soft_name(now.0), now.1));
        hard.chain(soft).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_can_be_set_by_its_name() {
        let mut quota = Quota::default();
        assert!(quota.changed().is_empty());
        let hard = quota.list().into_iter().map(|(name, ..)| name.to_owned());
        let soft = quota.soft_list().map(|(name, _)| Quota::soft_name(name));
        let names: Vec<String> = hard.chain(soft).collect();
        for (n, name) in names.iter().enumerate() {
            assert!(quota.set(name, n as u32 + 1), "{name}");
        }
        let changed = quota.changed();
        assert_eq!(changed.len(), names.len());
        for (n, (name, value)) in changed.iter().enumerate() {
            assert_eq!((name, *value), (&names[n], n as u32 + 1));
        }
        for name in ["", "node", "soft-", "soft-queue", "soft-soft-nodes"] {
            assert!(!quota.set(name, 1), "{name}");
        }
    }
}
