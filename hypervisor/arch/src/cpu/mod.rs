//! One CPU: its area behind GS, descriptor tables, features, control registers and MSRs.

pub mod features;
pub mod io_port;
pub mod msr;
pub mod regs;

#[cfg(target_os = "none")]
mod percpu;
#[cfg(target_os = "none")]
mod tables;

pub use features::{Features, Vendor, features};
#[cfg(target_os = "none")]
pub use percpu::{PerCpu, apic_id, apic_id_of, cpu_id};
#[cfg(target_os = "none")]
pub use tables::{
    IstStacks, gdt_base, load_on_this_cpu, reload_idt, set_ist_stacks, switch_stack, tss_base,
};

#[cfg(target_os = "none")]
pub(crate) use percpu::set_apic_id;

/// First thing on the boot CPU: GS, GDT, TSS and IDT, so that a fault has a reporter.
#[cfg(target_os = "none")]
pub(crate) fn init_boot_cpu() {
    features::detect();
    percpu::init(oxen_types::CpuId(0));
    tables::init_boot_cpu();
}

/// The same on another CPU. `ist` are its stacks for NMI, #DF and #MC.
#[cfg(target_os = "none")]
pub(crate) fn init_this_cpu(id: oxen_types::CpuId, ist: IstStacks) {
    percpu::init(id);
    set_ist_stacks(ist);
    load_on_this_cpu();
}
