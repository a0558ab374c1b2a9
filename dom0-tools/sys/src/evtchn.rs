//! Event channels by `/dev/xen/evtchn` (include/uapi/xen/evtchn.h).
//!
//! The kernel masks a port when it fires; [`EventChannels::unmask`] arms it again. All ports of one
//! open device are closed with it.
#![expect(unsafe_code, reason = "ioctls")]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use crate::{Errno, Result, ioctl};

/// A local port.
pub type Port = u32;

/// An open event channel device: pollable, readable when a bound port fired.
#[derive(Debug)]
pub struct EventChannels {
    fd: OwnedFd,
}

#[repr(C)]
struct BindVirq {
    virq: u32,
}

#[repr(C)]
struct BindInterdomain {
    remote_domain: u32,
    remote_port: u32,
}

#[repr(C)]
struct BindUnbound {
    remote_domain: u32,
}

#[repr(C)]
struct PortArg {
    port: u32,
}

impl EventChannels {
    pub fn open() -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(Self {
            fd: rustix::fs::open("/dev/xen/evtchn", flags, Mode::empty())?,
        })
    }

    /// A port that fires on a virtual interrupt (`VIRQ_*`).
    pub fn bind_virq(&self, virq: u32) -> Result<Port> {
        self.bind(0, &mut BindVirq { virq })
    }

    /// A port connected to `port` of `domain`, which must be waiting for us.
    pub fn bind_interdomain(&self, domain: u16, port: Port) -> Result<Port> {
        self.bind(
            1,
            &mut BindInterdomain {
                remote_domain: domain.into(),
                remote_port: port,
            },
        )
    }

    /// A port that waits for `domain` to connect.
    pub fn bind_unbound(&self, domain: u16) -> Result<Port> {
        self.bind(
            2,
            &mut BindUnbound {
                remote_domain: domain.into(),
            },
        )
    }

    fn bind<T>(&self, nr: u8, arg: &mut T) -> Result<Port> {
        // SAFETY: the three bind calls read one structure each, without addresses, and return a
        // port.
        let port = unsafe { ioctl::call(&self.fd, ioctl::number::<T>(b'E', nr), arg)? };
        Port::try_from(port).map_err(|_| Errno::IO)
    }

    /// Closes a port.
    pub fn unbind(&self, port: Port) -> Result<()> {
        // SAFETY: the call reads one port number.
        unsafe {
            ioctl::call(
                &self.fd,
                ioctl::number::<PortArg>(b'E', 3),
                &mut PortArg { port },
            )
        }
        .map(drop)
    }

    /// Fires the other end of a port.
    pub fn notify(&self, port: Port) -> Result<()> {
        // SAFETY: the call reads one port number.
        unsafe {
            ioctl::call(
                &self.fd,
                ioctl::number::<PortArg>(b'E', 4),
                &mut PortArg { port },
            )
        }
        .map(drop)
    }

    /// The ports that fired and are masked now; empty when there are none.
    pub fn read(&self) -> Result<Vec<Port>> {
        let mut bytes = [0u8; 256];
        let got = match rustix::io::read(&self.fd, &mut bytes) {
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // The kernel's ring of fired ports overflowed: some were lost. Clear it; the caller
            // must look at all.
            Err(Errno::FBIG) => {
                self.reset()?;
                return Err(Errno::FBIG);
            }
            other => other?,
        };
        Ok(bytes[..got]
            .chunks_exact(4)
            .map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
            .collect())
    }

    /// Arms ports again after [`read`](Self::read).
    pub fn unmask(&self, ports: &[Port]) -> Result<()> {
        let bytes: Vec<u8> = ports.iter().flat_map(|p| p.to_ne_bytes()).collect();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(&self.fd, rest) {
                Err(Errno::INTR) => {}
                Ok(done) => rest = &rest[done..],
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn reset(&self) -> Result<()> {
        // SAFETY: the call takes no argument.
        unsafe { ioctl::call(&self.fd, ioctl::number::<()>(b'E', 5), &mut ()) }.map(drop)
    }
}

impl AsFd for EventChannels {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
