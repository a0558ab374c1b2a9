//! Scheduling as a domain asks for it (xen/sched.h), and why domains shut down.

use crate::GuestHandle;

abi! {
    abi_consts! { u32:
        SCHEDOP_YIELD = 0;
        SCHEDOP_BLOCK = 1;
        SCHEDOP_SHUTDOWN = 2;
        SCHEDOP_POLL = 3;
        SCHEDOP_REMOTE_SHUTDOWN = 4;
        SCHEDOP_SHUTDOWN_CODE = 5;
        SCHEDOP_WATCHDOG = 6;
        SCHEDOP_PIN_OVERRIDE = 7;
        SHUTDOWN_POWEROFF = 0;
        SHUTDOWN_REBOOT = 1;
        SHUTDOWN_SUSPEND = 2;
        SHUTDOWN_CRASH = 3;
        SHUTDOWN_WATCHDOG = 4;
        SHUTDOWN_SOFT_RESET = 5;
        SHUTDOWN_MAX = 5;
    }

    abi_struct! {
        /// `SCHEDOP_SHUTDOWN`.
        pub struct SchedShutdown = "struct sched_shutdown", 4 {
            pub reason: u32,
        }

        /// `SCHEDOP_POLL`. `timeout` is absolute; 0 means none.
        pub struct SchedPoll = "struct sched_poll", 24 {
            pub ports: GuestHandle<u32>,
            pub nr_ports: u32,
            pub _pad: u32,
            pub timeout: u64,
        }

        /// `SCHEDOP_REMOTE_SHUTDOWN`.
        pub struct SchedRemoteShutdown = "struct sched_remote_shutdown", 8 {
            pub domain_id: u16,
            pub _pad: u16,
            pub reason: u32,
        }

        /// `SCHEDOP_WATCHDOG`. `timeout` is in seconds from now; 0 stops it.
        pub struct SchedWatchdog = "struct sched_watchdog", 8 {
            pub id: u32,
            pub timeout: u32,
        }

        /// `SCHEDOP_PIN_OVERRIDE`. Below zero: back to what was.
        pub struct SchedPinOverride = "struct sched_pin_override", 4 {
            pub pcpu: i32,
        }
    }
}

/// Why a domain shut down: the `SHUTDOWN_*` that toolstacks tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownReason {
    Poweroff,
    Reboot,
    Suspend,
    Crash,
    Watchdog,
    SoftReset,
    Other(u8),
}

impl ShutdownReason {
    pub const fn code(self) -> u8 {
        match self {
            Self::Poweroff => SHUTDOWN_POWEROFF as u8,
            Self::Reboot => SHUTDOWN_REBOOT as u8,
            Self::Suspend => SHUTDOWN_SUSPEND as u8,
            Self::Crash => SHUTDOWN_CRASH as u8,
            Self::Watchdog => SHUTDOWN_WATCHDOG as u8,
            Self::SoftReset => SHUTDOWN_SOFT_RESET as u8,
            Self::Other(code) => code,
        }
    }

    pub const fn from_code(code: u8) -> Self {
        match code as u32 {
            SHUTDOWN_POWEROFF => Self::Poweroff,
            SHUTDOWN_REBOOT => Self::Reboot,
            SHUTDOWN_SUSPEND => Self::Suspend,
            SHUTDOWN_CRASH => Self::Crash,
            SHUTDOWN_WATCHDOG => Self::Watchdog,
            SHUTDOWN_SOFT_RESET => Self::SoftReset,
            _ => Self::Other(code),
        }
    }
}
