//! xen/hvm/hvm_op.h, params.h, hvm_vcpu.h.

abi_consts! { u32:
    HVMOP_SET_PARAM = 0;
    HVMOP_GET_PARAM = 1;
    HVMOP_FLUSH_TLBS = 5;
    HVMOP_PAGETABLE_DYING = 9;
    HVMOP_GET_TIME = 10;
    HVMOP_SET_EVTCHN_UPCALL_VECTOR = 23;

    HVM_PARAM_CALLBACK_IRQ = 0;
    HVM_PARAM_STORE_PFN = 1;
    HVM_PARAM_STORE_EVTCHN = 2;
    HVM_PARAM_PAE_ENABLED = 4;
    HVM_PARAM_IOREQ_PFN = 5;
    HVM_PARAM_BUFIOREQ_PFN = 6;
    HVM_PARAM_VIRIDIAN = 9;
    HVM_PARAM_TIMER_MODE = 10;
    HVM_PARAM_HPET_ENABLED = 11;
    HVM_PARAM_IDENT_PT = 12;
    HVM_PARAM_ACPI_S_STATE = 14;
    HVM_PARAM_VM86_TSS = 15;
    HVM_PARAM_VPT_ALIGN = 16;
    HVM_PARAM_CONSOLE_PFN = 17;
    HVM_PARAM_CONSOLE_EVTCHN = 18;
    HVM_PARAM_ACPI_IOPORTS_LOCATION = 19;
    HVM_PARAM_PAGING_RING_PFN = 27;
    HVM_PARAM_MONITOR_RING_PFN = 28;
    HVM_PARAM_SHARING_RING_PFN = 29;
    HVM_PARAM_TRIPLE_FAULT_REASON = 31;
    HVM_PARAM_NR_IOREQ_SERVER_PAGES = 33;
    HVM_PARAM_VM_GENERATION_ID_ADDR = 34;
    HVM_PARAM_ALTP2M = 35;
    HVM_PARAM_X87_FIP_WIDTH = 36;
    HVM_PARAM_VM86_TSS_SIZED = 37;
    HVM_PARAM_MCA_CAP = 38;
}

abi_struct! {
    pub struct HvmParam { pub domid: u16, pub _pad: u16, pub index: u32, pub value: u64, }
    pub struct HvmEvtchnUpcallVector { pub vcpu: u32, pub vector: u8, pub _pad: [u8; 3], }
    pub struct HvmGetTime { pub now: u64, }
    /// `struct vcpu_hvm_context`: mode, and the union of its 32- and 64-bit register sets.
    pub struct VcpuHvmContext { pub mode: u32, pub _pad: u32, pub regs: [u8; 208], }
}
