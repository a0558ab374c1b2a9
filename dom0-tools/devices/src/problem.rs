//! The report that a driver wrote about a device, in words.

use crate::kind::Kind;
use crate::nodes;
use oxen_domain::Result;
use oxen_domain::world::{DomId, Store};

/// The report of dom0's driver, or else of the guest's, if there is one.
pub(crate) fn reported(
    store: &mut dyn Store,
    domain: DomId,
    kind: Kind,
    id: u32,
) -> Result<Option<String>> {
    let sides = ["dom0's driver says", "the guest's driver says"];
    for (path, side) in nodes::errors(domain, kind, id).iter().zip(sides) {
        if let Some(text) = store.read(&format!("{path}/error"))? {
            return Ok(Some(format!("{side}: {}", decode(&text))));
        }
    }
    Ok(None)
}

/// Linux writes an errno and a text: `2 creating vbd structure`.
fn decode(text: &str) -> String {
    let (number, rest) = text.split_once(' ').unwrap_or((text, ""));
    // The guest's text goes to a terminal: control characters are removed.
    let rest: String = rest.chars().filter(|c| !c.is_control()).take(200).collect();
    match number.parse::<i32>() {
        Ok(0) => rest,
        Ok(errno) => {
            let meaning = std::io::Error::from_raw_os_error(errno.saturating_abs()).to_string();
            let meaning = meaning.split(" (os error").next().unwrap_or_default();
            format!("{rest} ({meaning})")
        }
        Err(_) => text.chars().filter(|c| !c.is_control()).take(200).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn numbers_become_words() {
        let text = decode("2 creating vbd structure");
        assert_eq!(text, "creating vbd structure (No such file or directory)");
        assert_eq!(decode("0 all well"), "all well");
        assert_eq!(decode("no number\u{1b}[2J"), "no number[2J");
        assert_eq!(decode(""), "");
    }
}
