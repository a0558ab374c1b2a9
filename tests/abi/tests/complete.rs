//! `guest-pv-abi` declares all that the headers have of what we follow, and nothing that the
//! comparison does not see.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use abi_layout::{Headers, INCLUDE, rust_name};
use guest_pv_abi::layout::Item;

/// Families of C constants that must be declared to the last.
const FAMILIES: &[&str] = &[
    "__HYPERVISOR_",
    "BLKIF_",
    "CALLBACK",
    "CONSOLEIO_",
    "DOMID_",
    "EVTCHN",
    "GNT",
    "GTF_",
    "HVMMEM_",
    "HVMOP_",
    "HVM_PARAM_",
    "KEXEC_",
    "LIVEPATCH_",
    "MMUEXT_",
    "MMU_",
    "NETIF_",
    "NETRXF_",
    "NETTXF_",
    "PHYSDEVOP_",
    "RUNSTATE_",
    "SCHEDOP_",
    "SHUTDOWN_",
    "SIF_",
    "TRC_",
    "UVMF_",
    "VCPUOP_",
    "VIRQ_",
    "VMASST_",
    "XENFEAT_",
    "XENMAP",
    "XENMEM",
    "XENNMI_",
    "XENPF_",
    "XENPMU_",
    "XENSTORE_",
    "XENVER_",
    "XEN_CPUID_",
    "XEN_CPUPERF_",
    "XEN_DOMCTL_",
    "XEN_DOMINF_",
    "XEN_E",
    "XEN_ELFNOTE_",
    "XEN_FW_",
    "XEN_HVM_",
    "XEN_HYPFS_",
    "XEN_IO_PROTO_",
    "XEN_LIVEPATCH_",
    "XEN_MC_",
    "XEN_NETIF_",
    "XEN_NMIREASON_",
    "XEN_PCI_",
    "XEN_PM_",
    "XEN_PROCESSOR_",
    "XEN_PX_",
    "XEN_SCHEDULER_",
    "XEN_SYSCTL_",
    "XEN_X86_",
    "XSD_",
    "XS_",
];

/// Constants of these families that are not declared, each with the reason.
const LEFT_OUT: &[(&str, &str)] = &[
    ("__HYPERVISOR_VIRT_", "PV kernels' address layout"),
    ("GNTTABOP_error_msgs", "texts in C's syntax"),
    ("HVMOP_ALTP2M_", "alternate p2m: not offered"),
    ("HVMOP_altp2m_", "alternate p2m: not offered"),
    (
        "KEXEC_XEN_NO_PAGES",
        "kexec's first interface, long replaced",
    ),
    ("TRC_SCHED_EVT_MASK", "a 64-bit complement in C, of no use"),
    ("XENMEM_SHARING_OP_FIELD_", "memory sharing: not offered"),
    (
        "XENPMU_CTXT_PAD_SZ",
        "the counters' shared page: not offered",
    ),
    (
        "XENPMU_REGS_PAD_SZ",
        "the counters' shared page: not offered",
    ),
    ("XEN_EMULATE_PREFIX", "an instruction in assembler's syntax"),
    ("XS_DEBUG", "the old name of XS_CONTROL"),
];

/// C structures' tags that begin so must be declared, too.
const STRUCT_FAMILIES: &[&str] = &[
    "evtchn_",
    "gnttab_",
    "physdev_",
    "sched_",
    "xen_domctl",
    "xen_sysctl",
    "xenpf_",
    "vcpu_register_",
    "vcpu_set_",
];

const STRUCTS_LEFT_OUT: &[(&str, &str)] = &[
    (
        "evtchn_op",
        "the first event-channel hypercall, long replaced",
    ),
    ("physdev_op", "the first physdev hypercall, long replaced"),
    (
        "xen_domctl_gdbsx_memio",
        "another debugger's access to memory: not offered",
    ),
];

/// Modules that declare nothing of the ABI, but how it is declared.
const MACHINERY: &[&str] = &["define", "handle", "layout", "lib", "union"];

