//! Source that must be vouched for: growth that cannot fail, and access to
//! a guest's memory by handle.
//!
//! The compiler keeps the second rule where it can: a call's memory is private to `hypercall/op`,
//! which lets handlers have lists. These checks hold the rest, by text. Test code is left out.

use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, fs, println};

/// Calls of the standard library that end the machine when the heap has nothing for them.
const INFALLIBLE: &[&str] = &[
    ".push(",
    ".push_back(",
    ".push_front(",
    ".push_str(",
    ".collect(",
    ".collect::<",
    ".extend(",
    ".extend_from_slice(",
    ".resize(",
    ".resize_with(",
    ".append(&mut",
    ".to_vec(",
    ".to_string(",
    ".to_owned(",
    ".into_boxed_slice(",
    ".into_iter().collect",
    "with_capacity(",
    "from_iter(",
    "Box::new(",
    "Arc::new(",
    "Rc::new(",
    "String::from(",
    "Vec::from(",
    "vec![",
    "format!(",
    "BTreeMap",
    "BTreeSet",
    "VecDeque",
];

/// File, call, how often, and why it cannot fail or may.
const VOUCHED_FOR: &[(&str, &str, usize, &str)] = &[
    ("fallible/mod.rs", ".push(", 1, "room was reserved"),
    ("fallible/mod.rs", ".push_str(", 1, "room was reserved"),
    ("fallible/mod.rs", ".extend(", 1, "room was reserved"),
    ("domain/mod.rs", "Arc::new(", 1, "within with_reserve"),
    ("vcpu/mod.rs", "Arc::new(", 1, "within with_reserve"),
    ("timer/mod.rs", "Box::new(", 1, "within with_reserve"),
    ("timer/mod.rs", ".collect(", 1, "at boot"),
    ("sched/credit/mod.rs", ".collect(", 1, "at boot"),
];

/// Files that reach the caller's memory through a list, and why a copy of the argument is not
/// enough.
const LISTS: &[(&str, &str)] = &[
    (
        "control/domctl/context.rs",
        "records of different lengths, one at a time",
    ),
    (
        "control/domctl/paging.rs",
        "a bitmap in parts; frame numbers one by one",
    ),
    (
        "control/domctl/policy.rs",
        "leaves and MSRs, as many as the caller has room for",
    ),
    ("control/map.rs", "a bitmap whose length the caller names"),
    (
        "control/platform/time.rs",
        "idle times of the CPUs that are named",
    ),
    ("control/sysctl/console.rs", "the log in parts; keys"),
    ("control/sysctl/cpus.rs", "an element for each CPU"),
    (
        "control/sysctl/domains.rs",
        "an element for each domain, in parts",
    ),
    (
        "control/sysctl/machine.rs",
        "an element for each node or device",
    ),
    ("grant/ops.rs", "the frames of a grant table"),
    ("hypercall/console.rs", "bytes, as many as the caller names"),
    ("hypercall/memory/map.rs", "the entries of a memory map"),
    ("hypercall/memory/physmap.rs", "the three lists of a batch"),
    (
        "hypercall/memory/reservation.rs",
        "a list of extents, in parts",
    ),
    ("hypercall/memory/resource.rs", "a list of frames, in parts"),
    ("hypercall/multicall.rs", "the calls of the list"),
    (
        "hypercall/op/lists.rs",
        "the operations of a list, in batches",
    ),
    ("hypercall/sched.rs", "the ports of a poll"),
    (
        "hypercall/vcpu.rs",
        "areas that the hypervisor goes on writing",
    ),
];

/// Files that know the seam below lists.
const LINEAR: &[&str] = &[
    "area.rs",
    "hypercall/op/call.rs",
    "hypercall/op/guest.rs",
    "seams/memory.rs",
    "seams/mod.rs",
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The crate's files without tests and their doubles: path and text.
fn files() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = Vec::from([source()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the source") {
            let path = entry.expect("an entry of it").path();
            let stem = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .to_string();
            if stem == "tests" || stem == "testing" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("a file of the source");
            let name = path.strip_prefix(source()).expect("a path within");
            found.push((name.to_string_lossy().to_string(), code(&text)));
        }
    }
    assert!(found.len() > 50, "{} files", found.len());
    found
}

/// Without comments, and without what is for tests at the end of the file.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines();
    lines
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn what_grows_may_fail_or_is_vouched_for() {
    let mut wrong = Vec::new();
    for (file, text) in files() {
        for call in INFALLIBLE {
            let count = text.matches(call).count();
            let vouched = VOUCHED_FOR
                .iter()
                .find(|(f, c, ..)| *f == file && c == call);
            let wanted = vouched.map_or(0, |(.., count, _)| *count);
            if count != wanted {
                wrong.push(format!(
                    "{file}: `{call}` {count} times, {wanted} vouched for"
                ));
            }
        }
    }
    for (file, call, ..) in VOUCHED_FOR {
        assert!(
            files().iter().any(|(f, _)| f == file),
            "{file} ({call}) is gone"
        );
    }
    wrong.iter().for_each(|line| println!("{line}"));
    assert!(
        wrong.is_empty(),
        "use crate::fallible, or say in VOUCHED_FOR why that cannot fail"
    );
}

#[test]
fn lists_of_a_guest_are_used_where_a_copy_is_not_enough() {
    let uses = |text: &str| {
        [".list(", ".list::<", ".area("]
            .iter()
            .any(|call| text.contains(call))
    };
    let mut wrong = Vec::new();
    for (file, text) in files() {
        let allowed = LISTS.iter().any(|(name, _)| *name == file);
        if uses(&text) != allowed {
            wrong.push(format!("{file}: uses {}, allowed {allowed}", uses(&text)));
        }
        if text.contains("LinearMemory") && !LINEAR.contains(&file.as_str()) {
            wrong.push(format!("{file}: names LinearMemory"));
        }
    }
    wrong.iter().for_each(|line| println!("{line}"));
    assert!(
        wrong.is_empty(),
        "have the dispatcher copy the argument, or say in LISTS why not"
    );
}
