//! The command line: words of the form `name=value`.

use core::ffi::CStr;
use core::str::FromStr;

#[derive(Clone, Copy)]
pub struct Arguments {
    line: &'static str,
}

impl Arguments {
    /// The line at a physical address; 0 means none.
    pub fn at(address: u64) -> Self {
        if address == 0 {
            return Self { line: "" };
        }
        // SAFETY: the start info's command line is a string that ends with a zero, in mapped memory
        // that nothing else uses.
        let line = unsafe { CStr::from_ptr(address as *const _) };
        Self {
            line: line.to_str().unwrap_or(""),
        }
    }

    pub fn text(&self, name: &str) -> Option<&'static str> {
        self.line
            .split_ascii_whitespace()
            .filter_map(|word| word.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    pub fn number<T: FromStr>(&self, name: &str, otherwise: T) -> T {
        self.text(name)
            .and_then(|text| text.parse().ok())
            .unwrap_or(otherwise)
    }
}
