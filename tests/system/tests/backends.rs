//! The short set on each back end: see `system_tests::backends`. The default run has VT-x in Bochs;
//! the others take minutes each and run by `./x test --bochs`.

use anyhow::{Context, Result, ensure};
use system_tests::backends::{run, run_with, write_table};
use system_tests::runner;

#[test]
#[ignore = "writes the table only: ./x test --write-table"]
fn table_of_what_ran() -> Result<()> {
    write_table()
}

#[test]
fn short_set_vtx() -> Result<()> {
    run("vmx-haswell")
}

#[test]
fn short_set_embedded_amd() -> Result<()> {
    run("svm-embedded")
}

#[test]
fn short_set_embedded_intel() -> Result<()> {
    run("vmx-embedded")
}

#[test]
#[ignore = "long: by name with --ignored"]
fn short_set_amdv_uefi() -> Result<()> {
    run("svm-qemu-uefi")
}

/// Another QEMU, such as 10.0 unpacked from Debian's backports.
#[test]
#[ignore = "set OXEN_QEMU to the program"]
fn short_set_on_another_qemu() -> Result<()> {
    let qemu = std::env::var("OXEN_QEMU").context("OXEN_QEMU names no program")?;
    run_with("svm-qemu-10", &["--qemu", &qemu])
}

#[test]
#[ignore = "long: ./x test --bochs"]
fn bochs_amdv_bios_for_the_table() -> Result<()> {
    run("svm-qemu-bios")
}

#[test]
#[ignore = "long: ./x test --bochs"]
fn bochs_vtx_with_a_stock_guest() -> Result<()> {
    run("vmx-haswell-linux")
}

#[test]
#[ignore = "long: ./x test --bochs"]
fn bochs_vtx_two_cpus_without_large_nested_pages() -> Result<()> {
    run("vmx-ivy-bridge")
}

#[test]
#[ignore = "long: ./x test --bochs"]
fn bochs_vtx_skylake() -> Result<()> {
    run("vmx-skylake")
}

/// Real mode and guests without paging are made believe there.
#[test]
#[ignore = "long: ./x test --bochs"]
fn bochs_vtx_without_unrestricted_guests() -> Result<()> {
    run("vmx-lynnfield")
}

/// dom0 and guests on shadows of their page tables, real mode made believe.
#[test]
#[ignore = "long: ./x test --bochs"]
fn bochs_vtx_without_ept() -> Result<()> {
    run("vmx-penryn")
}

/// Guests with `hap = 0` where others have EPT.
#[test]
#[ignore = "long: ./x test --bochs"]
fn bochs_vtx_guests_on_shadows() -> Result<()> {
    run("vmx-haswell-shadow")
}

#[test]
#[ignore = "long: ./x test --bochs"]
fn bochs_amdv_with_nrip_and_flush_by_asid() -> Result<()> {
    run("svm-trinity")
}

/// A CPU that lacks what we need is told so at boot, with what it lacks.
#[test]
#[ignore = "long: ./x test --bochs"]
fn bochs_cpus_that_will_not_do_are_told_why() -> Result<()> {
    let (model, why) = (
        "p4_prescott_celeron_336",
        "has neither AMD-V (SVM) nor VT-x",
    );
    let run = runner::run(&["--bochs", "--small", "--bochs-cpu", model], "true", 300)?;
    ensure!(
        run.status != 0 && run.console.contains(why),
        "{model} does not say {why:?}:\n{}\n{}",
        run.output,
        run.console
    );
    Ok(())
}
