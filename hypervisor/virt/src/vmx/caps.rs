//! Which parts of VT-x this machine has, and the controls that follow: the capability MSRs (SDM
//! volume 3, appendix A). Each control MSR tells in its low half which bits must be 1, in its high
//! half which may be 1.

use oxen_types::Part;

use crate::error::VirtError;
use crate::vendor::ApicUse;
use crate::x86::{CR0_PE, CR0_PG, CR4_PKE, CpuIdReader};

pub(super) mod pin {
    pub(crate) const EXTERNAL_INTERRUPT: u32 = 1;
    pub(crate) const NMI: u32 = 1 << 3;
    pub(crate) const VIRTUAL_NMI: u32 = 1 << 5;
    pub(crate) const PREEMPTION_TIMER: u32 = 1 << 6;
    pub(crate) const POSTED_INTERRUPTS: u32 = 1 << 7;
}

pub(super) mod proc {
    pub(crate) const INTERRUPT_WINDOW: u32 = 1 << 2;
    pub(crate) const TSC_OFFSET: u32 = 1 << 3;
    pub(crate) const HLT: u32 = 1 << 7;
    pub(crate) const INVLPG: u32 = 1 << 9;
    pub(crate) const MWAIT: u32 = 1 << 10;
    pub(crate) const RDPMC: u32 = 1 << 11;
    pub(crate) const CR3_LOAD: u32 = 1 << 15;
    pub(crate) const CR3_STORE: u32 = 1 << 16;
    pub(crate) const TPR_SHADOW: u32 = 1 << 21;
    pub(crate) const NMI_WINDOW: u32 = 1 << 22;
    pub(crate) const MOV_DR: u32 = 1 << 23;
    pub(crate) const IO_MAPS: u32 = 1 << 25;
    pub(crate) const MSR_MAP: u32 = 1 << 28;
    pub(crate) const MONITOR: u32 = 1 << 29;
    pub(crate) const PAUSE: u32 = 1 << 30;
    pub(crate) const SECONDARY: u32 = 1 << 31;
}

pub(super) mod second {
    pub(crate) const EPT: u32 = 1 << 1;
    pub(crate) const RDTSCP: u32 = 1 << 3;
    pub(crate) const X2APIC: u32 = 1 << 4;
    pub(crate) const VPID: u32 = 1 << 5;
    pub(crate) const WBINVD: u32 = 1 << 6;
    pub(crate) const UNRESTRICTED: u32 = 1 << 7;
    pub(crate) const APIC_REGISTERS: u32 = 1 << 8;
    pub(crate) const INTERRUPT_DELIVERY: u32 = 1 << 9;
    pub(crate) const PAUSE_LOOP: u32 = 1 << 10;
    pub(crate) const INVPCID: u32 = 1 << 12;
    pub(crate) const XSAVES: u32 = 1 << 20;
}

pub(super) mod leave {
    pub(crate) const SAVE_DEBUG: u32 = 1 << 2;
    pub(crate) const HOST_64: u32 = 1 << 9;
    pub(crate) const ACKNOWLEDGE: u32 = 1 << 15;
    pub(crate) const SAVE_PAT: u32 = 1 << 18;
    pub(crate) const LOAD_PAT: u32 = 1 << 19;
    pub(crate) const SAVE_EFER: u32 = 1 << 20;
    pub(crate) const LOAD_EFER: u32 = 1 << 21;
}

pub(super) mod enter {
    pub(crate) const LOAD_DEBUG: u32 = 1 << 2;
    pub(crate) const GUEST_64: u32 = 1 << 9;
    pub(crate) const LOAD_PAT: u32 = 1 << 14;
    pub(crate) const LOAD_EFER: u32 = 1 << 15;
}

