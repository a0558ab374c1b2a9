//! A guest of a few instructions that proves the world switch on this CPU before any domain
//! depends on it (`cfg(feature = "selftest")`): registers across exits, skipped and emulated
//! instructions, an injected interrupt, the interrupt window, extended state.
//!
//! It builds its own nested page tables: 64 KiB of RAM, nothing else.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use oxen_types::{CpuId, Gaddr};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::backend::{BoxedVcpu, Event, Exit, Reg, SegReg, Segment};
use crate::emul::{self, GuestSpace, Outcome};
use crate::platform::{Hardware, NestedFormat, PhysCpu, Platform, ToMaddr, VirtError};
use crate::policy::hypervisor::MSR_HYPERCALL_PAGE;
use crate::start;
use crate::walk::PhysRead;
use crate::x86::{CR4_OSFXSR, CR4_OSXSAVE, RFLAGS_IF};

const RAM: usize = 0x1_0000;
const CODE: usize = 0x1000;
const HANDLER: usize = 0x2000;
const GDT: usize = 0x3000;
const IDT: usize = 0x4000;
const STACK: u64 = 0x6000;
const DEVICE: u64 = 0xfee0_00b0;
const VECTOR: u8 = 0x30;
const MARK: u64 = 0x1234_5678;

const GUEST: &[u8] = &[
    0xb8, 0x02, 0, 0, 0, // mov eax, 2
    0x0f, 0xa2, // cpuid
    0x0f, 0x01, 0xd9, // vmmcall
    0xb9, 0, 0, 0, 0x40, // mov ecx, 0x40000000
    0x0f, 0x32, // rdmsr
    0x0f, 0x30, // wrmsr
    0xe6, 0xe9, // out 0xe9, al
    0xa3, 0xb0, 0, 0xe0, 0xfe, // mov [0xfee000b0], eax
    0xfb, // sti
    0xf4, // hlt: the host injects an interrupt
    0xfa, // cli
    0x0f, 0x01, 0xd9, // vmmcall: the host asks for an interrupt window
    0xfb, // sti
    0x90, // nop
    0x90, // nop
    0xf4, // hlt
];

const GUEST_FPU: &[u8] = &[
    0x31, 0xc9, // xor ecx, ecx
    0x31, 0xd2, // xor edx, edx
    0xb8, 7, 0, 0, 0, // mov eax, 7
    0x0f, 0x01, 0xd1, // xsetbv
    0xc5, 0xfc, 0xc2, 0xc0, 0x0f, // vcmptrueps ymm0, ymm0, ymm0
    0xbf, 0, 0x80, 0, 0, // mov edi, 0x8000
    0x0f, 0xae, 0x27, // xsave [edi]
    0x0f, 0x01, 0xd9, // vmmcall: the host unloads and reloads
    0xc5, 0xfd, 0x7f, 0x87, 0, 0x10, 0, 0, // vmovdqa [edi + 0x1000], ymm0
    0x0f, 0xae, 0x2f, // xrstor [edi]
    0xf4, // hlt
];

/// The handler of `VECTOR`.
const GUEST_HANDLER: &[u8] = &[
    0x0f, 0x01, 0xd9, // vmmcall
    0xcf, // iret
];

