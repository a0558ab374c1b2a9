//! The traces that guests' network cards may leave behind in dom0.

use anyhow::{Result, bail};

use crate::lab::Lab;

impl Lab {
    /// Devices, the store's nodes, and addresses given away.
    pub fn traces(&mut self) -> Result<String> {
        // The NAT network stays once it is there; so does an empty directory of the store.
        self.sh("ls /sys/class/net | grep -v xmnat0; for d in /local/domain/0/backend/vif /local/domain/0/error/backend/vif; do echo $d: $(xsls $d | grep -v ENOENT); done; ls /run/xen/net/nat 2>/dev/null | grep -c .; ls /sys/bus/xen-backend/devices")
    }

    /// Guests have left nothing else.
    pub fn leaves_only(&mut self, before: &str) -> Result<()> {
        let mut after = String::new();
        for _ in 0..30 {
            after = self.traces()?;
            if after == before {
                return Ok(());
            }
            self.sh("sleep 1")?;
        }
        bail!("{before} became {after}")
    }
}
