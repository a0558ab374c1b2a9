//! The `log` crate's back end, with Xen's two thresholds: `loglvl=` for the hypervisor's own
//! messages, `guest_loglvl=` for those with target "guest", which say what a guest did.

use core::sync::atomic::{AtomicUsize, Ordering};
use log::LevelFilter;

/// The target of messages about what a guest did: `log::warn!(target: GUEST_TARGET, ...)`.
pub const GUEST_TARGET: &str = "guest";

static OWN: AtomicUsize = AtomicUsize::new(LevelFilter::Info as usize);
static GUEST: AtomicUsize = AtomicUsize::new(LevelFilter::Warn as usize);

/// The two thresholds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogLevels {
    /// For the hypervisor's own messages.
    pub own: LevelFilter,
    /// For messages about what a guest did.
    pub guest: LevelFilter,
}

/// Messages of the hypervisor's own at the level "error", shown or not.
static ERRORS: AtomicUsize = AtomicUsize::new(0);

/// Number of the hypervisor's own errors since the start.
pub fn errors() -> usize {
    ERRORS.load(Ordering::Relaxed)
}

/// `level[/rate-limited level]`; the second is taken as an upper bound where it is higher, since
/// messages that guests can cause carry their own rate limit here.
fn parse_level(text: &str) -> Option<LevelFilter> {
    let one = |name: &str| {
        Some(match name {
            "none" => LevelFilter::Off,
            "error" => LevelFilter::Error,
            "warning" => LevelFilter::Warn,
            "info" => LevelFilter::Info,
            "debug" | "all" => LevelFilter::Debug,
            _ => return None,
        })
    };
    match text.split_once('/') {
        Some((always, limited)) => Some(one(always)?.max(one(limited)?)),
        None => one(text),
    }
}

/// Sets the thresholds of the log.
pub fn set_log_levels(levels: LogLevels) {
    OWN.store(levels.own as usize, Ordering::Relaxed);
    GUEST.store(levels.guest as usize, Ordering::Relaxed);
    log::set_max_level(levels.own.max(levels.guest));
}

impl LogLevels {
    /// From `loglvl=` and `guest_loglvl=`; info and warnings where nothing (or nonsense) is said.
    pub fn from_cmdline(cmdline: crate::cmdline::CommandLine<'_>) -> Self {
        let level = |key, default| cmdline.get(key).and_then(parse_level).unwrap_or(default);
        Self {
            own: level("loglvl", LevelFilter::Info),
            guest: level("guest_loglvl", LevelFilter::Warn),
        }
    }
}

#[cfg(target_os = "none")]
pub(super) fn install() {
    static LOGGER: Logger = Logger;
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Logs for `guest_log!`, under the limit that a guest's messages have.
#[cfg(target_os = "none")]
pub fn log_limited(limit: &super::RateLimit, level: log::Level, args: core::fmt::Arguments<'_>) {
    if level as usize > GUEST.load(Ordering::Relaxed) {
        return;
    }
    match limit.allow(crate::time::now_ns()) {
        Some(0) => log::log!(target: GUEST_TARGET, level, "{args}"),
        Some(lost) => log::log!(target: GUEST_TARGET, level, "{args} ({lost} like it left out)"),
        None => {}
    }
}

/// On the host: without a limit.
#[cfg(not(target_os = "none"))]
pub fn log_limited(_: &super::RateLimit, level: log::Level, args: core::fmt::Arguments<'_>) {
    log::log!(target: GUEST_TARGET, level, "{args}");
}

/// `guest_log!(level, format...)`: a message about what a guest did, under `guest_loglvl=`, at most
/// ten at once from each place in the code and then one a second.
#[macro_export]
macro_rules! guest_log {
    ($level:expr, $($arg:tt)+) => {{
        static LIMIT: $crate::console::RateLimit = $crate::console::RateLimit::for_guests();
        $crate::console::log_limited(&LIMIT, $level, format_args!($($arg)+));
    }};
}

#[cfg(target_os = "none")]
struct Logger;

#[cfg(target_os = "none")]
impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        let limit = if metadata.target() == GUEST_TARGET {
            &GUEST
        } else {
            &OWN
        };
        metadata.level() as usize <= limit.load(Ordering::Relaxed)
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() == log::Level::Error && record.target() != GUEST_TARGET {
            ERRORS.fetch_add(1, Ordering::Relaxed);
        }
        if self.enabled(record.metadata()) {
            let severity = match record.level() {
                log::Level::Error => "error: ",
                log::Level::Warn => "warning: ",
                _ => "",
            };
            super::write_line(format_args!("{severity}{}", record.args()));
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::CommandLine;

    #[test]
    fn levels_as_xen_names_them() {
        assert_eq!(parse_level("all"), Some(LevelFilter::Debug));
        assert_eq!(parse_level("error/warning"), Some(LevelFilter::Warn));
        assert_eq!(parse_level("loud"), None);
        let levels = LogLevels::from_cmdline(CommandLine::new("loglvl=none guest_loglvl=all"));
        assert_eq!(
            levels,
            LogLevels {
                own: LevelFilter::Off,
                guest: LevelFilter::Debug
            }
        );
    }
}
