//! From settings to a [`DomainConfig`]: every key is checked against the table, every value against
//! its type and range, and the values against each other.

use crate::domain::{
    self, Action, Actions, Bootloader, DomainConfig, MAX_MIB, MAX_VCPUS, Parsed, TscMode,
};
use crate::name::{check_name, is_number};
use crate::read::Reader;
use crate::spec::{disk, vif};
use crate::{Affinity, CpuSet, Diagnostic, keys, syntax};

pub(crate) fn build(file: &syntax::File) -> Result<Parsed, Vec<Diagnostic>> {
    let mut reader = Reader::new(file);
    if !check_type(&mut reader) {
        // For another kind of guest everything else means something else.
        return Err(reader.errors);
    }
    check_keys(&mut reader);
    let config = read(&mut reader);
    match config {
        Some(config) if reader.errors.is_empty() => Ok(Parsed {
            config,
            warnings: reader.warnings,
        }),
        _ => {
            reader.errors.sort_by_key(|error| error.place);
            Err(reader.errors)
        }
    }
}

fn check_keys(r: &mut Reader<'_>) {
    for setting in &r.file.settings {
        let key = &setting.key;
        match (keys::status(key), keys::suggestion(key)) {
            (Some(status), _) => {
                if let Some(what) = status.warning() {
                    r.warn(setting, format!("{key} {what}"));
                }
            }
            (None, Some(near)) => {
                let message = format!("unknown key {key:?}; did you mean {near:?}?");
                r.errors
                    .push(Diagnostic::at(&setting.source, setting.key_place, message));
            }
            (None, None) => r.warn(
                setting,
                format!("unknown key {key:?} is ignored, as xl does"),
            ),
        }
    }
}

/// Whether this is a guest of our kind, or may be taken as one.
fn check_type(r: &mut Reader<'_>) -> bool {
    let only =
        "only type=\"pvh\" is supported: a kernel with a Xen PVH entry, without emulated hardware";
    let before = r.errors.len();
    let kind = r.text("type");
    if let Some(text) = &kind
        && text.text != "pvh"
    {
        let error = text.error(format!("type={:?} is not supported; {only}", text.text));
        r.errors.push(error);
    }
    match (r.text("builder"), &kind) {
        (Some(text), _) if !matches!(text.text, "generic" | "linux" | "pvh") => {
            let error = text.error(format!("builder={:?} is not supported; {only}", text.text));
            r.errors.push(error);
        }
        // The old words for a PV guest.
        (Some(text), Some(kind)) if text.text != kind.text => {
            let message = format!("builder={:?} contradicts type={:?}", text.text, kind.text);
            r.errors.push(text.error(message));
        }
        (Some(text), None) if text.text != "pvh" => {
            let message = format!(
                "builder={:?} is taken as type=\"pvh\" (xl would take \"pv\")",
                text.text
            );
            r.warnings.push(text.error(message));
        }
        (None, None) if r.file.get("type").is_none() => {
            let message = "no type is given: taken as type=\"pvh\" (xl would take \"pv\")";
            r.warnings.push(Diagnostic::whole(&r.file.source, message));
        }
        _ => {}
    }
    // Of two errors about the same thing only the first is kept.
    r.errors.truncate(before + 1);
    r.errors.len() == before
}

