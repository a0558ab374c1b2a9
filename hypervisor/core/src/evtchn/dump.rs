//! The lines about a domain's ports in a dump (debug key `e`).

use oxen_types::Port;

use super::EventChannels;
use super::ports::Binding;
use crate::domain::Domain;

/// Most ports that a dump shows. The dump is made under the lock.
const MOST_SHOWN: usize = 512;

impl EventChannels {
    /// One line about each port in use, up to a bound.
    ///
    /// # Errors
    /// An error of `out`'s.
    pub fn dump(&self, domain: &Domain, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        let table = self.table.lock();
        let all = (1..table.ports.end()).map(Port);
        let used = all.filter_map(|port| Some((port, table.ports.get(port).ok()?)));
        for (port, entry) in used.take(MOST_SHOWN) {
            let (pending, masked) = (
                table.is_pending(domain, port),
                table.is_masked(domain, port),
            );
            write!(
                out,
                "  port {port} vcpu {} prio {} ",
                entry.vcpu, entry.priority
            )?;
            write!(
                out,
                "[{}{}] ",
                if pending { 'p' } else { '-' },
                if masked { 'm' } else { '-' }
            )?;
            match &entry.binding {
                Binding::Free => writeln!(out, "free")?,
                Binding::Unbound { remote } => writeln!(out, "unbound, for d{remote}")?,
                Binding::Interdomain { domain, port } => {
                    writeln!(out, "d{} port {port}", domain.id)?
                }
                Binding::Virq(virq) => writeln!(out, "virq {virq}")?,
                Binding::Ipi => writeln!(out, "ipi")?,
            }
        }
        match table.ports.used().saturating_sub(MOST_SHOWN) {
            0 => Ok(()),
            more => writeln!(out, "  and {more} more"),
        }
    }
}