const BASIC: u32 = 0x480;
/// The pin-based, processor-based, exit and entry controls,
const PIN: u32 = 0x481;
const MISC: u32 = 0x485;
const CR0_FIXED0: u32 = 0x486;
const CR0_FIXED1: u32 = 0x487;
const CR4_FIXED0: u32 = 0x488;
const CR4_FIXED1: u32 = 0x489;
const SECOND: u32 = 0x48b;
const EPT_VPID: u32 = 0x48c;
/// and the true ones, in the same order.
const TRUE_PIN: u32 = 0x48d;

/// Bits of the EPT and VPID capabilities.
mod ept {
    pub(super) const FOUR_LEVELS: u64 = 1 << 6;
    pub(super) const WRITE_BACK: u64 = 1 << 14;
    pub(super) const PAGES_2M: u64 = 1 << 16;
    pub(super) const PAGES_1G: u64 = 1 << 17;
    pub(super) const INVEPT: u64 = 1 << 20;
    pub(super) const INVEPT_ONE: u64 = 1 << 25;
    pub(super) const INVEPT_ALL: u64 = 1 << 26;
    pub(super) const NEEDED: u64 = FOUR_LEVELS | WRITE_BACK | PAGES_2M | INVEPT | INVEPT_ALL;
    pub(super) const INVVPID: u64 = 1 << 32;
    pub(super) const INVVPID_ALL: u64 = 1 << 42;
}

/// CPUs whose preemption timer may run at another rate than they tell, by CPUID's signature
/// (Intel's specification updates of the Nehalem, Westmere and first Ivy Bridge processors).
const TIMER_BROKEN: [u32; 9] = [
    0x106a0, 0x106a1, 0x106a4, 0x106a5, 0x106e5, 0x20652, 0x20655, 0x206e6, 0x306a8,
];
const SIGNATURE: u32 = 0x0fff_3fff;

#[cfg(feature = "intel")]
type Built = oxen_types::Present;
#[cfg(not(feature = "intel"))]
type Built = oxen_types::Absent;

/// The settings that all vcpus have in common: the values of the controls, and of the bits that CR0
/// and CR4 need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VmxCaps {
    _built: Built,
    /// Goes into the first word of each VMCS and VMXON region.
    pub(super) revision: u32,
    pub(super) pin: u32,
    pub(super) proc: u32,
    pub(super) second: u32,
    pub(super) exit: u32,
    pub(super) entry: u32,
    /// Bits that CR0 must and may have in a guest. PE and PG are free: without unrestricted guests,
    /// `restricted` sees to them.
    pub(super) cr0_fixed: u64,
    pub(super) cr0_allowed: u64,
    pub(super) cr4_fixed: u64,
    pub(super) cr4_allowed: u64,
    /// The secondary controls by which the CPU keeps a local APIC; none, if it lacks one of them.
    pub(super) apic: u32,
    /// The CPU takes posted interrupts too. Interrupts of the host then come acknowledged.
    pub(super) posted: bool,
    pub(super) invept_one: bool,
    /// The preemption timer counts once in so many (as a power of 2) ticks of the TSC,
    pub(super) timer_shift: Option<u8>,
    /// and can be relied upon.
    pub(super) timer_steady: bool,
    pub pages_1g: bool,
    pub tsc_aux: bool,
}

