//! GRUB's configuration: the part of its script language that generated files use (GRUB manual, 6.1
//! Writing full configuration files directly).
//!
//! [`lexer`] makes words, [`parser`] commands, [`eval`] runs them: `set`, `if`, `[`, functions,
//! `source`, `load_env`, `search`, `menuentry`, `submenu`, `linux`, `initrd`. Commands that draw,
//! load modules or wait do nothing here and succeed. Loops are read and left out.

mod eval;
mod lexer;
mod menu;
mod parser;
mod test_command;

pub(crate) use eval::split_device;
pub use eval::{Boot, Files, Machine, Place, Search};
pub use menu::{Item, Kind};

use crate::Result;

/// Reads and runs a configuration; the machine then knows the menu.
///
/// # Errors
/// `Error` if the script is not well-formed, or exceeds a limit.
pub fn run<'a>(
    text: &str,
    files: &'a dyn Files,
    device: &str,
    directory: &str,
) -> Result<Machine<'a>> {
    let block = parser::parse(text)?;
    let mut machine = Machine::new(files, device, directory);
    machine.run(&block)?;
    Ok(machine)
}

#[cfg(test)]
mod tests;
