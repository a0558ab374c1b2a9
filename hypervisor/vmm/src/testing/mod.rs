//! The vmm over a machine in memory: real domains, p2m, local APICs and registers; CPUs, clock and
//! runs are doubles.

pub(crate) mod backend;
pub(crate) mod host;
pub(crate) mod toy;

use std::boxed::Box;
use std::sync::Arc;

use guest_pv_abi as abi;
use oxen_core::domain::{Domain, DomainConfig};
use oxen_core::machine::Machine;
use oxen_core::vcpu::{Hold, Vcpu};
use oxen_mm::memmap::{FirmwareKind, FirmwareRange, MemoryMap};
use oxen_mm::{FrameTable, Phys};
use oxen_types::{CpuId, DomainId, Gaddr, Gfn, Maddr};
use oxen_virt::policy::{HostMsrs, Mtrr};
use oxen_virt::{PhysCpu, Platform, Reg, SegReg, Segment};

use crate::devices::{DeviceConfig, Devices};
use crate::domain::{self, HvmDomain};
use crate::run;
use crate::{Parts, Settings, Vmm};
use backend::Script;
use host::{Fake, FakeHost, FakeVmm};

/// The machine's frames.
const FRAMES: u64 = 4096;
/// Pages of a guest's RAM, from gfn 0.
pub(crate) const RAM: u64 = 16;
const PAGE: u64 = 4096;

pub(crate) struct Lab {
    pub(crate) vmm: &'static FakeVmm,
    pub(crate) fake: &'static Fake,
}

impl Lab {
    /// A machine of two CPUs; the test runs on CPU 0.
    pub(crate) fn new() -> Self {
        host::become_cpu(0);
        let phys = Phys::arena(FRAMES);
        let range = FirmwareRange {
            start: PAGE,
            len: (FRAMES - 1) * PAGE,
            kind: FirmwareKind::Ram,
        };
        let mut map = MemoryMap::new([range].into_iter());
        let frames = FrameTable::new(phys, &mut map, &[]).expect("a frame table");
        let frames: &'static FrameTable = Box::leak(Box::new(frames));
        let virt = Platform::for_tests(|at| Maddr::new(at as u64));
        let virt: &'static Platform = Box::leak(Box::new(virt));
        let fake: &'static Fake = Box::leak(Box::new(Fake::new(frames, virt, 2)));
        let machine: &'static Machine = Box::leak(Box::new(Machine::new(fake, frames, fake, 2)));
        let settings = Settings {
            is_amd: true,
            large_exec: true,
            phys_bits: 40,
            msrs: HostMsrs::default(),
        };
        let vmm: &'static FakeVmm = Box::leak(Box::new(Vmm::new(Parts {
            host: FakeHost(fake),
            machine,
            frames,
            virt,
            cpus: fake.cpus,
            settings,
        })));
        for cpu in 0..2 {
            *vmm.cpu(CpuId(cpu)).phys.lock() = Some(PhysCpu::for_tests());
        }
        Self { vmm, fake }
    }

    /// A domain whose vcpus run hardware-virtualized; they are started, in 64-bit mode with
    /// interrupts on.
    pub(crate) fn guest(&self, vcpus: u32) -> Guest {
        self.guest_of(1, vcpus)
    }

    /// The same, of a given number.
    pub(crate) fn guest_of(&self, id: u16, vcpus: u32) -> Guest {
        self.make(DomainId(id), vcpus, None)
    }

    /// A domain with the machine's devices, as dom0 has them.
    pub(crate) fn dom0(&self) -> Guest {
        let devices = Devices::new(devices());
        self.make(DomainId::DOM0, 1, Some(devices))
    }

    fn make(&self, id: DomainId, vcpus: u32, devices: Option<Devices>) -> Guest {
        let first = self.fake.vcpus_made();
        let identity = devices.is_some();
        let config = config(vcpus, identity);
        let (domain, hvm) =
            domain::create(self.vmm, id, config, 64, devices).expect("memory for a domain");
        self.vmm.machine.insert(domain.clone()).expect("room");
        if !identity {
            for gfn in 0..RAM {
                domain.memory.populate(Gfn::new(gfn), 0).expect("RAM");
            }
        }
        let guest = Guest {
            vmm: self.vmm,
            fake: self.fake,
            domain,
            hvm,
            first,
        };
        for n in 0..vcpus {
            let vcpu = guest.vcpu(n);
            vcpu.arch.start_pvh(0x1000, 0).expect("it does not run");
            vcpu.set_initialised(true);
            vcpu.release(Hold::Down);
            guest.script(n).take();
        }
        guest.domain.unpause().expect("its first start");
        self.fake.take();
        guest
    }

    /// One turn of this CPU's loop.
    pub(crate) fn turn(&self, cpu: u32) {
        host::become_cpu(cpu);
        run::turn(self.vmm, CpuId(cpu));
    }
}

