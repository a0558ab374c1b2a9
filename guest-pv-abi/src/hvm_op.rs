//! Operations of and on HVM-style domains (xen/hvm/hvm_op.h), and the context in which their vcpus
//! start (xen/hvm/hvm_vcpu.h).

abi! {
    abi_consts! { u32:
        HVMOP_SET_PARAM = 0;
        HVMOP_GET_PARAM = 1;
        HVMOP_FLUSH_TLBS = 5;
        HVMOP_PAGETABLE_DYING = 9;
        HVMOP_GET_TIME = 10;
        HVMOP_XENTRACE = 11;
        HVMOP_SET_MEM_ACCESS = 12;
        HVMOP_GET_MEM_ACCESS = 13;
        HVMOP_GET_MEM_TYPE = 15;
        HVMOP_SET_EVTCHN_UPCALL_VECTOR = 23;
        HVMOP_GUEST_REQUEST_VM_EVENT = 24;
        HVMOP_ALTP2M = 25;
        HVMMEM_RAM_RW = 0;
        HVMMEM_RAM_RO = 1;
        HVMMEM_MMIO_DM = 2;
        HVMMEM_UNUSED = 3;
        HVMMEM_IOREQ_SERVER = 4;
        HVM_IOREQSRV_BUFIOREQ_OFF = 0;
        HVM_IOREQSRV_BUFIOREQ_LEGACY = 1;
        HVM_IOREQSRV_BUFIOREQ_ATOMIC = 2;
        VCPU_HVM_MODE_32B = 0;
        VCPU_HVM_MODE_64B = 1;
    }

    abi_struct! {
        /// `HVMOP_SET_PARAM` and `HVMOP_GET_PARAM`.
        pub struct HvmParam = "struct xen_hvm_param", 16 {
            pub domid: u16,
            pub pad: u16,
            pub index: u32,
            pub value: u64,
        }

        /// `HVMOP_PAGETABLE_DYING`.
        pub struct HvmPagetableDying = "struct xen_hvm_pagetable_dying", 16 {
            pub domid: u16,
            pub pad: [u16; 3],
            pub gpa: u64,
        }

        /// `HVMOP_GET_TIME`.
        pub struct HvmGetTime = "struct xen_hvm_get_time", 8 {
            pub now: u64,
        }

        /// `HVMOP_XENTRACE`.
        pub struct HvmXentrace = "struct xen_hvm_xentrace", 32 {
            pub event: u16,
            pub extra_bytes: u16,
            pub extra: [u8; 28],
        }

        /// `HVMOP_GET_MEM_TYPE`.
        pub struct HvmGetMemType = "struct xen_hvm_get_mem_type", 16 {
            pub domid: u16,
            pub mem_type: u16,
            pub pad: [u16; 2],
            pub pfn: u64,
        }

        /// `HVMOP_SET_EVTCHN_UPCALL_VECTOR`.
        pub struct HvmEvtchnUpcallVector = "struct xen_hvm_evtchn_upcall_vector", 8 {
            pub vcpu: u32,
            pub vector: u8,
            pub _pad: [u8; 3],
        }

        /// Registers of a vcpu that starts in 32-bit protected mode, paging on or off.
        pub struct VcpuHvmX86_32 = "struct vcpu_hvm_x86_32", 120 {
            pub eax: u32,
            pub ecx: u32,
            pub edx: u32,
            pub ebx: u32,
            pub esp: u32,
            pub ebp: u32,
            pub esi: u32,
            pub edi: u32,
            pub eip: u32,
            pub eflags: u32,
            pub cr0: u32,
            pub cr3: u32,
            pub cr4: u32,
            pub pad1: u32,
            pub efer: u64,
            pub cs_base: u32,
            pub ds_base: u32,
            pub ss_base: u32,
            pub es_base: u32,
            pub tr_base: u32,
            pub cs_limit: u32,
            pub ds_limit: u32,
            pub ss_limit: u32,
            pub es_limit: u32,
            pub tr_limit: u32,
            pub cs_ar: u16,
            pub ds_ar: u16,
            pub ss_ar: u16,
            pub es_ar: u16,
            pub tr_ar: u16,
            pub pad2: [u16; 3],
        }

        /// Registers of a vcpu that starts in long mode.
        pub struct VcpuHvmX86_64 = "struct vcpu_hvm_x86_64", 112 {
            pub rax: u64,
            pub rcx: u64,
            pub rdx: u64,
            pub rbx: u64,
            pub rsp: u64,
            pub rbp: u64,
            pub rsi: u64,
            pub rdi: u64,
            pub rip: u64,
            pub rflags: u64,
            pub cr0: u64,
            pub cr3: u64,
            pub cr4: u64,
            pub efer: u64,
        }

        /// `VCPUOP_INITIALISE` of an HVM-style domain. `regs` is one of the two above, by `mode`.
        pub struct VcpuHvmContext = "struct vcpu_hvm_context", 128 {
            pub mode: u32,
            pub pad: u32,
            pub regs as "cpu_regs": [u8; 120],
        }
    }
}