/// Public items that need no C name: made of others that have one.
const DERIVED: &[&str] = &["ShutdownReason", "XSD_ERRORS"];

fn items() -> impl Iterator<Item = (&'static str, &'static Item)> {
    let blocks = guest_pv_abi::LAYOUT.iter();
    blocks.flat_map(|(module, blocks)| {
        blocks
            .iter()
            .flat_map(|b| b.iter().map(|item| (*module, item)))
    })
}

fn name(item: &Item) -> &'static str {
    match *item {
        Item::Struct { name, .. }
        | Item::Const { name, .. }
        | Item::Text { name, .. }
        | Item::Extra { name } => name,
    }
}

fn missing<'a>(
    c: &'a BTreeSet<String>,
    families: &[&str],
    left_out: &[(&str, &str)],
    declared: impl Fn(&str) -> bool,
) -> Vec<&'a str> {
    let wanted = c
        .iter()
        .filter(|name| families.iter().any(|family| name.starts_with(family)));
    let kept = wanted.filter(|name| !left_out.iter().any(|(prefix, _)| name.starts_with(prefix)));
    kept.map(String::as_str)
        .filter(|name| !declared(name))
        .collect()
}

#[test]
fn no_number_of_the_headers_is_missing() {
    let headers = Headers::read(Path::new(INCLUDE)).expect("headers");
    let names: BTreeSet<_> = items().map(|(_, item)| name(item)).collect();
    let expressions: BTreeSet<_> = items()
        .filter_map(|(_, item)| match item {
            Item::Const { c, .. } => Some(*c),
            _ => None,
        })
        .collect();
    let declared = |c: &str| names.contains(rust_name(c).as_str()) || expressions.contains(c);
    let missing = missing(&headers.constants, FAMILIES, LEFT_OUT, declared);
    assert!(missing.is_empty(), "not declared: {}", missing.join(", "));
}

#[test]
fn no_structure_of_the_headers_is_missing() {
    let headers = Headers::read(Path::new(INCLUDE)).expect("headers");
    let types: BTreeSet<_> = items()
        .filter_map(|(_, item)| match item {
            Item::Struct { c, .. } => c.strip_prefix("struct "),
            _ => None,
        })
        .collect();
    let missing = missing(&headers.structs, STRUCT_FAMILIES, STRUCTS_LEFT_OUT, |tag| {
        types.contains(tag)
    });
    assert!(missing.is_empty(), "not declared: {}", missing.join(", "));
}

#[test]
fn names_are_unique_as_all_modules_are_re_exported() {
    let mut seen = BTreeMap::new();
    for (module, item) in items() {
        let other = seen.insert(name(item), module);
        assert!(
            other.is_none(),
            "{} is in {module} and {}",
            name(item),
            other.unwrap_or_default()
        );
    }
}

#[test]
fn nothing_public_stands_outside_of_the_lists() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-pv-abi/src");
    let modules: BTreeSet<_> = guest_pv_abi::LAYOUT
        .iter()
        .map(|(module, _)| *module)
        .collect();
    let mut found = 0;
    for file in std::fs::read_dir(source).expect("sources") {
        let path = file.expect("source").path();
        let module = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("name")
            .to_owned();
        if MACHINERY.contains(&module.as_str()) {
            continue;
        }
        assert!(
            modules.contains(module.as_str()),
            "{module} is not listed in lib.rs"
        );
        let text = std::fs::read_to_string(&path).expect("module");
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let declares = words.next() == Some("pub")
                && matches!(words.next(), Some("const" | "struct" | "enum"));
            let name = words.next().unwrap_or_default().trim_end_matches(':');
            // In a list, structures are indented and constants have no `const`; `const fn` is no
            // data.
            let listed = line.starts_with(' ') && line.contains(" = \"");
            assert!(
                !declares || listed || name == "fn" || DERIVED.contains(&name),
                "{module}: {line}: not in an abi! block"
            );
        }
        found += 1;
    }
    assert_eq!(found, modules.len());
}