fn read(r: &mut Reader<'_>) -> Option<DomainConfig> {
    let name = name(r);
    let bootloader = bootloader(r);
    let (kernel, ramdisk) = if bootloader.is_some() {
        (None, None)
    } else {
        let kernel = required(r, "kernel", not_empty);
        (kernel, r.parsed("ramdisk", not_empty))
    };
    let memory = r.count("memory", 1..=MAX_MIB);
    if memory.is_none() && r.file.get("memory").is_none() {
        missing(r, "memory", "how many MiB the guest gets, as in memory=192");
    }
    let maxmem = r.count("maxmem", 1..=MAX_MIB);
    let vcpus = r.count("vcpus", 1..=MAX_VCPUS);
    let max_vcpus = r.count("maxvcpus", 1..=MAX_VCPUS);
    let vcpus_online = vcpus.unwrap_or(1);
    let max_vcpus = max_vcpus.unwrap_or(vcpus_online);
    check_order(r, "vcpus", vcpus, "maxvcpus", Some(max_vcpus));
    check_order(r, "memory", memory, "maxmem", maxmem.or(memory));
    let cap_limit = max_vcpus.saturating_mul(100);
    let config = DomainConfig {
        name: name.unwrap_or_default(),
        uuid: r.parsed("uuid", str::parse),
        memory_mib: memory.unwrap_or_default(),
        maxmem_mib: maxmem.or(memory).unwrap_or_default(),
        vcpus: vcpus_online,
        max_vcpus,
        affinity: affinity(r, "cpus"),
        soft_affinity: affinity(r, "cpus_soft"),
        cpu_weight: r.count("cpu_weight", 1..=65535),
        cap: r.count("cap", 0..=cap_limit),
        kernel: kernel.unwrap_or_default(),
        bootloader,
        ramdisk,
        cmdline: cmdline(r),
        actions: actions(r),
        disks: r.list("disk", |text| {
            let disk = disk::parse(text)?;
            disk.refusal().map_or(Ok(disk), Err)
        }),
        vifs: r.list("vif", vif::parse),
        localtime: r.boolean("localtime").unwrap_or_default(),
        rtc_timeoffset: offset(r),
        tsc_mode: r.parsed("tsc_mode", tsc_mode).unwrap_or_default(),
        max_grant_frames: r
            .count("max_grant_frames", 1..=1 << 20)
            .unwrap_or_else(domain::default_grant_frames),
        max_maptrack_frames: r
            .count("max_maptrack_frames", 0..=1 << 20)
            .unwrap_or_else(domain::default_maptrack_frames),
        max_grant_version: r
            .count("max_grant_version", 1..=2)
            .unwrap_or_else(domain::default_grant_version),
        max_event_channels: r
            .count("max_event_channels", 1..=131_071)
            .unwrap_or_else(domain::default_event_channels),
        hap: r.boolean("hap"),
        shadow_memory_mib: r.count("shadow_memory", 1..=1 << 20),
        nomigrate: r.boolean("nomigrate").unwrap_or_default(),
    };
    config.check_devices(r);
    r.errors.is_empty().then_some(config)
}

fn name(r: &mut Reader<'_>) -> Option<String> {
    let name = required(r, "name", |text| check_name(text).map(|()| text.to_owned()))?;
    if is_number(&name)
        && let Some(setting) = r.file.get("name")
    {
        let message = format!("name {name}: xm's commands take it for a domain's number first");
        r.warn(setting, message);
    }
    Some(name)
}

impl DomainConfig {
    /// Two devices cannot have one name or address.
    fn check_devices(&self, r: &mut Reader<'_>) {
        for (i, disk) in self.disks.iter().enumerate() {
            if self
                .disks
                .iter()
                .take(i)
                .any(|other| other.vdev == disk.vdev)
                && let Some(setting) = r.file.get("disk")
            {
                r.fail::<()>(setting, format!("disk: {} is given twice", disk.vdev));
            }
        }
        for (i, vif) in self.vifs.iter().enumerate() {
            if vif.mac.is_some()
                && self.vifs.iter().take(i).any(|other| other.mac == vif.mac)
                && let Some(setting) = r.file.get("vif")
            {
                r.fail::<()>(setting, "vif: two interfaces have the same mac");
            }
        }
    }
}

/// `bootloader`, and what of its arguments means something here.
fn bootloader(r: &mut Reader<'_>) -> Option<Bootloader> {
    let setting = r.file.get("bootloader")?;
    let ours = r.parsed("bootloader", |path| {
        match path.rsplit('/').next().unwrap_or_default() {
            "" if path.is_empty() => Ok(false),
            "xmgrub" | "pygrub" => Ok(true),
            _ => Err(format!(
                "{path:?} is not supported, only \"xmgrub\" (\"pygrub\" is taken as another name for it)"
            )),
        }
    })?;
    if !ours {
        return None;
    }
    for key in ["kernel", "ramdisk"] {
        if let Some(ignored) = r.file.get(key) {
            r.warn(
                ignored,
                format!("{key} is ignored because bootloader is given"),
            );
        }
    }
    if r.file.get("disk").is_none() {
        return r.fail(setting, "bootloader: the guest has no disk to boot from");
    }
    let arguments = r.texts("bootloader_args", true).unwrap_or_default();
    match entry(arguments.iter().map(|text| text.text)) {
        Ok(entry) => Some(Bootloader { entry }),
        Err(message) => {
            let setting = r.file.get("bootloader_args").unwrap_or(setting);
            r.fail(setting, format!("bootloader_args: {message}"))
        }
    }
}

