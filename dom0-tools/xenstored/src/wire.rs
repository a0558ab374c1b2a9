//! Messages as bytes: a header of four words, then the payload (io/xs_wire.h).

use guest_pv_abi as abi;

use crate::error::StoreError;

/// The length of a header.
pub const HEADER: usize = size_of::<abi::XsdSockmsg>();
/// The longest payload. A connection that sends a longer one is closed.
pub const PAYLOAD_MAX: usize = abi::XENSTORE_PAYLOAD_MAX as usize;
/// The longest absolute path.
pub const ABS_PATH_MAX: usize = abi::XENSTORE_ABS_PATH_MAX as usize;
/// The longest path relative to a domain's own.
pub const REL_PATH_MAX: usize = abi::XENSTORE_REL_PATH_MAX as usize;

macro_rules! kinds {
    ($($variant:ident = $number:path,)*) => {
        /// The kinds of messages.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Kind {
            $($variant = $number,)*
        }

        impl Kind {
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

kinds! {
    Control = abi::XS_CONTROL,
    Directory = abi::XS_DIRECTORY,
    Read = abi::XS_READ,
    GetPerms = abi::XS_GET_PERMS,
    Watch = abi::XS_WATCH,
    Unwatch = abi::XS_UNWATCH,
    TransactionStart = abi::XS_TRANSACTION_START,
    TransactionEnd = abi::XS_TRANSACTION_END,
    Introduce = abi::XS_INTRODUCE,
    Release = abi::XS_RELEASE,
    GetDomainPath = abi::XS_GET_DOMAIN_PATH,
    Write = abi::XS_WRITE,
    Mkdir = abi::XS_MKDIR,
    Rm = abi::XS_RM,
    SetPerms = abi::XS_SET_PERMS,
    WatchEvent = abi::XS_WATCH_EVENT,
    Error = abi::XS_ERROR,
    IsDomainIntroduced = abi::XS_IS_DOMAIN_INTRODUCED,
    Resume = abi::XS_RESUME,
    SetTarget = abi::XS_SET_TARGET,
    ResetWatches = abi::XS_RESET_WATCHES,
    DirectoryPart = abi::XS_DIRECTORY_PART,
}

/// A message's header. The kind is a bare number, since the other side may send any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    pub kind: u32,
    pub req_id: u32,
    pub tx_id: u32,
    pub len: u32,
}

impl Header {
    pub fn decode(bytes: &[u8; HEADER]) -> Self {
        let word =
            |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        Self {
            kind: word(0),
            req_id: word(4),
            tx_id: word(8),
            len: word(12),
        }
    }

    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        for (chunk, word) in
            bytes
                .chunks_exact_mut(4)
                .zip([self.kind, self.req_id, self.tx_id, self.len])
        {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The payload's length, if it is within the limit.
    pub fn payload_len(&self) -> Option<usize> {
        usize::try_from(self.len)
            .ok()
            .filter(|len| *len <= PAYLOAD_MAX)
    }
}

/// A whole message. `payload` must be within the limit.
pub fn message(kind: Kind, req_id: u32, tx_id: u32, payload: &[u8]) -> Vec<u8> {
    debug_assert!(payload.len() <= PAYLOAD_MAX);
    let header = Header {
        kind: kind as u32,
        req_id,
        tx_id,
        len: payload.len() as u32,
    };
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(&header.encode());
    bytes.extend_from_slice(payload);
    bytes
}

/// Splits a payload into its strings, each of which must end in a nul.
pub fn strings(payload: &[u8]) -> Result<Vec<&[u8]>, StoreError> {
    match payload.split_last() {
        None => Ok(Vec::new()),
        Some((0, rest)) => Ok(rest.split(|b| *b == 0).collect()),
        Some(_) => Err(StoreError::Inval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips() {
        let header = Header {
            kind: 11,
            req_id: 7,
            tx_id: 0xffff_0001,
            len: 3,
        };
        let bytes = message(Kind::Write, 7, 0xffff_0001, b"a\0b");
        assert_eq!(bytes.len(), HEADER + 3);
        assert_eq!(Header::decode(bytes[..HEADER].try_into().unwrap()), header);
        assert_eq!(
            Header {
                len: 4097,
                ..header
            }
            .payload_len(),
            None
        );
        assert_eq!(
            Header {
                len: 4096,
                ..header
            }
            .payload_len(),
            Some(4096)
        );
    }

    #[test]
    fn numbers_are_the_headers() {
        assert_eq!(Kind::from_number(20), None, "RESTRICT is gone");
        assert_eq!(Kind::from_number(22), Some(Kind::DirectoryPart));
        assert_eq!(Kind::from_number(23), None);
    }

    #[test]
    fn strings_end_in_nul() {
        assert_eq!(strings(b"a\0bc\0").unwrap(), [b"a".as_slice(), b"bc"]);
        assert_eq!(strings(b"\0").unwrap(), [b"".as_slice()]);
        assert!(strings(b"").unwrap().is_empty());
        assert_eq!(strings(b"a\0b"), Err(StoreError::Inval));
    }
}