impl VmxCaps {
    /// `rdmsr` is called for capability MSRs that the CPU has.
    pub(crate) fn detect(
        cpuid: &impl CpuIdReader,
        rdmsr: &mut dyn FnMut(u32) -> u64,
    ) -> Result<Self, VirtError> {
        let _built = Built::BUILT.ok_or(VirtError::NoVmx)?;
        if cpuid.cpuid2(1, 0).ecx & (1 << 5) == 0 {
            return Err(VirtError::NoVmx);
        }
        let basic = rdmsr(BASIC);
        // The first CPUs have neither the true controls, without which CR3 accesses always exit,
        // nor EPT.
        let true_controls = basic & 1 << 55 != 0;
        let mut limits = |kind: u32| {
            rdmsr(if true_controls {
                TRUE_PIN + kind
            } else {
                PIN + kind
            })
        };
        let (pins, procs) = (limits(0), limits(1));
        let (exits, entries) = (limits(2), limits(3));
        let seconds = match procs & 1 << 63 {
            0 => 0,
            _ => rdmsr(SECOND),
        };
        let has = |bits: u32| (seconds >> 32) as u32 & bits == bits;
        let extended = if has(second::EPT) || has(second::VPID) {
            rdmsr(EPT_VPID)
        } else {
            0
        };
        let ept = true_controls && has(second::EPT) && extended & ept::NEEDED == ept::NEEDED;
        let rdtscp = cpuid.cpuid2(0x8000_0001, 0).edx & (1 << 27) != 0;
        let apic = second::X2APIC | second::APIC_REGISTERS | second::INTERRUPT_DELIVERY;
        let apic = if has(apic) { apic } else { 0 };
        let may = |limits: u64, bit: u32| limits >> 32 & u64::from(bit) != 0;
        let posted =
            apic != 0 && may(pins, pin::POSTED_INTERRUPTS) && may(exits, leave::ACKNOWLEDGE);
        let timer = may(pins, pin::PREEMPTION_TIMER);
        let second = secondary(seconds, extended, ept)?;
        let free = CR0_PE | CR0_PG;
        Ok(Self {
            revision: basic as u32 & 0x7fff_ffff,
            pin: controls(
                "pin-based controls",
                pins,
                pin::EXTERNAL_INTERRUPT | pin::NMI | pin::VIRTUAL_NMI,
                0,
            )?,
            proc: primary(procs, ept, !timer && second & second::PAUSE_LOOP == 0)?,
            second,
            exit: {
                use leave::*;
                let state = SAVE_PAT | LOAD_PAT | SAVE_EFER | LOAD_EFER;
                let needed = SAVE_DEBUG | HOST_64 | if ept { state } else { 0 };
                let acknowledge = if posted { ACKNOWLEDGE } else { 0 };
                controls("exit controls", exits, needed | acknowledge, 0)?
            },
            entry: {
                use enter::*;
                let needed = LOAD_DEBUG | if ept { LOAD_PAT | LOAD_EFER } else { 0 };
                controls("64-bit guests", entries, needed | GUEST_64, 0)?;
                controls("entry controls", entries, needed, 0)? & !GUEST_64
            },
            _built,
            cr0_fixed: rdmsr(CR0_FIXED0) & !free,
            cr0_allowed: rdmsr(CR0_FIXED1),
            cr4_fixed: rdmsr(CR4_FIXED0),
            cr4_allowed: rdmsr(CR4_FIXED1),
            apic,
            posted,
            invept_one: extended & ept::INVEPT_ONE != 0,
            timer_shift: timer.then(|| rdmsr(MISC) as u8 & 31),
            timer_steady: !TIMER_BROKEN.contains(&(cpuid.cpuid2(1, 0).eax & SIGNATURE)),
            pages_1g: extended & ept::PAGES_1G != 0,
            tsc_aux: rdtscp && second & second::RDTSCP != 0,
        })
    }

    /// Leaves local APICs, or posted interrupts alone, to the hypervisor.
    pub(super) fn limit_apic_to(&mut self, limit: ApicUse) {
        if !limit.assist {
            self.apic = 0;
        }
        if self.posted && !(limit.assist && limit.posted) {
            self.posted = false;
            self.exit &= !leave::ACKNOWLEDGE;
        }
    }

    /// May guests use XSAVES, if nothing else forbids it? Not, if something does.
    pub(crate) fn match_xsaves(&mut self, wanted: bool) -> bool {
        if !wanted {
            self.second &= !second::XSAVES;
        }
        self.has_second(second::XSAVES)
    }

    /// Guests get CR4.PKE only where PKRU is switched: RDPKRU needs nothing else.
    pub(crate) fn match_keys(&mut self, switched: bool) {
        if !switched {
            self.cr4_allowed &= !CR4_PKE;
        }
    }