/// The menu entry that the loader's arguments name.
fn entry<'a>(words: impl Iterator<Item = &'a str>) -> Result<Option<String>, String> {
    let mut entry = None;
    let mut words = words.flat_map(|word| match word.split_once('=') {
        Some((key @ "--entry", value)) => vec![key, value],
        _ => vec![word],
    });
    while let Some(word) = words.next() {
        match word {
            "--entry" => {
                let value = words.next().filter(|value| !value.is_empty());
                entry = Some(value.ok_or("--entry names no menu entry")?.to_owned());
            }
            "-q" | "--quiet" => {}
            _ => {
                return Err(format!(
                    "{word:?} is not known, only --entry=TITLE; use extra= for the kernel's arguments"
                ));
            }
        }
    }
    Ok(entry)
}

fn required<T>(
    r: &mut Reader<'_>,
    key: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    if r.file.get(key).is_none() {
        let what = match key {
            "name" => "the guest's name, as in name=\"demo\"",
            _ => "the path of the kernel, as in kernel=\"/boot/vmlinuz\"",
        };
        missing(r, key, what);
        return None;
    }
    r.parsed(key, parse)
}

fn missing(r: &mut Reader<'_>, key: &str, what: &str) {
    r.errors.push(Diagnostic::whole(
        &r.file.source,
        format!("{key} is missing: {what}"),
    ));
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('\0') {
        Err("the path is empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

fn check_order(
    r: &mut Reader<'_>,
    low_key: &str,
    low: Option<u32>,
    high_key: &str,
    high: Option<u32>,
) {
    if let (Some(low), Some(high)) = (low, high)
        && low > high
        && let Some(setting) = r.file.get(low_key)
    {
        r.fail::<()>(
            setting,
            format!("{low_key} ({low}) is more than {high_key} ({high})"),
        );
    }
}

/// `cmdline`, or what xl makes of `root` and `extra`.
fn cmdline(r: &mut Reader<'_>) -> String {
    let root = r.text("root").map(|text| format!("root={}", text.text));
    let extra = r.text("extra").map(|text| text.text.to_owned());
    if let Some(cmdline) = r.text("cmdline") {
        for key in ["root", "extra"] {
            if let Some(setting) = r.file.get(key) {
                r.warn(
                    setting,
                    format!("{key} is ignored because cmdline is given"),
                );
            }
        }
        return cmdline.text.to_owned();
    }
    [root, extra]
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn actions(r: &mut Reader<'_>) -> Actions {
    let mut get = |key, default| r.parsed(key, action).unwrap_or(default);
    let usual = Actions::default();
    Actions {
        poweroff: get("on_poweroff", usual.poweroff),
        reboot: get("on_reboot", usual.reboot),
        crash: get("on_crash", usual.crash),
        watchdog: get("on_watchdog", usual.watchdog),
        soft_reset: get("on_soft_reset", usual.soft_reset),
    }
}

fn action(word: &str) -> Result<Action, String> {
    // xm wrote some of them with underscores.
    let word = word.replace('_', "-");
    let known = Action::ALL.into_iter().find(|action| action.word() == word);
    known.ok_or_else(|| {
        let words: Vec<_> = Action::ALL.iter().map(|action| action.word()).collect();
        format!("{word:?} is none of {}", words.join(", "))
    })
}

fn tsc_mode(word: &str) -> Result<TscMode, String> {
    Ok(match word {
        "default" | "0" => TscMode::Default,
        "always_emulate" | "1" => TscMode::AlwaysEmulate,
        "native" | "2" => TscMode::Native,
        "native_paravirt" | "3" => TscMode::NativeParavirt,
        _ => {
            return Err(format!(
                "{word:?} is none of default, always_emulate, native, native_paravirt"
            ));
        }
    })
}

fn affinity(r: &mut Reader<'_>, key: &str) -> Option<Affinity> {
    let setting = r.file.get(key)?;
    if matches!(setting.item.value, syntax::Value::List(_)) {
        return Some(Affinity::Each(r.list(key, CpuSet::parse)));
    }
    r.parsed(key, CpuSet::parse).map(Affinity::Together)
}

fn offset(r: &mut Reader<'_>) -> i32 {
    let seconds = r.number("rtc_timeoffset", i64::from(i32::MIN)..=i64::from(i32::MAX));
    seconds
        .and_then(|seconds| i32::try_from(seconds).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
