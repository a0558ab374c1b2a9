//! The C program: one line of output for each fact that is compared.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use guest_pv_abi::layout::{Field, Item};

use crate::Layout;
use crate::headers::{Headers, compiler, preamble};

/// Something that C and Rust must agree on.
pub(crate) struct Fact {
    pub what: String,
    pub expression: String,
    pub expected: String,
    format: &'static str,
}

impl Fact {
    fn number(what: String, expression: String, expected: u64) -> Self {
        Self {
            what,
            expression,
            expected: expected.to_string(),
            format: "%llu",
        }
    }
}

/// Everything to compare. Declarations for which the headers have no name are errors.
pub(crate) fn facts(layout: Layout<'_>, headers: &Headers) -> Result<Vec<Fact>> {
    let mut facts = Vec::new();
    for (module, item) in layout.iter().flat_map(|(module, blocks)| {
        blocks
            .iter()
            .flat_map(move |items| items.iter().map(move |item| (module, item)))
    }) {
        match *item {
            Item::Struct {
                name,
                c,
                size,
                until,
                fields,
            } => {
                let what = format!("{module}::{name}");
                let expression = match until {
                    "" => format!("sizeof({c})"),
                    until => format!("offsetof({c}, {until})"),
                };
                facts.push(Fact::number(
                    format!("size of {what}"),
                    expression,
                    size as u64,
                ));
                facts.extend(fields.iter().flat_map(|field| field_facts(&what, c, field)));
            }
            Item::Const { name, c, value } => {
                for expression in expressions(module, name, c, headers)? {
                    facts.push(Fact::number(
                        format!("{module}::{name}"),
                        expression,
                        value as u64,
                    ));
                }
            }
            Item::Text { name, c, value } => {
                for expression in expressions(module, name, c, headers)? {
                    let what = format!("{module}::{name}");
                    facts.push(Fact {
                        what,
                        expression,
                        expected: value.to_owned(),
                        format: "%s",
                    });
                }
            }
            Item::Extra { name } => {
                let known = headers.constants_of(name);
                ensure!(
                    known.is_empty(),
                    "{module}::{name}: the headers do have it, as {}",
                    known.join(", ")
                );
            }
        }
    }
    Ok(facts)
}

fn field_facts(what: &str, c: &str, field: &Field) -> Vec<Fact> {
    if field.name.starts_with("_pad") && field.name == field.c {
        return Vec::new();
    }
    let (name, path) = (field.name, field.c.trim_start_matches("r#"));
    vec![
        Fact::number(
            format!("offset of {what}.{name}"),
            format!("offsetof({c}, {path})"),
            field.offset as u64,
        ),
        Fact::number(
            format!("size of {what}.{name}"),
            format!("sizeof((({c} *)0)->{path})"),
            field.size as u64,
        ),
    ]
}

fn expressions(module: &str, name: &str, c: &str, headers: &Headers) -> Result<Vec<String>> {
    if !c.is_empty() {
        return Ok(vec![c.to_owned()]);
    }
    let names = headers.constants_of(name);
    ensure!(
        !names.is_empty(),
        "{module}::{name}: the headers have no constant of that name"
    );
    Ok(names.to_vec())
}

/// Compiles and runs the program; its lines of output.
pub(crate) fn run(facts: &[Fact], include: &Path) -> Result<Vec<String>> {
    let dir = tempfile::tempdir()?;
    let (source, binary) = (dir.path().join("layout.c"), dir.path().join("layout"));
    std::fs::write(&source, text(facts)?)?;
    let output = compiler(include)
        .arg("-o")
        .args([&binary, &source])
        .stderr(Stdio::piped())
        .output()
        .context("no C compiler (cc): install the packages gcc and libc6-dev")?;
    if !output.status.success() {
        bail!(
            "C does not know something of this:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let output = Command::new(&binary).output()?;
    ensure!(
        output.status.success(),
        "the C program failed: {}",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?
        .lines()
        .map(str::to_owned)
        .collect())
}

fn text(facts: &[Fact]) -> Result<String> {
    let mut text = preamble();
    text.push_str("int main(void)\n{\n");
    for Fact {
        what,
        expression,
        format,
        ..
    } in facts
    {
        let cast = if *format == "%s" {
            "const char *"
        } else {
            "unsigned long long"
        };
        writeln!(
            text,
            "    printf(\"{format}\\n\", ({cast})({expression})); /* {what} */"
        )?;
    }
    text.push_str("    return 0;\n}\n");
    Ok(text)
}
