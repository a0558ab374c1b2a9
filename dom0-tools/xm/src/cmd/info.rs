//! `xm info`: one `key : value` a line, with xl's keys.

use crate::machine::{Machine, failed};
use crate::output::Output;
use guest_pv_abi as abi;
use oxen_domain::Result;
use serde_json::{Map, Value};
use std::fmt::Write;

pub(super) fn run(out: &Output) -> Result<()> {
    let machine = Machine::open()?;
    let calls = machine.xen.calls();
    let physical = calls
        .physinfo()
        .map_err(failed("cannot ask after the machine"))?;
    let (major, minor) = calls
        .version()
        .map_err(failed("cannot ask after the hypervisor's version"))?;
    let extra = calls.extra_version().unwrap_or_default();
    let compile = calls.compile_info().ok();
    let system = rustix::system::uname();
    let mib = |pages: u64| pages / 256;
    let hw_caps: Vec<String> = physical
        .hw_cap
        .iter()
        .map(|word| format!("{word:08x}"))
        .collect();
    let mut list = List::default();
    list.add("host", system.nodename().to_string_lossy());
    list.add("release", system.release().to_string_lossy());
    list.add("version", system.version().to_string_lossy());
    list.add("machine", system.machine().to_string_lossy());
    list.number("nr_cpus", physical.nr_cpus);
    list.number("max_cpu_id", physical.max_cpu_id);
    list.number("nr_nodes", physical.nr_nodes);
    list.number("cores_per_socket", physical.cores_per_socket);
    list.number("threads_per_core", physical.threads_per_core);
    list.add(
        "cpu_mhz",
        format!("{}.{:03}", physical.cpu_khz / 1000, physical.cpu_khz % 1000),
    );
    list.add("hw_caps", hw_caps.join(":"));
    list.add("virt_caps", virt_caps(physical.capabilities));
    list.number("total_memory", mib(physical.total_pages));
    list.number(
        "free_memory",
        mib(physical.free_pages + physical.scrub_pages),
    );
    list.number("outstanding_claims", physical.outstanding_pages);
    list.number("xen_major", major);
    list.number("xen_minor", minor);
    list.add("xen_extra", &extra);
    list.add("xen_version", format!("{major}.{minor}{extra}"));
    list.add("xen_caps", calls.capabilities().unwrap_or_default());
    list.add(
        "xen_scheduler",
        calls.scheduler().map_or("unknown", scheduler),
    );
    list.number(
        "xen_pagesize",
        calls.pagesize().map_or(4096, |size| size.max(0)) as u64,
    );
    list.add(
        "platform_params",
        format!("virt_start=0x{:x}", calls.virt_start().unwrap_or_default()),
    );
    list.add("xen_changeset", calls.changeset().unwrap_or_default());
    list.add("xen_commandline", calls.command_line().unwrap_or_default());
    if let Some(compile) = compile {
        list.add("cc_compiler", compile.compiler);
        list.add("cc_compile_by", compile.compiled_by);
        list.add("cc_compile_domain", compile.compile_domain);
        list.add("cc_compile_date", compile.compile_date);
    }
    list.add("xm_version", env!("CARGO_PKG_VERSION"));
    out.print(&list.values, &list.text);
    Ok(())
}

#[derive(Default)]
struct List {
    text: String,
    values: Map<String, Value>,
}

impl List {
    fn add(&mut self, key: &str, value: impl AsRef<str>) {
        let value = value.as_ref().trim_end();
        let _ = writeln!(self.text, "{key:<23}: {value}");
        self.values.insert(key.to_owned(), Value::from(value));
    }

    fn number(&mut self, key: &str, value: impl Into<u64>) {
        let value = value.into();
        self.add(key, value.to_string());
        self.values.insert(key.to_owned(), Value::from(value));
    }
}

/// The words of `XEN_SYSCTL_PHYSCAP_*` bits.
fn virt_caps(bits: u32) -> String {
    const NAMES: [(u32, &str); 7] = [
        (abi::XEN_SYSCTL_PHYSCAP_HVM, "hvm"),
        (abi::XEN_SYSCTL_PHYSCAP_PV, "pv"),
        (abi::XEN_SYSCTL_PHYSCAP_DIRECTIO, "hvm_directio"),
        (abi::XEN_SYSCTL_PHYSCAP_HAP, "hap"),
        (abi::XEN_SYSCTL_PHYSCAP_SHADOW, "shadow"),
        (
            abi::XEN_SYSCTL_PHYSCAP_IOMMU_HAP_PT_SHARE,
            "iommu_hap_pt_share",
        ),
        (abi::XEN_SYSCTL_PHYSCAP_VMTRACE, "vmtrace"),
    ];
    let set = NAMES.iter().filter(|(bit, _)| bits & bit != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
}

/// The word of a `XEN_SCHEDULER_*` number.
fn scheduler(id: u32) -> &'static str {
    match id {
        // Xen has removed this scheduler, and its number with it.
        4 => "sedf",
        abi::XEN_SCHEDULER_CREDIT => "credit",
        abi::XEN_SCHEDULER_CREDIT2 => "credit2",
        abi::XEN_SCHEDULER_ARINC653 => "arinc653",
        abi::XEN_SCHEDULER_RTDS => "rtds",
        abi::XEN_SCHEDULER_NULL => "null",
        _ => "unknown",
    }
}
