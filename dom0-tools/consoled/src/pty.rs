//! A pseudo-terminal for each guest, for tools that want one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::OptionalActions;

#[derive(Debug)]
pub(crate) struct Pty {
    main: File,
    /// The other end, kept open: else the last reader's closing would end this one.
    _side: OwnedFd,
    path: String,
}

impl Pty {
    pub(crate) fn open() -> Result<Self, Errno> {
        let main =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::pty::grantpt(&main)?;
        rustix::pty::unlockpt(&main)?;
        let name = rustix::pty::ptsname(&main, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let side = rustix::fs::open(&*name, flags, Mode::empty())?;
        // The guest's own terminal line discipline does all the work.
        let mut mode = rustix::termios::tcgetattr(&side)?;
        mode.make_raw();
        rustix::termios::tcsetattr(&side, OptionalActions::Now, &mode)?;
        rustix::io::ioctl_fionbio(&main, true)?;
        Ok(Self {
            main: main.into(),
            _side: side,
            path: name.to_string_lossy().into_owned(),
        })
    }

    /// The terminal's path, for tools that open it.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Reads typed bytes, at most `most`; empty if there are none.
    pub(crate) fn read(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let got = self.main.read(&mut bytes).unwrap_or(0);
        bytes.truncate(got);
        bytes
    }

    /// Writes as many bytes as there is room for.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        self.main.write(bytes).unwrap_or(0)
    }
}

impl AsFd for Pty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.main.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_bytes_as_they_are() {
        let mut pty = Pty::open().unwrap();
        let mut user = File::options()
            .read(true)
            .write(true)
            .open(pty.path())
            .unwrap();
        assert_eq!(pty.write(b"login: \n"), 8);
        let mut text = [0; 8];
        user.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"login: \n");
        user.write_all(b"root\r\x03").unwrap();
        assert_eq!(pty.read(100), b"root\r\x03");
        assert!(pty.read(100).is_empty());
    }
}
