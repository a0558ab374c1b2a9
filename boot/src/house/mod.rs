//! `./x test --house`: the counts by which an outsider's review judged the tree, taken again.
//!
//! The counts are of the Rust sources that git knows. docs/house.md keeps them beside those of the
//! review. The rules of prose that a program can hold ([`prose`]) and the paths that the
//! documentation names ([`docs`]) are tests of this crate, and so a part of `./x test`.

mod abi;
mod circles;
mod count;
mod docs;
mod prose;
mod source;

use std::collections::BTreeMap;

use anyhow::Result;

use count::Counts;
use source::Source;

/// Prints the counts of each room (a crate), and of the whole tree.
pub(crate) fn print() -> Result<()> {
    let sources = source::all()?;
    let mut rooms: BTreeMap<String, Counts> = BTreeMap::new();
    let mut whole = Counts::default();
    for source in &sources {
        let counts = Counts::of(source)?;
        rooms.entry(source.room()).or_default().add(&counts);
        whole.add(&counts);
    }
    println!("{}", count::HEAD);
    for (room, counts) in &rooms {
        println!("{}", counts.row(room));
    }
    println!("{}", whole.row("all"));
    println!();
    print_whole(&whole, &sources)
}

fn print_whole(whole: &Counts, sources: &[Source]) -> Result<()> {
    let mut lengths: Vec<usize> = sources.iter().map(|s| s.text.lines().count()).collect();
    lengths.sort_unstable();
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or(0);
    println!("median length of a file      {median}");
    println!("longest functions of the product:");
    let mut functions = whole.functions.clone();
    functions.retain(|function| !function.in_tests);
    functions.sort_by_key(|function| std::cmp::Reverse(function.lines));
    for function in functions.iter().take(10) {
        println!(
            "  {:4}  {} in {}",
            function.lines, function.name, function.path
        );
    }
    println!("imports that run in a circle between the modules of a crate:");
    for (room, arrows) in circles::by_room(sources) {
        println!("  {:4}  {room}", arrows.len());
    }
    let retyped = abi::retyped(sources)?;
    println!("constants of the ABI crate typed again: {}", retyped.len());
    for place in retyped {
        println!("  {place}");
    }
    let breaches: Vec<_> = sources.iter().flat_map(prose::breaches).collect();
    println!("rules of prose broken: {}", breaches.len());
    for (rule, number) in prose::by_rule(&breaches) {
        println!("  {number:4}  {rule}");
    }
    Ok(())
}
