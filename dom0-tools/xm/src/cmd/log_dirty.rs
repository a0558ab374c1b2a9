//! `xm log-dirty`: which pages of a guest are written.

use crate::cli::LogDirty;
use crate::machine::{Machine, failed};
use crate::output::Output;
use oxen_domain::Result;
use std::fmt::Write;

/// x86's pages.
const PAGE_KIB: u64 = 4;

pub(super) fn run(what: LogDirty, domain: &str, pages: Option<u64>, out: &Output) -> Result<()> {
    let mut machine = Machine::open()?;
    let id = machine.find(domain)?.info.domain;
    let calls = machine.xen.calls();
    let clean = match what {
        LogDirty::On => {
            let done = calls.log_dirty_on(id);
            return done.map_err(failed("cannot log writes (is it on already?)"));
        }
        LogDirty::Off => {
            let done = calls.log_dirty_off(id);
            return done.map_err(failed("cannot end the log of writes"));
        }
        LogDirty::Peek => false,
        LogDirty::Clean => true,
    };
    let last = calls
        .maximum_gfn(id)
        .map_err(failed("cannot ask how far its memory goes"))?;
    let pages = pages.unwrap_or(u64::MAX).min(last + 1);
    let found = calls.log_dirty(id, pages, clean, false);
    let found = found.map_err(failed("cannot read the log of writes"))?;
    let text = format!(
        "{} pages written ({} KiB) of {}, {} faults\n",
        found.dirty,
        u64::from(found.dirty) * PAGE_KIB,
        found.pages,
        found.faults
    );
    let mut digits = String::with_capacity(found.bitmap.len() * 2);
    for byte in &found.bitmap {
        let _ = write!(digits, "{byte:02x}");
    }
    let value = serde_json::json!({
        "pages": found.pages, "written": found.dirty, "faults": found.faults, "bitmap": digits,
    });
    out.print(&value, &text);
    Ok(())
}
