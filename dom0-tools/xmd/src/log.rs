//! The daemon's log: lines with a time, in a file of bounded size and on standard error.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The size at which a new file is begun; the previous one is kept.
const MAX_BYTES: u64 = 1 << 20;

pub struct Log {
    path: PathBuf,
    file: Mutex<Option<File>>,
    echo: bool,
}

impl Log {
    /// Opens the file for appending. Without one (the directory cannot be written) there is
    /// standard error alone.
    #[must_use]
    pub fn open(path: &Path, echo: bool) -> Self {
        if let Some(directory) = path.parent() {
            let _ = std::fs::create_dir_all(directory);
        }
        let file = OpenOptions::new().create(true).append(true).open(path).ok();
        Self {
            path: path.to_owned(),
            echo: echo || file.is_none(),
            file: Mutex::new(file),
        }
    }

    /// Adds a line.
    pub fn line(&self, text: &str) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let text = text.replace('\n', " ");
        let line = format!(
            "{}.{:03} {text}\n",
            timestamp(now.as_secs()),
            now.subsec_millis()
        );
        if self.echo {
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = file.as_mut() {
            let _ = open.write_all(line.as_bytes());
            if open.metadata().is_ok_and(|meta| meta.len() > MAX_BYTES) {
                let _ = std::fs::rename(&self.path, self.path.with_extension("log.1"));
                *file = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&self.path)
                    .ok();
            }
        }
    }

    /// The last `lines` lines.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        let bytes = std::fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        let from = all.len().saturating_sub(lines);
        all.get(from..)
            .unwrap_or_default()
            .iter()
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

/// Seconds since the epoch as a date of UTC (the days-to-civil algorithm of the proleptic
/// calendar).
#[must_use]
pub fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years counted from March of year 0, so that the leap day comes last.
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(timestamp(0), "1970-01-01 00:00:00");
        assert_eq!(timestamp(951_827_696), "2000-02-29 12:34:56");
        assert_eq!(timestamp(1_795_255_199), "2026-11-21 09:59:59");
    }

    #[test]
    fn the_tail_is_the_end() {
        let path = std::env::temp_dir().join(format!("xmd-log-{}", std::process::id()));
        let log = Log::open(&path, false);
        for n in 0..5 {
            log.line(&format!("line {n}"));
        }
        let tail = log.tail(2);
        let _ = std::fs::remove_file(&path);
        assert_eq!(tail.lines().count(), 2);
        assert!(tail.ends_with("line 4\n"), "{tail}");
    }
}