fn config(max_vcpus: u32, privileged: bool) -> DomainConfig {
    DomainConfig {
        privileged,
        handle: [0; 16],
        ssid: 0,
        flags: abi::XEN_DOMCTL_CDF_HVM | abi::XEN_DOMCTL_CDF_HAP,
        emulation: abi::XEN_X86_EMU_LAPIC,
        max_vcpus,
        max_ports: 1023,
        max_grant_frames: 4,
        max_maptrack_frames: 4,
    }
}

/// One IO-APIC of 24 pins; frame 0xfee00 and the next 255 are reserved.
pub(crate) fn devices() -> DeviceConfig {
    use oxen_virt::dev::ioapic::IoApicConfig;
    use oxen_virt::dev::ports::PortRules;
    DeviceConfig {
        io_apics: vec![IoApicConfig {
            base: 0xfec0_0000,
            id: 0,
            version: 0x20,
            gsi_base: 0,
            pins: 24,
        }],
        ecam: vec![],
        ports: PortRules {
            denied: vec![(0x20, 0x21)],
            pm1: vec![],
            s5: None,
        },
        own_gsi: Some(4),
        reserved: vec![0xfee00..0xfef00, 0xfec00..0xfec01],
        frames_end: 1 << 28,
        mtrr: Mtrr::write_back(),
    }
}

pub(crate) struct Guest {
    pub(crate) vmm: &'static FakeVmm,
    fake: &'static Fake,
    pub(crate) domain: Arc<Domain>,
    pub(crate) hvm: Arc<HvmDomain<FakeHost>>,
    first: usize,
}

impl Guest {
    pub(crate) fn vcpu(&self, n: u32) -> Arc<Vcpu> {
        self.domain.vcpu(n).expect("a vcpu of that number")
    }

    pub(crate) fn script(&self, n: u32) -> Arc<Script> {
        self.fake.script(self.first + n as usize)
    }

    /// A vcpu runs on this CPU until its script ends, or it cannot go on.
    pub(crate) fn run(&self, n: u32) {
        self.run_until(n, u64::MAX);
    }

    pub(crate) fn run_until(&self, n: u32, slice_end: u64) {
        let vcpu = self.vcpu(n);
        self.vmm.this_cpu().take_reschedule();
        vcpu.set_cpu(Some(crate::host::Cpu::this_cpu(&self.vmm.host)));
        vcpu.arch.run(&vcpu, slice_end);
        vcpu.set_cpu(None);
    }

    /// Enables the local APIC of a vcpu: a write of the spurious vector register.
    pub(crate) fn enable_apic(&self, n: u32) {
        self.mmio_write(n, 0xfee0_00f0, 0x1ff);
    }

    /// The guest writes a device's register by MOV [EBX], EAX.
    pub(crate) fn mmio_write(&self, n: u32, at: u64, value: u32) {
        // mov [ebx], eax; nop
        self.write(0x1000, &[0x89, 0x03, 0x90]);
        let script = self.script(n);
        script.then(move |cpu| {
            cpu.gprs_mut().rax = value.into();
            cpu.gprs_mut().rbx = at;
            cpu.set(Reg::Rip, 0x1000);
            cpu.set_segment(SegReg::Cs, Segment::new(0, 0xc9b, u32::MAX, 0));
            oxen_virt::Exit::NestedFault(oxen_virt::NestedFault {
                gpa: Gaddr::new(at),
                write: true,
                fetch: false,
                present: false,
                table_walk: false,
            })
        });
        self.run(n);
        script.take();
        self.fake.take();
    }

    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        self.domain
            .memory
            .write(Gaddr::new(at), bytes)
            .expect("the guest's RAM");
    }
}
