//! Guests on shadows beside guests with nested paging: the same work, in instructions and in the
//! emulator's time.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};
use oxen_harness::{Images, Machine, Vm, images};

use super::boot::clock_reader;
use super::figures::{Measured, PAGING, Samples};
use super::system::{LIMIT, output};
use crate::compile::write_whole;
use crate::initramfs::{self, cpio::Archive};

/// The ending of the names of figures that are the emulator's time.
const TIME: &str = "-time";

/// Ticks of each load, by whether the guest has nested paging.
type Ticks = BTreeMap<(String, bool), f64>;

pub(super) fn measure(only: Option<&str>) -> Result<Vec<Measured>> {
    let wanted: Vec<_> = PAGING
        .iter()
        .filter(|figure| only.is_none_or(|only| only == figure.name))
        .collect();
    let of = |counted: bool| -> Result<Ticks> {
        if !wanted
            .iter()
            .any(|figure| figure.name.ends_with(TIME) != counted)
        {
            return Ok(Ticks::new());
        }
        let what = if counted { "instructions" } else { "time" };
        eprintln!("x: a guest's work with nested paging and on shadows: {what}");
        parse(&run(counted)?)
    };
    let (counted, timed) = (of(true)?, of(false)?);
    let one = |figure: &super::figures::Figure| {
        let (ticks, name) = match figure.name.strip_suffix(TIME) {
            Some(name) => (&timed, name),
            None => (&counted, figure.name),
        };
        let load = name.trim_start_matches("paging-");
        let [nested, shadow] = [true, false].map(|hap| ticks.get(&(load.to_owned(), hap)));
        let ratio = shadow.zip(nested).map(|(shadow, nested)| shadow / nested);
        let ratio = ratio.with_context(|| format!("nothing was measured of {}", figure.name))?;
        Ok(Measured::new(figure, Some(Samples::from(ratio)), None))
    };
    wanted.into_iter().map(one).collect()
}

fn run(counted: bool) -> Result<Vec<String>> {
    let name = format!("bench-paging-{}", std::process::id());
    let mut images = Images::built()?;
    let scripts = images::root().join("boot/bench");
    let mut guest = Archive::default();
    let first = fs::read(scripts.join("paging-guest.sh"))?;
    guest.file("bench/init", true, &first)?;
    guest.copy("bench/work.sh", &scripts.join("work.sh"))?;
    guest.file("bench/tsc", true, &clock_reader())?;
    let mut more = Archive::default();
    for script in ["lib.sh", "paging.sh"] {
        more.copy(&format!("bench/{script}"), &scripts.join(script))?;
    }
    more.file("bench/guest.cpio", false, &guest.finish()?)?;
    let mut initrd = fs::read(&images.initrd).context("cannot read dom0's initramfs")?;
    initrd.extend(more.finish()?);
    initrd.extend(initramfs::with_command("sh /bench/paging.sh")?);
    images.initrd = images::target_dir()
        .join("run")
        .join(format!("{name}.cpio"));
    write_whole(&images.initrd, &initrd)?;
    let mut machine = Machine::new(images.direct("dom0_mem=1G", ""));
    machine.memory_mib = 2048;
    machine.counted = counted;
    let lines = output(&mut Vm::start(&machine, &name, LIMIT)?);
    let _ = fs::remove_file(&images.initrd);
    lines
}

/// `hap PAGING load from to`.
fn parse(lines: &[String]) -> Result<Ticks> {
    let mut found = Ticks::new();
    for line in lines {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [hap, "PAGING", load, from, to] => {
                let number = |word: &str| {
                    let number = word.parse::<f64>();
                    number.with_context(|| format!("no number in {line:?}"))
                };
                let ticks = number(to)? - number(from)?;
                found.insert((load.to_owned(), hap == "1"), ticks);
            }
            ["FAIL", ..] => bail!("{}", lines.join("\n")),
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_s_lines() {
        let lines = ["1 PAGING storm 100 300", "noise", "0 PAGING storm 100 350"];
        let found = parse(&lines.map(str::to_owned)).expect("well-formed");
        assert_eq!(found.get(&("storm".to_owned(), true)), Some(&200.0));
        assert_eq!(found.get(&("storm".to_owned(), false)), Some(&250.0));
        assert!(parse(&["1 PAGING a b c".to_owned()]).is_err());
        assert!(parse(&["FAIL".to_owned()]).is_err());
    }
}
