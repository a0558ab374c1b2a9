//! The errors of the protocol: they travel by name (io/xs_wire.h).

use core::fmt;

macro_rules! errors {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The reason why a request failed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum StoreError {
            $($(#[$doc])* $variant,)*
        }

        impl StoreError {
            const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

errors! {
    Inval = "EINVAL",
    Acces = "EACCES",
    Exist = "EEXIST",
    IsDir = "EISDIR",
    NoEnt = "ENOENT",
    NoMem = "ENOMEM",
    /// A quota is used up.
    NoSpc = "ENOSPC",
    Io = "EIO",
    NotEmpty = "ENOTEMPTY",
    NoSys = "ENOSYS",
    Rofs = "EROFS",
    Busy = "EBUSY",
    /// Another change collided with the transaction, which is to be repeated.
    Again = "EAGAIN",
    IsConn = "EISCONN",
    TooBig = "E2BIG",
    Perm = "EPERM",
}

impl StoreError {
    /// The error of that name; a name we do not know is an EINVAL, as for other clients.
    pub fn from_name(name: &str) -> Self {
        Self::ALL
            .iter()
            .copied()
            .find(|e| e.name() == name)
            .unwrap_or(Self::Inval)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for StoreError {}

#[cfg(test)]
mod tests {
    use super::StoreError;

    #[test]
    fn names_round_trip() {
        for error in StoreError::ALL {
            assert_eq!(StoreError::from_name(error.name()), *error);
        }
        assert_eq!(StoreError::from_name("EWHAT"), StoreError::Inval);
    }
}
