//! Operations of a domain on its vcpus (xen/vcpu.h).

abi! {
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
        RUNSTATE_RUNNING = 0;
        RUNSTATE_RUNNABLE = 1;
        RUNSTATE_BLOCKED = 2;
        RUNSTATE_OFFLINE = 3;
        VCPU_SSHOTTMR_FUTURE = 1 << 0;
    }

    abi_consts! { u64:
        XEN_RUNSTATE_UPDATE = 0x8000_0000_0000_0000;
    }

    abi_struct! {
        /// The state of a vcpu, since when it is in it, and how long it was in each state, in
        /// nanoseconds.
        pub struct VcpuRunstateInfo = "struct vcpu_runstate_info", 48 {
            pub state: i32,
            pub _pad: u32,
            pub state_entry_time: u64,
            pub time: [u64; 4],
        }

        /// `VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA`: a linear address.
        pub struct VcpuRegisterRunstateMemoryArea = "struct vcpu_register_runstate_memory_area", 8 {
            pub addr: u64,
        }

        /// `VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA`: a linear address.
        pub struct VcpuRegisterTimeMemoryArea = "struct vcpu_register_time_memory_area", 8 {
            pub addr: u64,
        }

        /// `VCPUOP_SET_PERIODIC_TIMER`.
        pub struct VcpuSetPeriodicTimer = "struct vcpu_set_periodic_timer", 8 {
            pub period_ns: u64,
        }

        /// `VCPUOP_SET_SINGLESHOT_TIMER`.
        pub struct VcpuSetSingleshotTimer = "struct vcpu_set_singleshot_timer", 16 {
            pub timeout_abs_ns: u64,
            pub flags: u32,
            pub _pad: u32,
        }

        /// `VCPUOP_REGISTER_VCPU_INFO`. The frame number is a guest's, whatever the field's name.
        pub struct VcpuRegisterVcpuInfo = "struct vcpu_register_vcpu_info", 16 {
            pub mfn: u64,
            pub offset: u32,
            pub rsvd: u32,
        }

        /// `VCPUOP_GET_PHYSID`: APIC id in the low half, ACPI id in the high one.
        pub struct VcpuGetPhysid = "struct vcpu_get_physid", 8 {
            pub phys_id: u64,
        }
    }
}
