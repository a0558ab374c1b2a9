//! The types of values on the command line.

use core::str::FromStr;
use oxen_config::CpuSet;

/// An amount of memory in whole MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mib(pub(crate) u32);

impl FromStr for Mib {
    type Err = String;

    /// A number of MiB, or a number with a unit: 512, 512m, 1g, 524288k.
    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
            Some(at) => text.split_at(at),
            None => (text, "m"),
        };
        let number: u64 = digits
            .parse()
            .map_err(|_| "expected a number of MiB, or one with a unit as 1g".to_owned())?;
        let kib = match unit.to_ascii_lowercase().as_str() {
            "k" => Some(number),
            "m" => number.checked_mul(1 << 10),
            "g" => number.checked_mul(1 << 20),
            "t" => number.checked_mul(1 << 30),
            _ => return Err(format!("{unit:?} is none of the units k, m, g and t")),
        };
        let mib = kib.filter(|kib| kib % 1024 == 0).map(|kib| kib / 1024);
        match mib.and_then(|mib| u32::try_from(mib).ok()) {
            Some(0) => Err("a domain cannot be without memory".to_owned()),
            Some(mib) if mib <= oxen_config::MAX_MIB => Ok(Self(mib)),
            _ => Err("expected whole MiB, and 16 TiB at most".to_owned()),
        }
    }
}

/// One vcpu, or all of a domain's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Which(pub(crate) Option<u32>);

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self(None)),
            number => number
                .parse()
                .map(|vcpu| Self(Some(vcpu)))
                .map_err(|_| "expected a vcpu's number, or all".to_owned()),
        }
    }
}

/// CPUs, or `-` for what there is already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpus(pub(crate) Option<CpuSet>);

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "-" => Ok(Self(None)),
            list => CpuSet::parse(list).map(|set| Self(Some(set))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_units() {
        let mib = |text: &str| text.parse::<Mib>().map(|mib| mib.0).ok();
        for (text, expected) in [
            ("512", Some(512)),
            ("512M", Some(512)),
            ("2g", Some(2048)),
            ("524288k", Some(512)),
            ("1t", Some(1 << 20)),
            ("0", None),
            ("513k", None),
            ("17t", None),
            ("99999999999999999999", None),
            ("-1", None),
            ("1x", None),
            ("m", None),
            ("", None),
        ] {
            assert_eq!(mib(text), expected, "{text}");
        }
    }

    #[test]
    fn a_dash_leaves_it_as_it_is() {
        assert_eq!("-".parse(), Ok(Cpus(None)));
        assert_eq!("all".parse(), Ok(Cpus(Some(CpuSet::All))));
        assert!("3-1".parse::<Cpus>().is_err());
        assert_eq!("all".parse(), Ok(Which(None)));
        assert_eq!("3".parse(), Ok(Which(Some(3))));
        assert!("x".parse::<Which>().is_err());
    }
}
