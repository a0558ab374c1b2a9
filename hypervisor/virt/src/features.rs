//! The features that guests may have, one mask for each register of a feature leaf. Numbers and
//! names are those of xen/arch-x86/cpufeatureset.h.
//!
//! Left out on purpose: MONITOR and MWAIT (they would stop the physical CPU), performance and debug
//! stores, virtualization itself, all supervisor states of XSAVES (none is switched), DBEXT and
//! TOPOEXT (their registers are not switched, their leaves are the host's). Of speculation controls
//! a guest has what `crate::spec` offers.

use bitflags::bitflags;

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Leaf1Ecx: u32 {
        const SSE3 = 1;
        const PCLMULQDQ = 1 << 1;
        const SSSE3 = 1 << 9;
        const FMA = 1 << 12;
        const CX16 = 1 << 13;
        const PCID = 1 << 17;
        const SSE4_1 = 1 << 19;
        const SSE4_2 = 1 << 20;
        const X2APIC = 1 << 21;
        const MOVBE = 1 << 22;
        const POPCNT = 1 << 23;
        const TSC_DEADLINE = 1 << 24;
        const AESNI = 1 << 25;
        const XSAVE = 1 << 26;
        /// Follows CR4.
        const OSXSAVE = 1 << 27;
        const AVX = 1 << 28;
        const F16C = 1 << 29;
        const RDRAND = 1 << 30;
        const HYPERVISOR = 1 << 31;
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Leaf1Edx: u32 {
        const FPU = 1;
        const VME = 1 << 1;
        const DE = 1 << 2;
        const PSE = 1 << 3;
        const TSC = 1 << 4;
        const MSR = 1 << 5;
        const PAE = 1 << 6;
        const MCE = 1 << 7;
        const CX8 = 1 << 8;
        /// Follows APIC_BASE.
        const APIC = 1 << 9;
        const SEP = 1 << 11;
        const MTRR = 1 << 12;
        const PGE = 1 << 13;
        const MCA = 1 << 14;
        const CMOV = 1 << 15;
        const PAT = 1 << 16;
        const PSE36 = 1 << 17;
        const CLFLUSH = 1 << 19;
        const MMX = 1 << 23;
        const FXSR = 1 << 24;
        const SSE = 1 << 25;
        const SSE2 = 1 << 26;
        const SS = 1 << 27;
        const HTT = 1 << 28;
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Leaf7Ebx: u32 {
        const FSGSBASE = 1;
        const TSC_ADJUST = 1 << 1;
        const BMI1 = 1 << 3;
        const AVX2 = 1 << 5;
        const FDP_EXCP_ONLY = 1 << 6;
        const SMEP = 1 << 7;
        const BMI2 = 1 << 8;
        const ERMS = 1 << 9;
        const INVPCID = 1 << 10;
        const NO_FPU_SEL = 1 << 13;
        const AVX512F = 1 << 16;
        const AVX512DQ = 1 << 17;
        const RDSEED = 1 << 18;
        const ADX = 1 << 19;
        const SMAP = 1 << 20;
        const AVX512_IFMA = 1 << 21;
        const CLFLUSHOPT = 1 << 23;
        const CLWB = 1 << 24;
        const AVX512CD = 1 << 28;
        const SHA = 1 << 29;
        const AVX512BW = 1 << 30;
        const AVX512VL = 1 << 31;
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Leaf7Ecx: u32 {
        const AVX512_VBMI = 1 << 1;
        const UMIP = 1 << 2;
        const PKU = 1 << 3;
        /// Follows CR4.
        const OSPKE = 1 << 4;
        const AVX512_VBMI2 = 1 << 6;
        const GFNI = 1 << 8;
        const VAES = 1 << 9;
        const VPCLMULQDQ = 1 << 10;
        const AVX512_VNNI = 1 << 11;
        const AVX512_BITALG = 1 << 12;
        const AVX512_VPOPCNTDQ = 1 << 14;
        const RDPID = 1 << 22;
        const CLDEMOTE = 1 << 25;
        const MOVDIRI = 1 << 27;
        const MOVDIR64B = 1 << 28;
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Leaf7Edx: u32 {
        const FSRM = 1 << 4;
        const AVX512_VP2INTERSECT = 1 << 8;
        const MD_CLEAR = 1 << 10;
        const SERIALIZE = 1 << 14;
        const AVX512_FP16 = 1 << 23;
        /// IBRS and IBPB.
        const IBRSB = 1 << 26;
        const STIBP = 1 << 27;
        const L1D_FLUSH = 1 << 28;
        const ARCH_CAPS = 1 << 29;
        const SSBD = 1 << 31;
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Leaf7Sub1Eax: u32 {
        const AVX_VNNI = 1 << 4;
        const AVX512_BF16 = 1 << 5;
        const FZRM = 1 << 10;
        const FSRS = 1 << 11;
        const FSRCS = 1 << 12;
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Ext1Ecx: u32 {
        const LAHF_LM = 1;
        const CMP_LEGACY = 1 << 1;
        const CR8_LEGACY = 1 << 4;
        const ABM = 1 << 5;
        const SSE4A = 1 << 6;
        const MISALIGNSSE = 1 << 7;
        const PREFETCHW = 1 << 8;
        const XOP = 1 << 11;
        const FMA4 = 1 << 16;
        const TBM = 1 << 21;
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Ext1Edx: u32 {
        /// On AMD these mirror leaf 1 (FPU to CX8, APIC, MTRR to PSE36, MMX, FXSR).
        const COMMON = 0x0183_f3ff;
        const SYSCALL = 1 << 11;
        const NX = 1 << 20;
        const MMXEXT = 1 << 22;
        const FFXSR = 1 << 25;
        const PAGE1GB = 1 << 26;
        const RDTSCP = 1 << 27;
        const LM = 1 << 29;
        const AMD_3DNOWEXT = 1 << 30;
        const AMD_3DNOW = 1 << 31;
    }

    /// Leaf 0xd, subleaf 1.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct XsaveEax: u32 {
        const XSAVEOPT = 1;
        const XSAVEC = 1 << 1;
        const XGETBV1 = 1 << 2;
        const XSAVES = 1 << 3;
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Ext8Ebx: u32 {
        const CLZERO = 1;
        const RSTR_FP_ERR_PTRS = 1 << 2;
        const IBPB = 1 << 12;
        const IBRS = 1 << 14;
        const STIBP = 1 << 15;
        const IBRS_ALWAYS = 1 << 16;
        const STIBP_ALWAYS = 1 << 17;
        const IBRS_FAST = 1 << 18;
        const IBRS_SAME_MODE = 1 << 19;
        const SSBD = 1 << 24;
        const VIRT_SSBD = 1 << 25;
        const SSB_NO = 1 << 26;
        const PSFD = 1 << 28;
        const BTC_NO = 1 << 29;
        const IBPB_RET = 1 << 30;
    }

    /// Leaf 0x80000021.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Ext21Eax: u32 {
        const LFENCE_DISPATCH = 1 << 2;
        const NSCB = 1 << 6;
        /// For the hypervisor alone: guests' EFER has no such bit.
        const AUTOMATIC_IBRS = 1 << 8;
        const SRSO_NO = 1 << 29;
    }
}

/// Invariant TSC, leaf 0x80000007 EDX.
pub const ITSC: u32 = 1 << 8;

/// Features of the local APIC and of the clock emulation, whatever the host has.
pub const FORCED_1_ECX: Leaf1Ecx = Leaf1Ecx::X2APIC
    .union(Leaf1Ecx::TSC_DEADLINE)
    .union(Leaf1Ecx::HYPERVISOR);
pub const FORCED_1_EDX: Leaf1Edx = Leaf1Edx::APIC.union(Leaf1Edx::MTRR).union(Leaf1Edx::PAT);

/// Without XSAVE nothing of this works; without AVX only the rest.
pub const NEEDS_AVX_1: Leaf1Ecx = Leaf1Ecx::FMA.union(Leaf1Ecx::F16C);
pub const NEEDS_AVX_7_ECX: Leaf7Ecx = Leaf7Ecx::VAES.union(Leaf7Ecx::VPCLMULQDQ);
pub const NEEDS_AVX_EXT: Ext1Ecx = Ext1Ecx::XOP.union(Ext1Ecx::FMA4);
pub const AVX512_7_EBX: Leaf7Ebx = Leaf7Ebx::AVX512F
    .union(Leaf7Ebx::AVX512DQ)
    .union(Leaf7Ebx::AVX512_IFMA)
    .union(Leaf7Ebx::AVX512CD)
    .union(Leaf7Ebx::AVX512BW)
    .union(Leaf7Ebx::AVX512VL);
pub const AVX512_7_ECX: Leaf7Ecx = Leaf7Ecx::AVX512_VBMI
    .union(Leaf7Ecx::AVX512_VBMI2)
    .union(Leaf7Ecx::AVX512_VNNI)
    .union(Leaf7Ecx::AVX512_BITALG)
    .union(Leaf7Ecx::AVX512_VPOPCNTDQ);
pub const AVX512_7_EDX: Leaf7Edx = Leaf7Edx::AVX512_VP2INTERSECT.union(Leaf7Edx::AVX512_FP16);
