//! xen/sched.h.

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
}

abi_struct! {
    pub struct SchedShutdown { pub reason: u32, }
    pub struct SchedPoll { pub ports: u64, pub nr_ports: u32, pub _pad: u32, pub timeout: u64, }
    pub struct SchedRemoteShutdown { pub domain_id: u16, pub _pad: u16, pub reason: u32, }
    pub struct SchedWatchdog { pub id: u32, pub timeout: u32, }
}
