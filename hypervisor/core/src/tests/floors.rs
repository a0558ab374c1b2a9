//! The floors of the crate: a room imports from its own floor and from those below, never from one
//! above.
//!
//! The check reads the sources. A room is a module, and a file belongs to the room of the longest
//! name that fits. Test code is left out, and so are the doubles in `testing`.

use std::path::{Path, PathBuf};
use std::string::String;
use std::vec::Vec;
use std::{format, fs};

/// The rooms of each floor, the lowest floor first; the crate's header says what the floors are.
const FLOORS: &[&[&str]] = &[
    &["seams"],
    &["fallible"],
    &["area", "params", "sched", "timer"],
    &["clock", "runstate"],
    &["machine", "domain", "vcpu", "evtchn", "grant"],
    &["hypercall"],
    &[
        "hypercall::console",
        "hypercall::hvm",
        "hypercall::memory",
        "hypercall::sched",
        "hypercall::vcpu",
        "hypercall::version",
        "control",
        "evtchn::ops",
        "grant::ops",
        "grant::copy",
    ],
    &["dispatch", "hypercall::multicall"],
];

/// The floor of the module `path`, such as `domain::shared`.
fn floor(path: &str) -> Option<(usize, &'static str)> {
    let rooms = FLOORS.iter().enumerate();
    let rooms = rooms.flat_map(|(floor, rooms)| rooms.iter().map(move |room| (floor, *room)));
    rooms
        .filter(|(_, room)| {
            let rest = path.strip_prefix(room);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })
        .max_by_key(|(_, room)| room.len())
}

/// The module of a source file, by its path below `src`.
fn module(file: &Path) -> String {
    let path = file.with_extension("");
    let parts = path.iter().filter_map(|part| part.to_str());
    parts
        .filter(|part| *part != "mod")
        .collect::<Vec<_>>()
        .join("::")
}

/// The modules and items of the crate that a source names by `crate::`, outside of test code.
fn named(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]\nmod tests").next();
    let lines = code.unwrap_or_default().lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let mut all = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let path = rest.split(|c| !is_path(c)).next().unwrap_or_default();
        let after = rest.strip_prefix(path).unwrap_or_default();
        match after
            .strip_prefix('{')
            .and_then(|list| list.split('}').next())
        {
            Some(list) => {
                let names = list
                    .split(',')
                    .map(str::trim)
                    .filter(|name| !name.is_empty());
                all.extend(names.map(|name| format!("{path}{name}")));
            }
            None => all.push(path.into()),
        }
    }
    all
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        let is_test = path.iter().any(|part| part == "tests" || part == "testing");
        let name = path.file_name().and_then(|name| name.to_str());
        if is_test || matches!(name, Some("tests.rs" | "testing.rs")) {
            continue;
        }
        match path.is_dir() {
            true => sources(&path, into),
            false => into.push(path),
        }
    }
}

#[test]
fn no_import_runs_upwards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut upwards, mut without_floor, mut seen) = (Vec::new(), Vec::new(), 0);
    for file in files {
        let module = module(file.strip_prefix(&root).expect("below src"));
        if module == "lib" {
            continue;
        }
        let Some((from, room)) = floor(&module) else {
            without_floor.push(module);
            continue;
        };
        let source = fs::read_to_string(&file).expect("a source");
        for name in named(&source) {
            // What belongs to tests is no room.
            let Some((to, target)) = floor(&name) else {
                let is_test = name.starts_with("testing");
                assert!(is_test, "{module} names {name}, which no floor has");
                continue;
            };
            seen += 1;
            if to > from {
                upwards.push(format!("{module} (in {room}) names {name} (in {target})"));
            }
        }
    }
    assert!(without_floor.is_empty(), "no floor has {without_floor:?}");
    assert!(upwards.is_empty(), "upwards:\n{}", upwards.join("\n"));
    assert!(seen > 100, "the check reads next to nothing: {seen} names");
}

#[test]
fn the_check_sees_what_runs_upwards() {
    let names = named(
        "use crate::domain::{Domain, shared::Page};\n\
         // crate::control is a comment\n\
         fn f() { crate::hypercall::call(); }\n\
         #[cfg(test)]\nmod tests { use crate::control; }",
    );
    let expected = ["domain::Domain", "domain::shared::Page", "hypercall::call"];
    assert_eq!(names, expected);
    assert_eq!(floor("evtchn::ports").map(|found| found.1), Some("evtchn"));
    assert!(floor("evtchn::ops") > floor("evtchn::ports"));
    assert!(floor("domains").is_none());
}