#[derive(Debug)]
pub enum Failure {
    Setup(VirtError),
    /// The guest stopped for another reason than at this step.
    Exit {
        step: &'static str,
        exit: Exit,
        rip: u64,
    },
    /// Something was not as it should be at this step.
    Value {
        step: &'static str,
        value: u64,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(error) => write!(f, "{error}"),
            Self::Exit { step, exit, rip } => write!(f, "{step}: {exit:x?} at {rip:#x}"),
            Self::Value { step, value } => write!(f, "{step}: {value:#x}"),
        }
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Tables([[u64; 512]; 4]);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Ram([u8; RAM]);

/// The host's view of the guest's memory. Volatile in effect: it is touched between entries only,
/// and an entry is an opaque call.
struct Space {
    ram: Box<Ram>,
    written: Option<u64>,
}

impl PhysRead for Space {
    fn read_u64(&self, at: Gaddr) -> Option<u64> {
        let bytes = self.ram.0.get(at.raw() as usize..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    }
}

impl GuestSpace for Space {
    fn read(&mut self, _: Gaddr, _: u8) -> Option<u64> {
        None
    }
    fn write(&mut self, at: Gaddr, _: u8, value: u64) -> bool {
        self.written = Some(value);
        at.raw() == DEVICE
    }
    fn phys_bits(&self) -> u32 {
        36
    }
}

struct Bench<'a> {
    vcpu: BoxedVcpu,
    space: Space,
    phys: &'a mut PhysCpu,
    step: &'static str,
    _tables: Box<Tables>,
}

/// Runs it on this CPU, on which virtualization is enabled.
pub fn run(platform: &Platform, phys: &mut PhysCpu, cpu: CpuId) -> Result<(), Failure> {
    exits(platform, phys)?;
    if platform.fpu.xcr0 & 7 == 7 {
        extended_state(platform, phys)?;
    }
    log::debug!("CPU{cpu}: the world switch works");
    Ok(())
}

fn exits(platform: &Platform, phys: &mut PhysCpu) -> Result<(), Failure> {
    let mut b = Bench::new(platform, phys, GUEST)?;
    for n in 0..16 {
        if n != 4 {
            b.vcpu.gprs_mut().set(n, MARK + u64::from(n));
        }
    }
    b.vcpu.load(b.phys);
    b.stop("cpuid", Exit::Cpuid)?;
    b.check("rax at cpuid", b.vcpu.gprs().rax, 2)?;
    b.skip(Exit::Cpuid)?;
    b.stop("vmmcall", Exit::Hypercall)?;
    for n in [1, 2, 3, 5, 6, 7] {
        b.check(
            "a register after an exit",
            b.vcpu.gprs().get(n),
            MARK + u64::from(n),
        )?;
    }
    b.skip(Exit::Hypercall)?;
    b.stop("rdmsr", Exit::Rdmsr)?;
    b.check(
        "ecx at rdmsr",
        b.vcpu.gprs().rcx,
        u64::from(MSR_HYPERCALL_PAGE),
    )?;
    b.vcpu.gprs_mut().set_edx_eax(0xabcd_0000_4321);
    b.skip(Exit::Rdmsr)?;
    b.stop("wrmsr", Exit::Wrmsr)?;
    b.check(
        "edx:eax at wrmsr",
        b.vcpu.gprs().edx_eax(),
        0xabcd_0000_4321,
    )?;
    b.skip(Exit::Wrmsr)?;
    match b.next() {
        Exit::Io(io) if io.port == 0xe9 && io.size == 1 && !io.input && !io.string => {
            b.skip(Exit::Io(io))?;
        }
        exit => return Err(b.wrong("out", exit)),
    }
    match b.next() {
        Exit::NestedFault(fault) if fault.gpa.raw() == DEVICE && fault.write && !fault.present => {
            let outcome = emul::mmio(&mut *b.vcpu, &mut b.space, &fault);
            if outcome != Outcome::Done || b.space.written != Some(0x4321) {
                return Err(b.wrong("emulation", Exit::NestedFault(fault)));
            }
        }
        exit => return Err(b.wrong("device write", exit)),
    }
    interrupts(&mut b)?;
    b.vcpu.unload(b.phys);
    Ok(())
}

fn interrupts(b: &mut Bench<'_>) -> Result<(), Failure> {
    b.stop("hlt", Exit::Hlt)?;
    b.skip(Exit::Hlt)?;
    b.check("interruptible", u64::from(b.vcpu.can_take_interrupt()), 1)?;
    b.vcpu.inject(Event::Interrupt(VECTOR));
    b.handler()?;
    b.stop("after iret", Exit::Hypercall)?;
    b.check("IF after cli", b.vcpu.get(Reg::Rflags) & RFLAGS_IF, 0)?;
    b.skip(Exit::Hypercall)?;
    b.vcpu.request_interrupt_window(true);
    b.stop("interrupt window", Exit::InterruptWindow)?;
    b.check(
        "interruptible in the window",
        u64::from(b.vcpu.can_take_interrupt()),
        1,
    )?;
    b.vcpu.inject(Event::Interrupt(VECTOR));
    b.handler()?;
    b.stop("last hlt", Exit::Hlt)
}

fn extended_state(platform: &Platform, phys: &mut PhysCpu) -> Result<(), Failure> {
    let mut b = Bench::new(platform, phys, GUEST_FPU)?;
    b.vcpu.set(Reg::Cr4, CR4_OSFXSR | CR4_OSXSAVE);
    b.vcpu.load(b.phys);
    match b.next() {
        Exit::Xsetbv => {
            b.vcpu.set(Reg::Xcr0, b.vcpu.gprs().edx_eax());
            b.skip(Exit::Xsetbv)?;
            b.stop("AVX", Exit::Hypercall)?;
        }
        Exit::Hypercall if platform.quirks.xsetbv_runs => {
            log::info!("self-test: XSETBV is intercepted, and the CPU runs it all the same");
        }
        exit => return Err(b.wrong("xsetbv", exit)),
    }
    b.check("xcr0", b.vcpu.get(Reg::Xcr0), 7)?;
    b.skip(Exit::Hypercall)?;
    b.vcpu.unload(b.phys);
    // Another vcpu's state comes in between.
    let mut other = Bench::new(platform, b.phys, &[0xf4])?;
    other.vcpu.load(other.phys);
    other.stop("other guest", Exit::Hlt)?;
    other.vcpu.unload(other.phys);
    b.vcpu.load(b.phys);
    b.stop("XRSTOR", Exit::Hlt)?;
    b.vcpu.unload(b.phys);
    for at in (0x9000..0x9020).step_by(8) {
        let value = b.space.read_u64(Gaddr::new(at)).unwrap_or(0);
        b.check("ymm0 across another guest", value, u64::MAX)?;
    }
    Ok(())
}

impl<'a> Bench<'a> {
    fn new(platform: &Platform, phys: &'a mut PhysCpu, code: &[u8]) -> Result<Self, Failure> {
        let no_memory = |_| Failure::Setup(VirtError::NoMemory);
        let mut ram = Ram::new_box_zeroed().map_err(no_memory)?;
        let mut put = |at: usize, bytes: &[u8]| {
            for (slot, byte) in ram.0.iter_mut().skip(at).zip(bytes) {
                *slot = *byte;
            }
        };
        let vmx = matches!(platform.hardware, Hardware::Vmx(_));
        put(CODE, &for_vendor(code, vmx));
        put(HANDLER, &for_vendor(GUEST_HANDLER, vmx));
        put(GDT + 8, &0x00cf_9b00_0000_ffffu64.to_le_bytes());
        let gate = HANDLER as u64 | 8 << 16 | 0x8e00 << 32;
        put(IDT + usize::from(VECTOR) * 8, &gate.to_le_bytes());
        let mut tables = Tables::new_box_zeroed().map_err(no_memory)?;
        let to_maddr = platform.translator();
        fill(&mut tables, &ram, to_maddr, platform.nested_format());
        let domain = platform.new_domain().map_err(Failure::Setup)?;
        let mut vcpu = platform.new_vcpu(&domain).map_err(Failure::Setup)?;
        start::pvh(&mut *vcpu, CODE as u32, 0);
        vcpu.set_segment(SegReg::Cs, Segment::new(8, 0xc9b, u32::MAX, 0));
        vcpu.set_segment(SegReg::Gdtr, Segment::new(0, 0, 0xf, GDT as u64));
        vcpu.set_segment(SegReg::Idtr, Segment::new(0, 0, 0x7ff, IDT as u64));
        vcpu.gprs_mut().rsp = STACK;
        vcpu.set_nested_root(to_maddr(tables.0.as_mut_ptr().expose_provenance()));
        let space = Space { ram, written: None };
        Ok(Self {
            vcpu,
            space,
            phys,
            step: "start",
            _tables: tables,
        })
    }

