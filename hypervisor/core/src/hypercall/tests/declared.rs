//! The declarations of operations: complete beside the ABI crate, and told by docs/hypercalls.md.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, fs};

use guest_pv_abi as abi;
use oxen_types::Errno;

use crate::dispatch::{TABLE, declarations};
use crate::hypercall::op::declared::{Declaration, Status};
use crate::testing::{PAGE, World, errno};

/// The prefix of a hypercall's operations in the ABI crate.
fn prefix(number: u32) -> &'static str {
    match number {
        abi::HYPERVISOR_PLATFORM_OP => "XENPF_",
        abi::HYPERVISOR_MEMORY_OP => "XENMEM_",
        abi::HYPERVISOR_XEN_VERSION => "XENVER_",
        abi::HYPERVISOR_CONSOLE_IO => "CONSOLEIO_",
        abi::HYPERVISOR_GRANT_TABLE_OP => "GNTTABOP_",
        abi::HYPERVISOR_VCPU_OP => "VCPUOP_",
        abi::HYPERVISOR_SCHED_OP => "SCHEDOP_",
        abi::HYPERVISOR_EVENT_CHANNEL_OP => "EVTCHNOP_",
        abi::HYPERVISOR_PHYSDEV_OP => "PHYSDEVOP_",
        abi::HYPERVISOR_HVM_OP => "HVMOP_",
        abi::HYPERVISOR_SYSCTL => "XEN_SYSCTL_",
        abi::HYPERVISOR_DOMCTL => "XEN_DOMCTL_",
        _ => "",
    }
}

/// A hypercall's declarations by number.
fn of(number: u32) -> Vec<Declaration> {
    let mut all: Vec<_> = declarations(number)
        .iter()
        .copied()
        .flatten()
        .copied()
        .collect();
    all.sort_by_key(|op| op.number);
    all
}

#[test]
fn each_number_is_declared_once_and_by_its_name() {
    for entry in TABLE {
        let all = of(entry.number);
        let numbers: BTreeSet<_> = all.iter().map(|op| op.number).collect();
        assert_eq!(numbers.len(), all.len(), "{}", entry.name);
        for op in all {
            assert!(op.name.starts_with(prefix(entry.number)), "{}", op.name);
            assert!(op.size <= 1024, "{} is copied in one piece", op.name);
        }
    }
}

/// Families in which the ABI crate has numbers of operations alone. In the others names of other
/// things begin likewise.
#[test]
fn what_the_abi_crate_has_is_declared_or_refused() {
    for number in [
        abi::HYPERVISOR_XEN_VERSION,
        abi::HYPERVISOR_CONSOLE_IO,
        abi::HYPERVISOR_GRANT_TABLE_OP,
        abi::HYPERVISOR_VCPU_OP,
        abi::HYPERVISOR_SCHED_OP,
        abi::HYPERVISOR_EVENT_CHANNEL_OP,
        abi::HYPERVISOR_HVM_OP,
    ] {
        let declared = of(number);
        let items = abi::LAYOUT
            .iter()
            .flat_map(|(_, lists)| *lists)
            .copied()
            .flatten();
        for item in items {
            if let abi::layout::Item::Const { name, .. } = item
                && name.starts_with(prefix(number))
            {
                let known = declared.iter().any(|op| op.name == *name);
                assert!(known, "{name} is neither accepted nor refused");
            }
        }
    }
}

/// Each operation is called by a guest that may not, and by dom0 with an argument that cannot be
/// read.
#[test]
fn authority_comes_first_and_unknown_numbers_are_refused() {
    let (world, dom0) = World::new();
    let guest = world.guest(1, 1);
    let nowhere = 1000 * PAGE;
    for entry in TABLE {
        if declarations(entry.number).is_empty() || entry.number == abi::HYPERVISOR_GRANT_TABLE_OP {
            continue;
        }
        let physdev = entry.number == abi::HYPERVISOR_PHYSDEV_OP;
        for op in of(entry.number) {
            let mut args = [op.number, nowhere, nowhere, 0, 0, 0];
            if entry.number == abi::HYPERVISOR_VCPU_OP {
                args[1] = 0;
            }
            let result = guest.call(entry.number, &args);
            if entry.privileged || op.who == "privileged" && !physdev {
                assert_eq!(result, errno(Errno::Perm), "{}", op.name);
            } else if physdev {
                assert_eq!(result, errno(Errno::NoSys), "{}", op.name);
            } else if matches!(op.form, "takes" | "updates" | "reports") {
                assert_eq!(result, errno(Errno::Fault), "{}", op.name);
            }
            if op.who == "privileged" && op.form == "takes" {
                assert_eq!(
                    dom0.call(entry.number, &args),
                    errno(Errno::Fault),
                    "{}",
                    op.name
                );
            }
        }
    }
    for number in [abi::HYPERVISOR_SCHED_OP, abi::HYPERVISOR_EVENT_CHANNEL_OP] {
        assert_eq!(guest.call(number, &[63, nowhere]), errno(Errno::NoSys));
    }
}

