//! xen/vcpu.h.

abi_consts! { u32:
    VCPUOP_INITIALISE = 0;
    VCPUOP_UP = 1;
    VCPUOP_DOWN = 2;
    VCPUOP_IS_UP = 3;
    VCPUOP_GET_RUNSTATE_INFO = 4;
    VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA = 5;
    VCPUOP_SET_PERIODIC_TIMER = 6;
    VCPUOP_STOP_PERIODIC_TIMER = 7;
    VCPUOP_SET_SINGLESHOT_TIMER = 8;
    VCPUOP_STOP_SINGLESHOT_TIMER = 9;
    VCPUOP_REGISTER_VCPU_INFO = 10;
    VCPUOP_SEND_NMI = 11;
    VCPUOP_GET_PHYSID = 12;
    VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA = 13;

    VCPU_SSHOTTMR_FUTURE = 1;
}

abi_struct! {
    pub struct VcpuSetPeriodicTimer { pub period_ns: u64, }
    pub struct VcpuSetSingleshotTimer { pub timeout_abs_ns: u64, pub flags: u32, pub _pad: u32, }
    pub struct VcpuRegisterVcpuInfo { pub mfn: u64, pub offset: u32, pub _pad: u32, }
}