    /// Guests can have nested paging.
    pub(super) fn has_nested_paging(&self) -> bool {
        self.has_second(second::EPT)
    }

    /// Guests may run without protection and without paging.
    pub(super) fn unrestricted(&self) -> bool {
        self.has_second(second::UNRESTRICTED)
    }

    pub(super) fn has_second(&self, bit: u32) -> bool {
        self.second & bit != 0
    }
}

/// The primary processor-based controls. `all_pauses`: nothing else ends the run of a guest that
/// spins.
fn primary(limits: u64, ept: bool, all_pauses: bool) -> Result<u32, VirtError> {
    use proc::*;
    let needed =
        TSC_OFFSET | HLT | MWAIT | RDPMC | TPR_SHADOW | MOV_DR | IO_MAPS | MSR_MAP | MONITOR;
    // Those for shadows are switched on later, and so are the windows.
    let later = INTERRUPT_WINDOW | NMI_WINDOW | CR3_LOAD | CR3_STORE | INVLPG;
    controls("interrupt windows and exits", limits, needed | later, 0)?;
    let pauses = if all_pauses { PAUSE } else { 0 };
    let value = controls(
        "processor-based controls",
        limits,
        needed,
        SECONDARY | pauses,
    )?;
    if ept && value & (CR3_LOAD | CR3_STORE) != 0 {
        return Err(VirtError::NoControl("free access to CR3", value));
    }
    Ok(value)
}

/// The secondary controls. With EPT comes what needs it.
fn secondary(limits: u64, extended: u64, ept: bool) -> Result<u32, VirtError> {
    use second::*;
    let mut wished = RDTSCP | WBINVD | PAUSE_LOOP | INVPCID | XSAVES;
    if extended & ept::INVVPID != 0 && extended & ept::INVVPID_ALL != 0 {
        wished |= VPID;
    }
    if ept {
        wished |= EPT | UNRESTRICTED;
    }
    controls("secondary controls", limits, 0, wished)
}

/// The value of a set of controls: all that is needed, what is wished where it exists, and what the
/// CPU insists on.
fn controls(name: &'static str, limits: u64, needed: u32, wished: u32) -> Result<u32, VirtError> {
    let (must, may) = (limits as u32, (limits >> 32) as u32);
    if needed & !may != 0 {
        return Err(VirtError::NoControl(name, needed & !may));
    }
    Ok((needed | wished & may) | must)
}

