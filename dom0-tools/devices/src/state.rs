//! The state of one side of a device (xen/io/xenbus.h, `enum xenbus_state`).

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The node is missing, or holds no state.
    Unknown,
    Initialising,
    /// The back end is there and waits for the front end, or for what the toolset gives.
    InitWait,
    Initialised,
    Connected,
    Closing,
    Closed,
    Reconfiguring,
    Reconfigured,
}

impl State {
    const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Initialising,
        Self::InitWait,
        Self::Initialised,
        Self::Connected,
        Self::Closing,
        Self::Closed,
        Self::Reconfiguring,
        Self::Reconfigured,
    ];

    /// Reads a node's value.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Self {
        let number = text.and_then(|text| text.trim().parse::<usize>().ok());
        number
            .and_then(|number| Self::ALL.get(number).copied())
            .unwrap_or(Self::Unknown)
    }

    /// The number that stands in the store.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The word that tools print.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Initialising => "initialising",
            Self::InitWait => "waiting",
            Self::Initialised => "initialised",
            Self::Connected => "connected",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::Reconfiguring => "reconfiguring",
            Self::Reconfigured => "reconfigured",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::State;

    #[test]
    fn states_are_their_numbers() {
        for state in State::ALL {
            assert_eq!(State::parse(Some(&state.number().to_string())), state);
        }
        assert_eq!(State::parse(Some("4")), State::Connected);
        for text in [None, Some(""), Some("x"), Some("9"), Some("-1")] {
            assert_eq!(State::parse(text), State::Unknown);
        }
    }
}
