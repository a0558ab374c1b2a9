//! `xm create`: the file is read and checked here, so that its errors are reported even without
//! xmd.

use super::console;
use crate::cli::Create;
use crate::output::{Output, pretty, write};
use oxen_config::{DomainConfig, Parsed};
use oxen_domain::build::{self, Step};
use oxen_domain::image::Cache;
use oxen_domain::{Error, Result};
use std::path::Path;
use std::process::ExitCode;
use xmd_api::client::Client;
use xmd_api::{Event, Op, Subject};

pub(super) fn run(args: &Create, out: &Output) -> Result<ExitCode> {
    let Some(config) = read(args, out)? else {
        return Ok(ExitCode::FAILURE);
    };
    if args.dry_run {
        check(&config, out)?;
        write(&pretty(&config));
        return Ok(ExitCode::SUCCESS);
    }
    let mut client = Client::connect()?;
    let quiet = args.quiet || out.json;
    let op = Op::Create {
        config: Box::new(config),
        paused: args.paused,
        quiet,
    };
    let value = client.call(op, &mut |event| match event {
        Event::Warning { text } => out.warn(&text),
        Event::Progress { step } if !quiet => tell(step),
        _ => {}
    });
    if !quiet {
        clear();
    }
    let value = value?;
    let made: Subject = serde_json::from_value(value)
        .map_err(|error| Error::new("xmd's answer cannot be understood", error))?;
    let text = format!("Started domain {} (id={})", made.name, made.domain);
    if out.json || !args.quiet {
        out.print(&made, &text);
    }
    if args.console {
        return console::attach(made.domain);
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks before the start what would fail later, as far as the files are on this machine: a
/// configuration can be checked on another machine too.
fn check(config: &DomainConfig, out: &Output) -> Result<()> {
    let disk = config.disks.iter().find(|disk| !disk.cdrom);
    let boots = match &config.bootloader {
        Some(_) => disk.map(|disk| &disk.target),
        None => Some(&config.kernel),
    };
    let missing: Vec<_> = boots
        .into_iter()
        .chain(&config.ramdisk)
        .filter(|path| !Path::new(path).exists())
        .collect();
    if missing.is_empty() {
        if oxen_domain::bootloader::load(config, &mut |_| {}, &|| true)?.is_none() {
            build::check_images(config, &build::read_images(config, &Cache::default())?)?;
        }
        return Ok(());
    }
    for path in missing {
        out.warn(&format!(
            "{path} is not on this machine, and was not checked"
        ));
    }
    Ok(())
}

/// Progress is for people who wait: on a terminal only, on one line.
fn tell(step: Step) {
    let text = match step {
        Step::ReadingKernel => "reading the kernel",
        Step::CreatingDomain => "creating the domain",
        Step::GivingMemory => "giving it memory",
        Step::LoadingKernel => "loading the kernel",
        Step::EnteringStore => "entering it in the store",
        Step::Started => return,
    };
    if rustix::termios::isatty(std::io::stderr()) {
        eprint!("\r\x1b[K{text}");
    }
}

/// Removes the line of [`tell`].
fn clear() {
    if rustix::termios::isatty(std::io::stderr()) {
        eprint!("\r\x1b[K");
    }
}

/// The configuration; None if it has errors, which are printed.
fn read(args: &Create, out: &Output) -> Result<Option<DomainConfig>> {
    let (file, settings) = args.file_and_settings();
    if args.of_xl.no_watch {
        out.warn("-e has no effect: at the guest's end xmd does what on_poweroff and the like say");
    }
    if args.of_xl.vncviewer || args.of_xl.autopass {
        out.warn("a guest of type pvh has no VNC to view; -c connects to its console");
    }
    let source = file.display().to_string();
    let bytes = std::fs::read(&file).map_err(|error| {
        Error::new(format!("cannot read {source}"), error)
            .remedy("give the path of a guest's configuration file")
    })?;
    match oxen_config::parse(&source, &bytes, &settings) {
        Ok(Parsed {
            mut config,
            warnings,
        }) => {
            for warning in warnings {
                out.warn(&warning.to_string());
            }
            // xmd may have another working directory.
            if config.bootloader.is_none() {
                make_absolute(&mut config.kernel)?;
            }
            if let Some(ramdisk) = &mut config.ramdisk {
                make_absolute(ramdisk)?;
            }
            for disk in config.disks.iter_mut().filter(|it| !it.target.is_empty()) {
                make_absolute(&mut disk.target)?;
            }
            Ok(Some(config))
        }
        Err(errors) => {
            if out.json {
                write(&pretty(&serde_json::json!({ "errors": errors })));
            }
            for error in errors {
                eprintln!("xm: {error}");
            }
            Ok(None)
        }
    }
}

pub(super) fn make_absolute(path: &mut String) -> Result<()> {
    let absolute = std::path::absolute(Path::new(path))
        .map_err(|error| Error::new(format!("cannot use {path}"), error))?;
    *path = absolute.display().to_string();
    Ok(())
}