/// The measure for IA32_FEATURE_CONTROL: none, or a value to write that switches VT-x on and locks
/// the register (SDM volume 3, 24.7).
pub(super) fn feature_control(value: u64) -> Result<Option<u64>, VirtError> {
    const LOCKED: u64 = 1;
    const OUTSIDE_SMX: u64 = 1 << 2;
    match (value & LOCKED != 0, value & OUTSIDE_SMX != 0) {
        (true, true) => Ok(None),
        (true, false) => Err(VirtError::VmxDisabledByFirmware),
        (false, _) => Ok(Some(value | LOCKED | OUTSIDE_SMX)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::x86::{CpuIdResult, NO_LEAF};

    #[derive(Clone)]
    struct Intel;
    impl CpuIdReader for Intel {
        fn cpuid2(&self, leaf: u32, _: u32) -> CpuIdResult {
            match leaf {
                1 => CpuIdResult {
                    ecx: 1 << 5,
                    ..NO_LEAF
                },
                0x8000_0001 => CpuIdResult {
                    edx: 1 << 27,
                    ..NO_LEAF
                },
                _ => NO_LEAF,
            }
        }
    }

    /// A Haswell's values, as an emulator shows them.
    fn haswell(msr: u32) -> u64 {
        match msr {
            0x480 => 0x00da_0400_0000_0012,
            0x482 => 0xfff9_fffe_0401_e172,
            0x486 => 0x8000_0021,
            0x487 => 0xffff_ffff,
            0x488 => 0x2000,
            0x489 => 0x1767ff,
            0x48b => 0x0005_7fff_0000_0000,
            0x48c => 0x0000_0f01_0633_4141,
            0x48d => 0x0000_007f_0000_0016,
            0x48e => 0xfff9_fffe_0400_6172,
            0x48f => 0x007f_ffff_0003_6dfb,
            0x490 => 0x0000_ffff_0000_11fb,
            _ => 0,
        }
    }

    pub(crate) fn caps() -> VmxCaps {
        VmxCaps::detect(&Intel, &mut haswell).unwrap()
    }

    fn with(msr: u32, value: u64) -> Result<VmxCaps, VirtError> {
        VmxCaps::detect(&Intel, &mut |asked| {
            if asked == msr { value } else { haswell(asked) }
        })
    }

    #[test]
    fn a_haswell_will_do() {
        let caps = caps();
        assert_eq!(caps.revision, 0x12);
        assert_eq!(caps.pin, 0x3f & (0x16 | 0x29));
        assert_eq!(
            caps.proc & (proc::CR3_LOAD | proc::CR3_STORE | proc::INTERRUPT_WINDOW),
            0
        );
        assert_eq!(caps.proc & 0x0400_6172, 0x0400_6172);
        assert_eq!(caps.second, 0x14ea);
        assert_eq!(caps.entry & enter::GUEST_64, 0);
        assert_eq!(caps.cr0_fixed, 0x20);
        assert!(caps.invept_one && caps.tsc_aux);
    }

    #[test]
    fn what_is_lacking_is_named() {
        #[derive(Clone)]
        struct Other;
        impl CpuIdReader for Other {
            fn cpuid2(&self, _: u32, _: u32) -> CpuIdResult {
                NO_LEAF
            }
        }
        assert_eq!(VmxCaps::detect(&Other, &mut haswell), Err(VirtError::NoVmx));
        let no_nmi = VirtError::NoControl("pin-based controls", pin::VIRTUAL_NMI);
        assert_eq!(with(0x48d, 0x0000_001f_0000_0016), Err(no_nmi));
        let cr3 = with(0x48e, 0xfff9_fffe_0401_e172);
        assert!(matches!(
            cr3,
            Err(VirtError::NoControl("free access to CR3", _))
        ));
    }

    /// A Penryn's values, as an emulator shows them.
    fn penryn(msr: u32) -> u64 {
        match msr {
            0x480 => 0x00d8_1000_0000_002b,
            0x481 => 0x0000_003f_0000_0016,
            0x482 => 0xf7f9_fffe_0401_e172,
            0x483 => 0x0003_ffff_0003_6dff,
            0x484 => 0x0000_3fff_0000_11ff,
            0x486 => 0x8000_0021,
            0x487 => 0xffff_ffff,
            0x488 => 0x2000,
            0x489 => 0x0004_67ff,
            0x48b => 0x0000_0041_0000_0000,
            0x48d => 0x0000_003f_0000_0016,
            0x48e => 0xf7f9_fffe_0400_6172,
            0x48f => 0x0003_ffff_0003_6dfb,
            0x490 => 0x0000_3fff_0000_11fb,
            other => panic!("it has no MSR {other:#x}"),
        }
    }

    #[test]
    fn without_ept_nothing_else_that_is_new_is_needed() {
        let caps = VmxCaps::detect(&Intel, &mut penryn).unwrap();
        assert!(!caps.has_nested_paging() && !caps.unrestricted() && !caps.tsc_aux);
        assert_eq!(caps.second, second::WBINVD);
        assert_eq!(caps.proc & proc::PAUSE, proc::PAUSE);
        assert_eq!((caps.timer_shift, caps.exit >> 18), (None, 0));
        // Nor the true controls, nor secondary ones.
        let first = VmxCaps::detect(&Intel, &mut |msr| match msr {
            0x480 => 0x0058_1000_0000_002b,
            0x482 => 0x77f9_fffe_0401_e172,
            0x48b.. => panic!("it has no MSR {msr:#x}"),
            _ => penryn(msr),
        })
        .unwrap();
        assert_eq!((first.second, first.proc & proc::SECONDARY), (0, 0));
        // EPT that lacks a part counts as none.
        assert!(
            !with(0x48b, 0x0000_007d_0000_0000)
                .unwrap()
                .has_nested_paging()
        );
        assert!(
            !with(0x48c, 0x0000_0f01_0632_4141)
                .unwrap()
                .has_nested_paging()
        );
        assert!(self::caps().has_nested_paging());
    }

    #[test]
    fn older_cpus_have_no_unrestricted_guests() {
        let caps = with(0x48b, 0x0000_007f_0000_0000).unwrap();
        assert!(!caps.unrestricted() && self::caps().unrestricted());
        assert_eq!(caps.cr0_fixed, 0x20);
    }

    #[test]
    fn without_all_of_invvpid_there_is_no_vpid() {
        assert_eq!(caps().second & second::VPID, second::VPID);
        assert_eq!(with(0x48c, 0x0633_4141).unwrap().second & second::VPID, 0);
    }

    #[test]
    fn the_apic_is_the_cpus_if_all_of_it_is_there() {
        let all = 0x310;
        assert_eq!(
            (caps().apic, caps().posted, caps().second & all),
            (all, false, 0)
        );
        for lacking in [1u64 << 4, 1 << 8, 1 << 9] {
            let caps = with(0x48b, haswell(0x48b) & !(lacking << 32)).unwrap();
            assert_eq!((caps.apic != 0, caps.posted), (false, false));
        }
    }

    #[test]
    fn posted_interrupts_come_with_acknowledged_ones() {
        let posting = |msr| match msr {
            0x48d => haswell(msr) | 1 << 39,
            _ => haswell(msr),
        };
        let mut caps = VmxCaps::detect(&Intel, &mut { posting }).unwrap();
        assert_eq!((caps.apic != 0, caps.posted), (true, true));
        assert_ne!(caps.exit & leave::ACKNOWLEDGE, 0);
        // It is on only while the CPU has the APIC.
        assert_eq!(caps.pin & pin::POSTED_INTERRUPTS, 0);
        caps.limit_apic_to(ApicUse {
            assist: true,
            posted: false,
        });
        assert_eq!((caps.apic != 0, caps.posted), (true, false));
        assert_eq!(caps.exit & leave::ACKNOWLEDGE, 0);
        let lacking = |change: fn(u32) -> u64| {
            let mut rdmsr = |msr| posting(msr) & !change(msr);
            VmxCaps::detect(&Intel, &mut rdmsr).unwrap()
        };
        let no_acknowledge = lacking(|msr| if msr == 0x48f { 1 << 47 } else { 0 });
        let no_delivery = lacking(|msr| if msr == 0x48b { 1 << 41 } else { 0 });
        assert!(!no_acknowledge.posted && !no_delivery.posted);
        assert_eq!(no_delivery.exit & leave::ACKNOWLEDGE, 0);
        let mut caps = VmxCaps::detect(&Intel, &mut { posting }).unwrap();
        caps.limit_apic_to(ApicUse {
            assist: false,
            posted: true,
        });
        assert_eq!((caps.apic != 0, caps.posted), (false, false));
    }

    #[test]
    fn feature_control_in_all_its_states() {
        assert_eq!(feature_control(5), Ok(None));
        assert_eq!(feature_control(0), Ok(Some(5)));
        assert_eq!(feature_control(0x10_0000), Ok(Some(0x10_0005)));
        assert_eq!(feature_control(1), Err(VirtError::VmxDisabledByFirmware));
        assert_eq!(feature_control(3), Err(VirtError::VmxDisabledByFirmware));
    }
}
