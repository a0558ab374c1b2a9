//! VLANs of a bridge port: `10` (an access port), `20/30-32` (tagged), `10p/20` (both: what comes
//! untagged belongs to 10).

use serde::{Deserialize, Serialize};
use std::fmt;

/// One more than the largest VLAN id (802.1Q keeps 4095 for itself).
const LIMIT: u16 = 4095;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Vlans {
    /// Without a tag on the guest's side.
    pub untagged: Option<u16>,
    pub tagged: Vec<u16>,
}

impl TryFrom<String> for Vlans {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Vlans> for String {
    fn from(vlans: Vlans) -> Self {
        vlans.to_string()
    }
}

impl core::str::FromStr for Vlans {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("vlan={text} is not of the form 10, 10p/20 or 20/30-32");
        let number = |word: &str| match word.parse() {
            Ok(id) if (1..LIMIT).contains(&id) => Ok(id),
            Ok(_) => Err(format!("vlan={text}: ids go from 1 to 4094")),
            Err(_) => Err(wrong()),
        };
        if let Ok(id) = number(text) {
            return Ok(Self {
                untagged: Some(id),
                tagged: Vec::new(),
            });
        }
        let mut vlans = Self::default();
        for word in text.split('/') {
            if let Some(id) = word.strip_suffix('p') {
                if vlans.untagged.replace(number(id)?).is_some() {
                    return Err(format!("vlan={text}: only one id can be the untagged one"));
                }
            } else if let Some((first, last)) = word.split_once('-') {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(wrong());
                }
                vlans.tagged.extend(first..=last);
            } else {
                vlans.tagged.push(number(word)?);
            }
        }
        vlans.tagged.sort_unstable();
        vlans.tagged.dedup();
        Ok(vlans)
    }
}

impl fmt::Display for Vlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = self.untagged.iter().map(|id| format!("{id}p")).collect();
        let mut rest = &self.tagged[..];
        while let Some((first, _)) = rest.split_first() {
            let run = (*first..).zip(rest).take_while(|(want, id)| want == *id);
            let run = run.count();
            let last = first + u16::try_from(run).unwrap_or(1) - 1;
            words.push(match run {
                1 if words.is_empty() && rest.len() == 1 => format!("{first}-{first}"),
                1 => first.to_string(),
                _ => format!("{first}-{last}"),
            });
            rest = &rest[run..];
        }
        f.write_str(&words.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Vlans, String> {
        text.parse()
    }

    #[test]
    fn usual_ones() {
        let access = parse("10").expect("an access port");
        assert_eq!((access.untagged, access.tagged.len()), (Some(10), 0));
        let both = parse("10p/20/30-32").expect("both");
        assert_eq!(both.untagged, Some(10));
        assert_eq!(both.tagged, [20, 30, 31, 32]);
        assert_eq!(both.to_string(), "10p/20/30-32");
    }

    #[test]
    fn mistakes() {
        for text in [
            "", "0", "4095", "a", "1p/2p", "5-3", "1-2-3", "-", "10/", "1p0",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn printed_and_read_again(untagged in proptest::option::of(1u16..4095), mut tagged in proptest::collection::vec(1u16..4095, 0..9)) {
            tagged.sort_unstable();
            tagged.dedup();
            let vlans = Vlans { untagged, tagged };
            prop_assume!(vlans != Vlans::default());
            prop_assert_eq!(parse(&vlans.to_string()), Ok(vlans));
        }

        #[test]
        fn no_text_panics(text in "[0-9p/-]{0,12}") {
            let _ = parse(&text);
        }
    }
}
