//! x86's part of the base (xen/arch-x86/xen.h, xen-x86_64.h): shared pages, registers, CPU
//! policies.

abi! {
    abi_consts! { u32:
        XEN_LEGACY_MAX_VCPUS = 32;
        XEN_CPUID_NO_SUBLEAF = 0xffff_ffff;
        VGCF_I387_VALID = 1 << 0;
        VGCF_IN_KERNEL = 1 << 2;
        VGCF_FAILSAFE_DISABLES_EVENTS = 1 << 3;
        VGCF_SYSCALL_DISABLES_EVENTS = 1 << 4;
        VGCF_ONLINE = 1 << 5;
        VGCF_IN_SYSCALL = 1 << 8;
    }

    abi_consts! { u16:
        XEN_HVM_DEBUGCONS_IOPORT = 0xe9;
    }

    abi_struct! {
        /// x86's part of the shared info page.
        pub struct ArchSharedInfo = "struct arch_shared_info", 48 {
            pub max_pfn: u64,
            pub pfn_to_mfn_frame_list_list: u64,
            pub nmi_reason: u64,
            pub p2m_cr3: u64,
            pub p2m_vaddr: u64,
            pub p2m_generation: u64,
        }

        /// x86's part of a vcpu's shared info.
        pub struct ArchVcpuInfo = "struct arch_vcpu_info", 16 {
            pub cr2: u64,
            pub pad: u64,
        }

        /// A leaf of a CPU policy.
        pub struct CpuidLeaf = "xen_cpuid_leaf_t", 24 {
            pub leaf: u32,
            pub subleaf: u32,
            pub a: u32,
            pub b: u32,
            pub c: u32,
            pub d: u32,
        }

        /// A register of a CPU policy.
        pub struct MsrEntry = "xen_msr_entry_t", 16 {
            pub idx: u32,
            pub flags: u32,
            pub val: u64,
        }

        /// A PV guest's exception handler.
        pub struct TrapInfo = "struct trap_info", 16 {
            pub vector: u8,
            pub flags: u8,
            pub cs: u16,
            pub _pad: u32,
            pub address: u64,
        }

        /// A PV guest's registers.
        pub struct CpuUserRegs = "struct cpu_user_regs", 200 {
            pub r15: u64,
            pub r14: u64,
            pub r13: u64,
            pub r12: u64,
            pub rbp: u64,
            pub rbx: u64,
            pub r11: u64,
            pub r10: u64,
            pub r9: u64,
            pub r8: u64,
            pub rax: u64,
            pub rcx: u64,
            pub rdx: u64,
            pub rsi: u64,
            pub rdi: u64,
            pub error_code: u32,
            pub entry_vector: u32,
            pub rip: u64,
            pub cs: u16,
            pub _pad0: u16,
            pub saved_upcall_mask: u8,
            pub _pad1: [u8; 3],
            pub rflags: u64,
            pub rsp: u64,
            pub ss: u16,
            pub _pad2: [u16; 3],
            pub es: u16,
            pub _pad3: [u16; 3],
            pub ds: u16,
            pub _pad4: [u16; 3],
            pub fs: u16,
            pub _pad5: [u16; 3],
            pub gs: u16,
            pub _pad6: [u16; 3],
        }

        /// A PV guest's vcpu as the toolstack sets and reads it.
        pub struct VcpuGuestContext = "struct vcpu_guest_context", 5168 {
            pub fpu_ctxt: [u8; 512],
            pub flags: u64,
            pub user_regs: CpuUserRegs,
            pub trap_ctxt: [TrapInfo; 256],
            pub ldt_base: u64,
            pub ldt_ents: u64,
            pub gdt_frames: [u64; 16],
            pub gdt_ents: u64,
            pub kernel_ss: u64,
            pub kernel_sp: u64,
            pub ctrlreg: [u64; 8],
            pub debugreg: [u64; 8],
            pub event_callback_eip: u64,
            pub failsafe_callback_eip: u64,
            pub syscall_callback_eip: u64,
            pub vm_assist: u64,
            pub fs_base: u64,
            pub gs_base_kernel: u64,
            pub gs_base_user: u64,
        }
    }
}
