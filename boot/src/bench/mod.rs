//! `./x bench`: Oxen against Debian's Xen 4.17, on the same emulated machine with the same guests
//! (docs/performance.md).

mod boot;
mod counter;
mod domains;
mod figures;
pub(crate) mod guard;
mod io;
mod load;
mod micro;
mod paging;
mod plot;
mod size;
mod store;
mod system;
mod timed;
mod xen;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use oxen_harness::images;

use crate::compile::write_whole;
use crate::embedded::{self, Vendor};
use figures::Measured;
use system::{Bench, System};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Only this figure, or one group of them: micro, guests, boot, load, size, io, paging and
    /// store (these three run only when asked for)
    name: Option<String>,
    /// Say what each figure means, and measure nothing
    #[arg(long)]
    list: bool,
    /// Write down which code ran between the looks at the clock, too (docs/performance.md)
    #[arg(long)]
    profile: bool,
    /// Leave Xen out
    #[arg(long)]
    oxen_only: bool,
    /// Show what changed since the results in this file (a copy of target/bench/latest.json)
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Make the counts the baseline that ./x test compares with
    #[arg(long)]
    record: bool,
    /// Take the time of so many starts of each system, by turns; 0: count only
    #[arg(long, value_name = "NUMBER", default_value_t = timed::PAIRS)]
    pairs: usize,
    /// Draw the results, docs/performance.svg
    #[arg(long)]
    plot: bool,
    /// Measure what was built before
    #[arg(long)]
    no_build: bool,
    /// Count the embedded image for AMD's CPUs instead of the full one, and keep nothing
    #[arg(long, conflicts_with_all = ["record", "plot"])]
    embedded: bool,
}

pub(crate) fn bench(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        for (group, figures) in figures::GROUPS {
            println!("{group}:");
            for figure in *figures {
                let time = if timed::has_time(figure.name) {
                    " (time, too)"
                } else {
                    ""
                };
                println!("  {:<26} {}{time}", figure.name, figure.means);
            }
        }
        return Ok(());
    }
    let name = arguments.name.as_deref();
    if let Some(name) = name
        && !figures::all().any(|figure| figure.name == name)
        && !figures::GROUPS.iter().any(|(group, _)| *group == name)
    {
        bail!("no figure is called {name:?}; ./x bench --list names them");
    }
    let before = arguments.compare.as_deref().map(read).transpose()?;
    if let Some(name) = name.filter(|name| figures::is_of_store(name)) {
        // Counted on the host, without a machine.
        let measured = store::measure(Some(name).filter(|name| *name != figures::STORE_GROUP))?;
        return report(arguments, before.as_deref(), measured);
    }
    if !arguments.no_build {
        crate::image(false)?;
    }
    let oxen_only = arguments.oxen_only || arguments.embedded;
    let systems: &[System] = if oxen_only {
        &[System::Oxen]
    } else {
        &System::BOTH
    };
    let alone = name.is_some_and(figures::is_without_xen);
    let mut bench = Bench::new(!oxen_only && !alone, arguments.profile)?;
    if arguments.embedded {
        println!("{}", embedded::build(Vendor::Amd)?);
        bench.replace_oxen(Vendor::Amd.elf());
    }
    let mut measured = Vec::new();
    for (group, figures) in figures::GROUPS {
        // A guest beside dom0 takes a quarter of an hour, and other programs.
        let whole = match name {
            Some(name) => name == *group,
            None => !figures::is_without_xen(group),
        };
        if !whole && !figures.iter().any(|figure| Some(figure.name) == name) {
            continue;
        }
        let only = name.filter(|_| !whole);
        measured.extend(match *group {
            figures::MICRO_GROUP => micro::measure(&bench, systems, only)?,
            figures::GUESTS_GROUP => domains::measure(&bench, systems, only)?,
            figures::BOOT_GROUP => boot::measure(&bench, systems, only)?,
            figures::IO_GROUP => io::measure(only)?,
            figures::PAGING_GROUP => paging::measure(only)?,
            figures::STORE_GROUP => store::measure(only)?,
            figures::LOAD_GROUP => load::measure(&bench, systems, only)?,
            _ => size::measure(&bench)?,
        });
    }
    // The profile's plugin would be timed with the rest.
    if !arguments.profile && !arguments.embedded {
        timed::measure(&bench, systems, arguments.pairs, &mut measured)?;
    }
    report(arguments, before.as_deref(), measured)
}

/// Prints the results and keeps them.
fn report(
    arguments: &Arguments,
    before: Option<&[Measured]>,
    mut measured: Vec<Measured>,
) -> Result<()> {
    let name = arguments.name.as_deref();
    if arguments.record {
        guard::record(&measured)?;
    }
    figures::print(&measured);
    if let Some(before) = before {
        compare(before, &measured);
    }
    if arguments.embedded {
        return Ok(());
    }
    let file = images::target_dir().join("bench/latest.json");
    if name.is_some() {
        // The other figures stay as they were measured last.
        let earlier = read(&file).unwrap_or_default();
        measured = merged(earlier, measured);
    }
    if arguments.plot {
        let picture = images::root().join("docs/performance.svg");
        write_whole(&picture, plot::draw(&measured).as_bytes())?;
        println!("{}", picture.display());
    }
    write_whole(&file, serde_json::to_string_pretty(&measured)?.as_bytes())?;
    println!("{}", file.display());
    Ok(())
}

/// The new ones in the place of the old ones.
fn merged(earlier: Vec<Measured>, new: Vec<Measured>) -> Vec<Measured> {
    let of = |all: &[Measured], name| all.iter().find(|one| one.name == name).cloned();
    figures::all()
        .filter_map(|figure| of(&new, figure.name).or_else(|| of(&earlier, figure.name)))
        .collect()
}

fn read(file: &Path) -> Result<Vec<Measured>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} holds no benchmark results", file.display()))
}

/// Prints how Oxen's figures changed.
fn compare(before: &[Measured], now: &[Measured]) {
    println!(
        "\n{:<26} {:>14} {:>14} {:>9}",
        "figure", "before", "now", "change"
    );
    for one in now {
        let old = before.iter().find(|old| old.name == one.name);
        let (Some(old), Some(new)) = (old.and_then(|old| old.oxen), one.oxen) else {
            continue;
        };
        let percent = (new / old - 1.0) * 100.0;
        println!("{:<26} {old:>14.1} {new:>14.1} {percent:>+8.1}%", one.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use figures::{MICRO, Samples};

    #[test]
    fn one_figure_measured_again_leaves_the_others() {
        let of =
            |index: usize, count| Measured::new(&MICRO[index], Some(Samples::from(count)), None);
        let both = merged(vec![of(0, 1.0), of(1, 2.0)], vec![of(1, 3.0)]);
        assert_eq!(both, [of(0, 1.0), of(1, 3.0)]);
    }
}
