//! Which guest actions exit (APM 15.9 and table B-1).

/// Vector 3, offset 0x0c.
pub(crate) mod g1 {
    pub(crate) const INTR: u32 = 1;
    pub(crate) const NMI: u32 = 1 << 1;
    pub(crate) const INIT: u32 = 1 << 3;
    pub(crate) const VINTR: u32 = 1 << 4;
    pub(crate) const RDPMC: u32 = 1 << 15;
    pub(crate) const CPUID: u32 = 1 << 18;
    pub(crate) const IRET: u32 = 1 << 20;
    pub(crate) const INVD: u32 = 1 << 22;
    pub(crate) const PAUSE: u32 = 1 << 23;
    pub(crate) const HLT: u32 = 1 << 24;
    pub(crate) const INVLPG: u32 = 1 << 25;
    pub(crate) const INVLPGA: u32 = 1 << 26;
    pub(crate) const IOIO: u32 = 1 << 27;
    pub(crate) const MSR: u32 = 1 << 28;
    /// Hardware task switches. They load CR3 (APM 15.9), which no intercept of CR3 covers: on a
    /// shadow that is the machine's. VT-x cannot let guests do them either.
    pub(crate) const TASK_SWITCH: u32 = 1 << 29;
    pub(crate) const SHUTDOWN: u32 = 1 << 31;

    /// RDTSC is not among them: guests read the TSC at full speed, through the offset.
    pub(crate) const ALWAYS: u32 = INTR
        | NMI
        | INIT
        | RDPMC
        | CPUID
        | INVD
        | HLT
        | INVLPGA
        | IOIO
        | MSR
        | TASK_SWITCH
        | SHUTDOWN;
}

/// Vector 4, offset 0x10: VMRUN (must be set), VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT; then
/// ICEBP, WBINVD, MONITOR, MWAIT, MWAIT when armed, XSETBV, RDPRU. Not RDTSCP (7). ICEBP, as an
/// exit amid its delivery would have it delivered again with RIP at the instruction; RDPRU, as it
/// shows the machine's own counters.
pub(crate) const G2_ALWAYS: u32 = 0x7f | 0x3f << 8 | RDPRU;
pub(crate) const RDPRU: u32 = 1 << 14;

/// Vector 5, offset 0x14: INVLPGB, its illegal form, MCOMMIT and TLBSYNC, where they exist.
pub(crate) const G3_INVLPGB: u32 = 1 | 1 << 1 | 1 << 3 | 1 << 4;

/// #DB and #AC only because a guest can make their delivery recurse without end, with interrupts
/// shut out, if the hypervisor does not take part (CVE-2015-8104, CVE-2015-5307). #MC is the
/// host's.
pub(crate) const EXCEPTIONS: u32 = 1 << 1 | 1 << 17 | 1 << 18;

/// Without nested paging: reads and writes of CR0, CR3 and CR4 (CLTS, LMSW and SMSW too), and page
/// faults.
pub(crate) const CR_SHADOWED: u16 = 1 | 1 << 3 | 1 << 4;
pub(crate) const PAGE_FAULT: u32 = 1 << 14;

/// Accesses to CR4. Writes always exit: CPUs let guests set what CPUID hides from them, and CR4.MCE
/// stays on.
pub(crate) const CR4: u16 = 1 << 4;

/// Reads and writes of all sixteen debug registers, until the guest's values are loaded.
pub(crate) const DR_ALL: u16 = 0xffff;