    /// The next exit that is the guest's doing: host interrupts stay pending for the caller.
    fn next(&mut self) -> Exit {
        loop {
            match self.vcpu.run(self.phys) {
                Exit::ExternalInterrupt | Exit::HostNmi => let_interrupts_in(),
                exit => return exit,
            }
        }
    }

    fn stop(&mut self, step: &'static str, wanted: Exit) -> Result<(), Failure> {
        self.step = step;
        let exit = self.next();
        if exit == wanted {
            Ok(())
        } else {
            Err(self.wrong(step, exit))
        }
    }

    fn handler(&mut self) -> Result<(), Failure> {
        self.stop("interrupt handler", Exit::Hypercall)?;
        self.check("rip of the handler", self.vcpu.rip(), HANDLER as u64)?;
        self.skip(Exit::Hypercall)
    }

    fn skip(&mut self, exit: Exit) -> Result<(), Failure> {
        let len = emul::insn_len(&mut *self.vcpu, &mut self.space, &exit)
            .ok_or_else(|| self.wrong("length of an instruction", exit))?;
        self.vcpu.advance_rip(len);
        Ok(())
    }

    fn check(&self, step: &'static str, value: u64, wanted: u64) -> Result<(), Failure> {
        if value == wanted {
            Ok(())
        } else {
            Err(Failure::Value { step, value })
        }
    }

    fn wrong(&self, step: &'static str, exit: Exit) -> Failure {
        log::error!("self-test of the world switch, {step}:\n{:?}", &*self.vcpu);
        Failure::Exit {
            step,
            exit,
            rip: self.vcpu.rip(),
        }
    }
}

/// Four levels of nested tables that map the guest's RAM from 0 on.
fn fill(tables: &mut Tables, ram: &Ram, to_maddr: ToMaddr, format: NestedFormat) {
    // Present, writable, user; or read, write, execute.
    const RIGHTS: u64 = 7;
    let leaf = match format {
        NestedFormat::Npt => RIGHTS,
        NestedFormat::Ept => RIGHTS | 6 << 3,
    };
    let base = to_maddr(tables.0.as_ptr().expose_provenance()).raw();
    let ram = to_maddr(ram.0.as_ptr().expose_provenance()).raw();
    let [root, third, second, first] = &mut tables.0;
    for (level, next) in [root, third, second].into_iter().zip(1..) {
        level[0] = (base + next * 4096) | RIGHTS;
    }
    for (entry, page) in first.iter_mut().zip(0..RAM as u64 / 4096) {
        *entry = (ram + page * 4096) | leaf;
    }
}

/// The guests are written with VMMCALL: VMCALL where the CPU is Intel's.
fn for_vendor(code: &[u8], vmx: bool) -> Vec<u8> {
    let mut code = code.to_vec();
    let mut at = 0;
    while let Some(call) = code.get_mut(at..at + 3) {
        if vmx && call == [0x0f, 0x01, 0xd9] {
            call[2] = 0xc1;
        }
        at += 1;
    }
    code
}

fn let_interrupts_in() {
    #[cfg(target_os = "none")]
    oxen_arch::irq::window();
}
