//! The work that hostile guests cost dom0 at the store, counted by the daemon's own tests on the
//! host.

use anyhow::{Context, Result};

use super::figures::{Measured, STORE, Samples};
use crate::compile::cargo;
use crate::exec::text;

pub(super) fn measure(only: Option<&str>) -> Result<Vec<Measured>> {
    let mut command = cargo();
    command
        .args(["test", "-q", "-p", "xenstored", "--test", "fairness"])
        .args(["--", "--ignored", "--nocapture", "figures"]);
    let said = text(&mut command)?;
    let wanted = STORE
        .iter()
        .filter(|figure| only.is_none_or(|name| name == figure.name));
    wanted
        .map(|figure| {
            let value = value(&said, figure.name)
                .with_context(|| format!("the test did not tell {}", figure.name))?;
            Ok(Measured::new(figure, Some(Samples::from(value)), None))
        })
        .collect()
}

/// The value of a line "figure NAME VALUE".
fn value(said: &str, name: &str) -> Option<f64> {
    said.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("figure ")?.strip_prefix(name)?;
        rest.strip_prefix(' ')?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_whole_name() {
        let said =
            "\nrunning 1 test\nfigure store-hostile-worst 2.5\nfigure store-hostile 2.125\n.\n";
        assert_eq!(value(said, "store-hostile"), Some(2.125));
        assert_eq!(value(said, "store-hostile-worst"), Some(2.5));
        assert_eq!(value(said, "store"), None);
    }
}
