//! Names that the C headers define.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Where libxen-dev puts the headers.
pub const INCLUDE: &str = "/usr/include";

/// All headers that `guest-pv-abi` follows. `errno.h` comes first for xs_wire.h's list of errors.
pub(crate) const HEADERS: &[&str] = &[
    "errno.h",
    "stddef.h",
    "stdint.h",
    "stdio.h",
    "xenctrl.h",
    "xen/callback.h",
    "xen/domctl.h",
    "xen/elfnote.h",
    "xen/errno.h",
    "xen/event_channel.h",
    "xen/features.h",
    "xen/grant_table.h",
    "xen/hypfs.h",
    "xen/kexec.h",
    "xen/memory.h",
    "xen/nmi.h",
    "xen/physdev.h",
    "xen/platform.h",
    "xen/pmu.h",
    "xen/sched.h",
    "xen/sysctl.h",
    "xen/trace.h",
    "xen/vcpu.h",
    "xen/version.h",
    "xen/xen.h",
    "xen/arch-x86/cpuid.h",
    "xen/arch-x86/xen-mca.h",
    "xen/arch-x86/hvm/start_info.h",
    "xen/hvm/hvm_op.h",
    "xen/hvm/hvm_vcpu.h",
    "xen/hvm/params.h",
    "xen/hvm/save.h",
    "xen/io/blkif.h",
    "xen/io/console.h",
    "xen/io/netif.h",
    "xen/io/protocols.h",
    "xen/io/ring.h",
    "xen/io/xenbus.h",
    "xen/io/xs_wire.h",
];

/// The C names of constants and structures.
pub struct Headers {
    /// Object-like macros with a body, and enumerators.
    pub constants: BTreeSet<String>,
    /// Tags of structures.
    pub structs: BTreeSet<String>,
    by_upper_case: BTreeMap<String, Vec<String>>,
}

impl Headers {
    pub fn read(include: &Path) -> Result<Self> {
        let proof = include.join("xen/xen.h");
        ensure!(
            proof.exists(),
            "{} is missing: install the package libxen-dev",
            proof.display()
        );
        let text = preprocess(include)?;
        let code: String = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect::<Vec<_>>()
            .join("\n");
        let structs = struct_tags(&code);
        // A few macros rename structures.
        let macros = text.lines().filter_map(object_macro);
        let mut constants: BTreeSet<String> = macros
            .filter(|(_, body)| !structs.contains(*body))
            .map(|(name, _)| name.to_owned())
            .collect();
        constants.extend(enumerators(&code));
        let mut by_upper_case = BTreeMap::<String, Vec<String>>::new();
        for name in &constants {
            by_upper_case
                .entry(rust_name(name))
                .or_default()
                .push(name.clone());
        }
        Ok(Self {
            constants,
            structs,
            by_upper_case,
        })
    }

    /// The C constants that a Rust name stands for.
    pub fn constants_of(&self, name: &str) -> &[String] {
        self.by_upper_case.get(name).map_or(&[], Vec::as_slice)
    }
}

/// How a C constant is called in Rust.
pub fn rust_name(c: &str) -> String {
    let plain = c
        .strip_prefix("__")
        .filter(|rest| rest.starts_with("HYPERVISOR_"))
        .unwrap_or(c);
    plain.to_uppercase()
}

/// The `#include` lines, with what they need before them.
pub(crate) fn preamble() -> String {
    let includes = HEADERS
        .iter()
        .map(|header| format!("#include <{header}>\n"));
    ["#define __XEN_TOOLS__ 1\n".to_owned()]
        .into_iter()
        .chain(includes)
        .collect()
}

/// The C compiler, as the environment names it.
pub(crate) fn compiler(include: &Path) -> Command {
    let mut cc = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    cc.arg("-I").arg(include).arg("-w");
    cc
}

/// The headers without comments and with all macros' definitions.
fn preprocess(include: &Path) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let source = dir.path().join("headers.c");
    std::fs::write(&source, preamble())?;
    let output = compiler(include)
        .args(["-E", "-dD", "-P"])
        .arg(&source)
        .stderr(Stdio::piped())
        .output()
        .context("no C compiler (cc): install the packages gcc and libc6-dev")?;
    if !output.status.success() {
        bail!(
            "the headers cannot be read (is libxen-dev complete?):\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// `NAME` and `body` of `#define NAME body`.
fn object_macro(line: &str) -> Option<(&str, &str)> {
    let (name, body) = line.strip_prefix("#define ")?.split_once(' ')?;
    (!name.contains('(') && !body.trim().is_empty()).then_some((name, body.trim()))
}

/// The names in all `enum { ... }`.
fn enumerators(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for piece in code.split("enum").skip(1) {
        let Some((head, rest)) = piece.split_once('{') else {
            continue;
        };
        if !head
            .chars()
            .all(|c| c.is_alphanumeric() || c == '_' || c.is_whitespace())
        {
            continue;
        }
        let body = rest.split_once('}').map_or("", |(body, _)| body);
        let first_word = |item: &str| item.split('=').next().map(|name| name.trim().to_owned());
        names.extend(
            body.split(',')
                .filter_map(first_word)
                .filter(|name| !name.is_empty()),
        );
    }
    names
}

/// The tags of all `struct tag { ... }`.
fn struct_tags(code: &str) -> BTreeSet<String> {
    let tag = |piece: &str| {
        let (head, _) = piece.split_once('{')?;
        let tag = head.trim();
        (!tag.is_empty() && tag.chars().all(|c| c.is_alphanumeric() || c == '_'))
            .then(|| tag.to_owned())
    };
    code.split("struct ").skip(1).filter_map(tag).collect()
}
