//! The machine as core's seams see it: clock, console, CPUs, power.

use alloc::sync::Arc;

use oxen_arch::cpu::{apic_id_of, cpu_id, features, regs};
use oxen_arch::{console, ipi, power, smp, time};
use oxen_core::domain::{Domain, DomainBuilder, DomainConfig};
use oxen_core::seams::{
    Clock, ClockScale, Console, FrameSource, MachineInfo, Platform, PowerAction,
};
use oxen_mm::FrameTable;
use oxen_types::{CpuId, DomainId, Errno, MAX_CPUS, Result};
use oxen_vmm::PerCpu;
use spin::Mutex;

use oxen_virt::Platform as Virt;

use crate::host::{CPUS, VMM};

/// The machine, for core.
pub(crate) struct Machine {
    pub command_line: &'static str,
    pub frames: &'static FrameTable,
    pub virt: &'static Virt,
}

fn cpu_part(cpu: CpuId) -> &'static PerCpu {
    &CPUS[cpu.index() % MAX_CPUS]
}

struct SystemClock;
struct SystemConsole;

/// Seconds and nanoseconds since 1970 at system time 0.
static WALL: Mutex<Option<(u64, u32)>> = Mutex::new(None);

const NS_PER_S: u64 = 1_000_000_000;

/// The TSCs run at one rate in all states (CPUID 8000_0007 EDX bit 8).
pub(crate) fn tsc_is_invariant() -> bool {
    regs::cpuid(0x8000_0000, 0).eax >= 0x8000_0007 && regs::cpuid(0x8000_0007, 0).edx & 1 << 8 != 0
}

fn clock_is_tsc() -> bool {
    time::source() == time::ClockSource::Tsc
}

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        time::now_ns()
    }

    fn sample(&self) -> (u64, u64) {
        let stamp = time::stamp();
        (stamp.tsc, stamp.ns)
    }

    fn scale(&self) -> ClockScale {
        let scale = time::tsc_scale();
        ClockScale {
            mul: scale.mul_frac,
            shift: scale.shift,
        }
    }

    fn tsc_khz(&self) -> u32 {
        time::tsc_khz() as u32
    }

    fn tsc_is_stable(&self) -> bool {
        smp::tsc_check().is_stable(clock_is_tsc())
    }

    fn wall_clock_base(&self) -> (u64, u32) {
        *WALL.lock().get_or_insert_with(|| {
            let base = time::wall_clock().saturating_sub(time::now_ns());
            (base / NS_PER_S, (base % NS_PER_S) as u32)
        })
    }

    fn set_wall_clock_base(&self, seconds: u64, nanoseconds: u32) {
        *WALL.lock() = Some((seconds, nanoseconds));
    }
}

impl Console for SystemConsole {
    fn write(&self, bytes: &[u8]) {
        console::write_raw(bytes);
    }

    fn read(&self, into: &mut [u8]) -> usize {
        crate::console::read_for_dom0(into)
    }

    fn read_log(&self, index: Option<u32>, into: &mut [u8]) -> (usize, u32) {
        console::read_log(index, into)
    }

    fn clear_log(&self) {
        console::clear();
    }

    fn debug_key(&self, key: u8) {
        if let Some(vmm) = VMM.get() {
            vmm.run_key(key);
        }
    }
}

impl Platform for Machine {
    fn clock(&self) -> &dyn Clock {
        &SystemClock
    }

    fn console(&self) -> &dyn Console {
        &SystemConsole
    }

    fn this_cpu(&self) -> CpuId {
        cpu_id()
    }

    fn command_line(&self) -> &str {
        self.command_line
    }

    fn kick(&self, cpu: CpuId) {
        if cpu != cpu_id() {
            ipi::kick(cpu);
        }
    }

    fn reschedule(&self) {
        cpu_part(cpu_id()).request_reschedule();
    }

    fn reschedule_on(&self, cpu: CpuId) {
        cpu_part(cpu).request_reschedule();
        self.kick(cpu);
    }

    fn reschedule_at(&self, cpu: CpuId, at: u64) {
        if cpu_part(cpu).request_reschedule_at(at) {
            self.kick(cpu);
        }
    }

    fn deadline_changed(&self) {
        // Each CPU's loop asks its queue before it enters a guest or halts.
    }

    fn info(&self) -> MachineInfo {
        let one = regs::cpuid(1, 0);
        let extended = regs::cpuid(0x8000_0001, 0);
        let mut hw_cap = [0; 8];
        hw_cap[0] = one.edx;
        hw_cap[1] = one.ecx;
        hw_cap[2] = extended.edx;
        hw_cap[3] = extended.ecx;
        MachineInfo {
            cpus: smp::online_count() as u32,
            threads_per_core: 1,
            cores_per_socket: smp::online_count() as u32,
            cpu_khz: time::tsc_khz() as u32,
            hw_cap,
            memory: self.frames.stats(),
            hap: self.virt.nested_paging(),
            shadow: oxen_vmm::SHADOW,
        }
    }

    fn idle_ns(&self, cpu: CpuId) -> u64 {
        cpu_part(cpu).idle_ns()
    }

    fn power(&self, action: PowerAction) {
        match action {
            PowerAction::PowerOff => power_off(),
            PowerAction::Reboot => reboot(),
        }
    }

    fn guest_address_bits(&self) -> u8 {
        features::physical_bits()
    }

    fn firmware_cpu(&self, cpu: CpuId) -> Option<(u32, u32)> {
        let apic_id = apic_id_of(cpu)?;
        let platform = oxen_arch::acpi::info();
        let found = platform.cpus.iter().find(|it| it.apic_id == apic_id)?;
        Some((found.apic_id, found.uid))
    }

    fn dom0_memory_map(&self, visit: &mut dyn FnMut(u64, u64, u32)) {
        let map = VMM.get().map_or(&[][..], |vmm| vmm.dom0_map());
        map.iter()
            .for_each(|range| visit(range.start, range.len, range.kind));
    }
}

impl DomainBuilder for Machine {
    fn create_domain(
        &self,
        id: DomainId,
        config: DomainConfig,
        max_frames: u64,
    ) -> Result<Arc<Domain>> {
        VMM.get()
            .ok_or(Errno::NoSys)?
            .create_domain(id, config, max_frames)
    }
}

pub(crate) fn power_off() -> ! {
    log::info!("powering off");
    power::power_off()
}

pub(crate) fn reboot() -> ! {
    log::info!("rebooting");
    power::reboot()
}

/// Bits of a machine address.
pub(crate) fn physical_bits() -> u32 {
    features::physical_bits().into()
}
