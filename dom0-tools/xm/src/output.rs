//! Output of commands: plain text, or JSON with `--json`.

use oxen_domain::Error;
use serde::Serialize;
use std::io::Write;

pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Prints `value` as JSON, or `text`.
    pub(crate) fn print(&self, value: &impl Serialize, text: &str) {
        let text = if self.json {
            pretty(value)
        } else {
            text.to_owned()
        };
        write(&text);
    }

    pub(crate) fn error(&self, error: &Error) {
        if self.json {
            write(&pretty(&serde_json::json!({ "error": error })));
        }
        eprintln!("xm: {error}");
    }

    pub(crate) fn warn(&self, text: &str) {
        eprintln!("xm: warning: {text}");
    }
}

/// JSON for people and for programs alike.
pub(crate) fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// The reader may have closed the pipe (`xm list | head -1`), which is no error.
pub(crate) fn write(text: &str) {
    if text.is_empty() {
        return;
    }
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    if !text.ends_with('\n') {
        let _ = out.write_all(b"\n");
    }
    let _ = out.flush();
}
