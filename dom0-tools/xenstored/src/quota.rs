//! What one guest may use of the store; dom0 is not limited.

/// The limits, each for one domain. The defaults are those of Xen 4.17.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    pub nodes: u32,
    pub watches: u32,
    pub transactions: u32,
    /// Bytes of one node: value, names of children, permissions.
    pub node_size: u32,
    pub permissions: u32,
    /// Nodes that one transaction may touch.
    pub transaction_nodes: u32,
    /// Answers that wait for the guest to take them before its next request is looked at.
    pub outstanding: u32,
    /// Bytes that wait for the guest to take them; watch events beyond are lost.
    pub queue: u32,
    /// Bytes of everything that the guest makes the store keep.
    pub memory: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            nodes: 1000,
            watches: 128,
            transactions: 10,
            node_size: 2048,
            permissions: 5,
            transaction_nodes: 1024,
            outstanding: 20,
            queue: 256 * 1024,
            memory: 2560 * 1024,
        }
    }
}

impl Quota {
    /// Names and values, for the control command.
    pub fn list(&self) -> [(&'static str, u32); 9] {
        [
            ("nodes", self.nodes),
            ("watches", self.watches),
            ("transactions", self.transactions),
            ("node-size", self.node_size),
            ("permissions", self.permissions),
            ("transaction-nodes", self.transaction_nodes),
            ("outstanding", self.outstanding),
            ("queue", self.queue),
            ("memory", self.memory),
        ]
    }

    /// Changes one; false if there is none of that name.
    pub fn set(&mut self, name: &str, value: u32) -> bool {
        let slot = match name {
            "nodes" => &mut self.nodes,
            "watches" => &mut self.watches,
            "transactions" => &mut self.transactions,
            "node-size" => &mut self.node_size,
            "permissions" => &mut self.permissions,
            "transaction-nodes" => &mut self.transaction_nodes,
            "outstanding" => &mut self.outstanding,
            "queue" => &mut self.queue,
            "memory" => &mut self.memory,
            _ => return false,
        };
        *slot = value;
        true
    }
}
