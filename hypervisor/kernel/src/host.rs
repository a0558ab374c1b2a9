//! The machine as the vmm sees it, made of `oxen-arch`; and the one vmm, for handlers that have no
//! argument to name it.

use alloc::sync::Arc;

use oxen_arch::cpu::{apic_id_of, cpu_id, io_port, regs};
use oxen_arch::{apic, guest_log, ipi, irq, mmio, smp, time, trap, vectors};
use oxen_core::seams::ClockScale;
use oxen_mm::HostSpace;
use oxen_types::{CpuId, CpuMask, MAX_CPUS, Maddr, PAGE_SIZE, Polarity, Trigger};
use oxen_virt::{BoxedVcpu, DomainControls, Platform, VirtError, spec};
use oxen_vmm::host::{Cpu, Hardware, Host, Ipi, PostedTarget, Time};
use oxen_vmm::{PerCpu, Vmm};
use spin::Once;

use crate::platform;

/// Each CPU's part of the vmm.
pub(crate) static CPUS: [PerCpu; MAX_CPUS] = PerCpu::array();

/// Set at boot, before interrupts of devices and the console's keys are let in.
pub(crate) static VMM: Once<Vmm<Hw>> = Once::new();

/// Devices' interrupts go to the boot CPU.
const TARGET: CpuId = CpuId(0);

/// The machine.
pub(crate) struct Hw {
    pub space: &'static HostSpace,
    pub virt: &'static Platform,
    /// The TSCs run at one rate in all states (CPUID 8000_0007 EDX bit 8).
    pub invariant_tsc: bool,
}

impl Cpu for Hw {
    #[inline]
    fn this_cpu(&self) -> CpuId {
        cpu_id()
    }

    fn window(&self) {
        irq::window();
    }

    fn idle(&self) {
        irq::idle();
    }

    fn dispatch(&self, vector: u8) {
        irq::dispatch(vector);
    }

    fn raise_machine_check(&self) {
        trap::raise_machine_check();
    }

    fn write_back_caches(&self) {
        regs::wbinvd();
    }

    fn random(&self) -> u64 {
        regs::random().unwrap_or(0)
    }

    fn command_msr(&self, msr: u32) {
        spec::command(msr);
    }
}

impl Ipi for Hw {
    fn online(&self) -> CpuMask {
        smp::online()
    }

    fn kick(&self, cpu: CpuId) {
        ipi::kick(cpu);
    }

    fn nmi(&self, cpu: CpuId) {
        ipi::nmi(cpu);
    }

    fn notify(&self, cpu: CpuId) {
        ipi::notify(cpu);
    }

    fn poll(&self) {
        ipi::poll();
    }

    fn posted_target(&self) -> Option<PostedTarget> {
        Some(PostedTarget {
            vector: vectors::POSTED,
            apic_id: apic_id_of(cpu_id())?,
            x2apic: apic::is_x2apic(),
        })
    }
}

impl Time for Hw {
    fn now_ns(&self) -> u64 {
        time::now_ns()
    }

    fn tsc(&self) -> u64 {
        time::rdtsc()
    }

    fn tsc_at(&self, ns: u64) -> u64 {
        time::tsc_at(ns)
    }

    fn tsc_khz(&self) -> u32 {
        time::tsc_khz() as u32
    }

    fn tsc_scale(&self) -> ClockScale {
        let scale = time::tsc_scale();
        ClockScale {
            mul: scale.mul_frac,
            shift: scale.shift,
        }
    }

    fn clock_name(&self) -> &'static str {
        match time::source() {
            time::ClockSource::Tsc => "Tsc",
            time::ClockSource::Hpet => "Hpet",
        }
    }

    fn clock_is_tsc(&self) -> bool {
        time::source() == time::ClockSource::Tsc
    }

    fn tsc_is_reliable(&self) -> bool {
        (self.invariant_tsc || self.clock_is_tsc()) && smp::tsc_check().agree()
    }

    fn set_deadline(&self, ns: u64) {
        time::set_deadline(ns);
    }
}

impl Hardware for Hw {
    fn port_read(&self, at: u16, size: u8) -> u32 {
        io_port::read(at, size)
    }

    fn port_write(&self, at: u16, size: u8, value: u32) {
        io_port::write(at, size, value);
    }

    fn map_device(&self, page: Maddr) -> bool {
        let mapped = self.space.map_device(page, PAGE_SIZE as u64);
        if let Err(error) = mapped {
            guest_log!(
                log::Level::Error,
                "dom0's device memory at {page:?} cannot be reached: {error:?}"
            );
        }
        mapped.is_ok()
    }

    fn mmio_read(&self, at: Maddr, size: u8) -> u64 {
        mmio::read(at, size)
    }

    fn mmio_write(&self, at: Maddr, size: u8, value: u64) {
        mmio::write(at, size, value);
    }

    fn route_gsi(&self, gsi: u32, vector: u8, trigger: Trigger, polarity: Polarity) -> bool {
        apic::io::route(gsi, vector, TARGET, trigger, polarity).is_ok()
    }

    fn mask_gsi(&self, gsi: u32) {
        // A line that no IO-APIC has was never configured.
        let _ = apic::io::mask(gsi);
    }

    fn unmask_gsi(&self, gsi: u32) {
        let _ = apic::io::unmask(gsi);
    }

    fn alloc_vector(&self) -> Option<u8> {
        vectors::alloc()
    }

    fn free_vector(&self, vector: u8) {
        vectors::free(vector);
    }

    fn message_destination(&self) -> Option<u8> {
        apic::icr_destination_of(TARGET)
    }

    fn power_off(&self) -> ! {
        platform::power_off()
    }

    fn reboot(&self) -> ! {
        platform::reboot()
    }
}

impl Host for Hw {
    fn work(&self, cpu: CpuId) {
        if let Some(vmm) = VMM.get() {
            crate::console::work(vmm, cpu);
        }
    }

    fn new_vcpu(&self, domain: &Arc<DomainControls>) -> Result<BoxedVcpu, VirtError> {
        self.virt.new_vcpu(domain)
    }
}