#[test]
fn what_is_refused_has_its_errno() {
    let (world, dom0) = World::new();
    let _guest = world.guest(1, 1);
    for entry in TABLE {
        for op in of(entry.number) {
            if op.status != Status::No {
                continue;
            }
            let mut args = [op.number, 0, 0, 0, 0, 0];
            let version = match entry.number {
                abi::HYPERVISOR_DOMCTL => abi::DOMCTL_INTERFACE_VERSION,
                abi::HYPERVISOR_SYSCTL => abi::SYSCTL_INTERFACE_VERSION,
                abi::HYPERVISOR_PLATFORM_OP => abi::XENPF_INTERFACE_VERSION,
                _ => 0,
            };
            if version != 0 {
                dom0.write(2 * PAGE, &[op.number as u32, version, 1, 0]);
                args[0] = 2 * PAGE;
            }
            let wanted = match op.form {
                "NoSys" => Errno::NoSys,
                "OpNotSupp" => Errno::OpNotSupp,
                "NoDev" => Errno::NoDev,
                "Inval" => Errno::Inval,
                other => panic!("{other}"),
            };
            assert_eq!(dom0.call(entry.number, &args), errno(wanted), "{}", op.name);
        }
    }
}

/// The table of one hypercall's operations.
fn table(number: u32) -> String {
    let all = of(number);
    let short = |op: &Declaration| op.name.trim_start_matches(prefix(number)).to_lowercase();
    let mut text =
        String::from("| nr | operation | argument | who | status |\n|---|---|---|---|---|\n");
    for op in all.iter().filter(|op| op.status != Status::No) {
        let status = match (op.status, op.note) {
            (Status::Full, "") => "full".to_string(),
            (Status::Taken, "") => "taken".to_string(),
            (status, note) => format!("{}: {note}", format!("{status:?}").to_lowercase()),
        };
        let who = match op.who {
            "anyone" => "all",
            "target" => "all; dom0 for another domain",
            "other" => "dom0, for another domain",
            _ => "dom0",
        };
        let argument = match (op.form, op.argument.trim_start_matches("abi::")) {
            ("plain", _) => String::new(),
            ("takes", argument) => format!("`{argument}`"),
            ("each" | "batch", argument) => format!("list of `{argument}`, written back"),
            ("gives", argument) => format!("`{argument}`, written only"),
            (_, argument) => format!("`{argument}`, written back"),
        };
        let (nr, name) = (op.number, short(op));
        let _ = writeln!(text, "| {nr} | {name} | {argument} | {who} | {status} |");
    }
    let mut rest: Vec<(&str, Vec<String>)> = Vec::new();
    for op in all.iter().filter(|op| op.status == Status::No) {
        let errno = format!("no, -E{}", op.form.to_uppercase());
        if op.note.is_empty() {
            match rest.iter_mut().find(|(errno, _)| *errno == op.form) {
                Some((_, names)) => names.push(short(op)),
                None => rest.push((op.form, [short(op)].into())),
            }
        } else {
            let _ = writeln!(
                text,
                "| {} | {} | | | {errno}: {} |",
                op.number,
                short(op),
                op.note
            );
        }
    }
    for (errno, names) in rest {
        let errno = errno.to_uppercase();
        let _ = writeln!(text, "| | {} | | | no, -E{errno} |", names.join(", "));
    }
    text
}

/// The table of hypercalls.
fn hypercalls() -> String {
    let mut text =
        String::from("| nr | hypercall | who | argument registers |\n|---|---|---|---|\n");
    for entry in TABLE {
        let physdev = entry.number == abi::HYPERVISOR_PHYSDEV_OP;
        let who = if entry.privileged || physdev {
            "dom0"
        } else {
            "all"
        };
        let (nr, name, arguments) = (entry.number, entry.name, entry.arguments);
        let _ = writeln!(text, "| {nr} | {name} | {who} | {arguments} |");
    }
    text
}

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/hypercalls.md")
}

/// The page with its tables made again. Each stands between two lines of comment.
fn made(old: &str) -> String {
    let mut tables = Vec::from([("hypercalls", hypercalls())]);
    let with = TABLE
        .iter()
        .filter(|entry| !declarations(entry.number).is_empty());
    tables.extend(with.map(|entry| (entry.name, table(entry.number))));
    let mut text = old.to_string();
    for (name, table) in tables {
        let begin = format!("<!-- generated: {name} -->\n");
        let start = text
            .find(&begin)
            .unwrap_or_else(|| panic!("docs: no table of {name}"));
        let start = start + begin.len();
        let end = text[start..]
            .find("<!-- end -->")
            .expect("the end of a table");
        text.replace_range(start..start + end, &table);
    }
    text
}

#[test]
fn the_page_of_hypercalls_says_what_is_declared() {
    let page = fs::read_to_string(page()).expect("docs/hypercalls.md");
    assert!(
        page == made(&page),
        "docs/hypercalls.md differs from the declarations. Make its tables again: \
         ./x cargo test -p oxen-core --lib -- --ignored write_the_page_of_hypercalls"
    );
}

#[test]
#[ignore = "writes docs/hypercalls.md"]
fn write_the_page_of_hypercalls() {
    let old = fs::read_to_string(page()).expect("docs/hypercalls.md");
    fs::write(page(), made(&old)).expect("docs/hypercalls.md to be written");
}
