//! The state of an HVM-style domain as records (xen/hvm/save.h, xen/arch-x86/hvm/save.h). Each has
//! a descriptor before it; the list begins with HEADER and ends with END.

abi! {
    abi_consts! { u16:
        HVM_SAVE_CODE_END = 0 => "HVM_SAVE_CODE(END)";
        HVM_SAVE_CODE_HEADER = 1 => "HVM_SAVE_CODE(HEADER)";
        HVM_SAVE_CODE_CPU = 2 => "HVM_SAVE_CODE(CPU)";
        HVM_SAVE_CODE_PIC = 3 => "HVM_SAVE_CODE(PIC)";
        HVM_SAVE_CODE_IOAPIC = 4 => "HVM_SAVE_CODE(IOAPIC)";
        HVM_SAVE_CODE_LAPIC = 5 => "HVM_SAVE_CODE(LAPIC)";
        HVM_SAVE_CODE_LAPIC_REGS = 6 => "HVM_SAVE_CODE(LAPIC_REGS)";
        HVM_SAVE_CODE_PCI_IRQ = 7 => "HVM_SAVE_CODE(PCI_IRQ)";
        HVM_SAVE_CODE_ISA_IRQ = 8 => "HVM_SAVE_CODE(ISA_IRQ)";
        HVM_SAVE_CODE_PCI_LINK = 9 => "HVM_SAVE_CODE(PCI_LINK)";
        HVM_SAVE_CODE_PIT = 10 => "HVM_SAVE_CODE(PIT)";
        HVM_SAVE_CODE_RTC = 11 => "HVM_SAVE_CODE(RTC)";
        HVM_SAVE_CODE_HPET = 12 => "HVM_SAVE_CODE(HPET)";
        HVM_SAVE_CODE_PMTIMER = 13 => "HVM_SAVE_CODE(PMTIMER)";
        HVM_SAVE_CODE_MTRR = 14 => "HVM_SAVE_CODE(MTRR)";
        HVM_SAVE_CODE_VIRIDIAN_DOMAIN = 15 => "HVM_SAVE_CODE(VIRIDIAN_DOMAIN)";
        HVM_SAVE_CODE_XSAVE = 16 => "CPU_XSAVE_CODE";
        HVM_SAVE_CODE_VIRIDIAN_VCPU = 17 => "HVM_SAVE_CODE(VIRIDIAN_VCPU)";
        HVM_SAVE_CODE_VMCE_VCPU = 18 => "HVM_SAVE_CODE(VMCE_VCPU)";
        HVM_SAVE_CODE_TSC_ADJUST = 19 => "HVM_SAVE_CODE(TSC_ADJUST)";
        HVM_SAVE_CODE_MSR = 20 => "CPU_MSR_CODE";
        HVM_SAVE_CODE_MAX = 20;
    }

    abi_consts! { u32:
        HVM_FILE_MAGIC = 0x5438_1286;
        HVM_FILE_VERSION = 0x0000_0001;
        XEN_X86_FPU_INITIALISED = 1 << 0;
        MTRR_VCNT = 8;
        NUM_FIXED_MSR = 11;
    }

    abi_struct! {
        /// The header of each record.
        pub struct HvmSaveDescriptor = "struct hvm_save_descriptor", 8 {
            pub typecode: u16,
            pub instance: u16,
            pub length: u32,
        }

        /// HEADER: who wrote the list.
        pub struct HvmSaveHeader = "struct hvm_save_header", 24 {
            pub magic: u32,
            pub version: u32,
            pub changeset: u64,
            pub cpuid: u32,
            pub gtsc_khz: u32,
        }

        /// CPU: registers of a vcpu.
        pub struct HvmHwCpu = "struct hvm_hw_cpu", 1032 {
            pub fpu_regs: [u8; 512],
            pub rax: u64,
            pub rbx: u64,
            pub rcx: u64,
            pub rdx: u64,
            pub rbp: u64,
            pub rsi: u64,
            pub rdi: u64,
            pub rsp: u64,
            pub r8: u64,
            pub r9: u64,
            pub r10: u64,
            pub r11: u64,
            pub r12: u64,
            pub r13: u64,
            pub r14: u64,
            pub r15: u64,
            pub rip: u64,
            pub rflags: u64,
            pub cr0: u64,
            pub cr2: u64,
            pub cr3: u64,
            pub cr4: u64,
            pub dr0: u64,
            pub dr1: u64,
            pub dr2: u64,
            pub dr3: u64,
            pub dr6: u64,
            pub dr7: u64,
            pub cs_sel: u32,
            pub ds_sel: u32,
            pub es_sel: u32,
            pub fs_sel: u32,
            pub gs_sel: u32,
            pub ss_sel: u32,
            pub tr_sel: u32,
            pub ldtr_sel: u32,
            pub cs_limit: u32,
            pub ds_limit: u32,
            pub es_limit: u32,
            pub fs_limit: u32,
            pub gs_limit: u32,
            pub ss_limit: u32,
            pub tr_limit: u32,
            pub ldtr_limit: u32,
            pub idtr_limit: u32,
            pub gdtr_limit: u32,
            pub cs_base: u64,
            pub ds_base: u64,
            pub es_base: u64,
            pub fs_base: u64,
            pub gs_base: u64,
            pub ss_base: u64,
            pub tr_base: u64,
            pub ldtr_base: u64,
            pub idtr_base: u64,
            pub gdtr_base: u64,
            pub cs_arbytes: u32,
            pub ds_arbytes: u32,
            pub es_arbytes: u32,
            pub fs_arbytes: u32,
            pub gs_arbytes: u32,
            pub ss_arbytes: u32,
            pub tr_arbytes: u32,
            pub ldtr_arbytes: u32,
            pub sysenter_cs: u64,
            pub sysenter_esp: u64,
            pub sysenter_eip: u64,
            pub shadow_gs: u64,
            pub msr_flags: u64,
            pub msr_lstar: u64,
            pub msr_star: u64,
            pub msr_cstar: u64,
            pub msr_syscall_mask: u64,
            pub msr_efer: u64,
            pub msr_tsc_aux: u64,
            pub tsc: u64,
            /// Vector in bits 0 to 7, type in 8 to 10, error code valid 11, event valid 31.
            pub pending_event: u32,
            pub error_code: u32,
            pub flags: u32,
            pub pad0: u32,
        }

        /// LAPIC: what of a local APIC is not in its registers page.
        pub struct HvmHwLapic = "struct hvm_hw_lapic", 24 {
            pub apic_base_msr: u64,
            pub disabled: u32,
            pub timer_divisor: u32,
            pub tdt_msr: u64,
        }

        /// LAPIC_REGS: a local APIC's registers page.
        pub struct HvmHwLapicRegs = "struct hvm_hw_lapic_regs", 1024 {
            pub data: [u8; 1024],
        }

        /// IOAPIC.
        pub struct HvmHwVioapic = "struct hvm_hw_vioapic", 400 {
            pub base_address: u64,
            pub ioregsel: u32,
            pub id: u32,
            pub redirtbl: [u64; 48],
        }

        /// MTRR: memory types of a vcpu.
        pub struct HvmHwMtrr = "struct hvm_hw_mtrr", 240 {
            pub msr_pat_cr: u64,
            pub msr_mtrr_var: [u64; 16],
            pub msr_mtrr_fixed: [u64; 11],
            pub msr_mtrr_cap: u64,
            pub msr_mtrr_def_type: u64,
        }

        /// XSAVE: the start of a vcpu's extended state; what lies beyond SSE's follows.
        pub struct HvmHwCpuXsave = "struct hvm_hw_cpu_xsave", 600 {
            pub xfeature_mask: u64,
            pub xcr0: u64,
            pub xcr0_accum: u64,
            pub fpu_sse as "save_area.fpu_sse": [u8; 512],
            pub xsave_hdr as "save_area.xsave_hdr": HvmHwCpuXsaveHdr,
        }

        /// The XSAVE header in it.
        pub struct HvmHwCpuXsaveHdr = "struct hvm_hw_cpu_xsave_hdr", 64 {
            pub xstate_bv: u64,
            pub xcomp_bv: u64,
            pub reserved: [u64; 6],
        }

        /// VMCE_VCPU: machine-check state of a vcpu.
        pub struct HvmVmceVcpu = "struct hvm_vmce_vcpu", 32 {
            pub caps: u64,
            pub mci_ctl2_bank0: u64,
            pub mci_ctl2_bank1: u64,
            pub mcg_ext_ctl: u64,
        }

        /// TSC_ADJUST.
        pub struct HvmTscAdjust = "struct hvm_tsc_adjust", 8 {
            pub tsc_adjust: u64,
        }

        /// MSR: the start of the record; `count` entries follow at offset 8.
        pub struct HvmMsr = "struct hvm_msr", 8 {
            pub count: u32,
            pub _pad: u32,
        }

        /// An entry of it.
        pub struct HvmOneMsr = "struct hvm_one_msr", 16 {
            pub index: u32,
            pub _rsvd: u32,
            pub val: u64,
        }
    }
}
