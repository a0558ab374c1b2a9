//! `xmgrub`: prints and copies what GRUB would boot from a disk image.
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

mod confine;

use clap::Parser;
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use xmgrub::boot::{Loader, MAX_KERNEL, MAX_RAMDISKS, Plan};
use xmgrub::disk::Image;
use xmgrub::{Error, Result};

/// Finds the kernel and ramdisk that GRUB would boot from a guest's disk.
///
/// The image is only read, and not trusted: once it is open, this program can do nothing else.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// A raw disk image or a block device
    disk: PathBuf,
    /// Print the menu's entries only
    #[arg(long)]
    list: bool,
    /// The entry to take: its title, id or place, with > between levels [default: what GRUB would
    /// take]
    #[arg(long)]
    entry: Option<String>,
    /// More arguments for the kernel, behind the entry's own
    #[arg(long, value_name = "ARGUMENTS")]
    args: Option<String>,
    /// An empty directory, into which the files `kernel` and `ramdisk` are copied
    #[arg(long, value_name = "DIRECTORY")]
    output_directory: Option<PathBuf>,
    /// Print a line of JSON and behind it the unpacked kernel and the ramdisk, for a guest of so
    /// much memory
    #[arg(long, value_name = "MIB", conflicts_with_all = ["list", "output_directory"])]
    stream: Option<u64>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// The most space that is kept free on a file system with copies: an eighth of it, but no more than
/// this.
const SPARED: u64 = 64 << 20;
/// Text beside the copies.
const TEXT: u64 = 1 << 20;
/// Longest arguments of a kernel. Linux takes 2047.
const MAX_CMDLINE: usize = 4096;

/// The line that is printed before the images.
#[derive(Serialize)]
struct Found {
    entry: String,
    kernel: String,
    ramdisks: Vec<String>,
    cmdline: String,
    /// With `--stream`: how many bytes follow the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<Streamed>,
}

#[derive(Serialize)]
struct Streamed {
    kernel: u64,
    ramdisk: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(text) => {
            if arguments.stream.is_none() {
                // The reader may have closed the pipe.
                let _ = writeln!(std::io::stdout(), "{text}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            if arguments.json && arguments.stream.is_none() {
                let error = serde_json::json!({ "error": { "what": "cannot boot from the disk", "cause": error.to_string() } });
                let _ = writeln!(std::io::stdout(), "{error}");
            }
            eprintln!("xmgrub: {}: {error}", arguments.disk.display());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String> {
    // All that has to be opened is opened before anything is read.
    let disk = File::open(&arguments.disk).map_err(|error| Error::new(error.to_string()))?;
    let outputs = arguments.output_directory.as_deref().map(Outputs::create);
    let outputs = outputs.transpose()?;
    let nowhere = Path::new("/proc/self/fdinfo");
    let cell = arguments.output_directory.as_deref().unwrap_or(nowhere);
    confine::confine(cell, MAX_KERNEL + MAX_RAMDISKS + TEXT)
        .map_err(|error| Error::new(format!("privileges cannot be given up: {error}")))?;
    let loader = Loader::open(&Image::from_file(disk)?)?;
    if arguments.list {
        let entries = loader.entries()?;
        return Ok(if arguments.json {
            serde_json::json!(entries).to_string()
        } else {
            entries.join("\n")
        });
    }
    let plan = loader.plan(arguments.entry.as_deref())?;
    if let Some(mib) = arguments.stream {
        stream(&loader, plan, arguments, mib.saturating_mul(1 << 20))?;
        return Ok(String::new());
    }
    if let Some(outputs) = outputs {
        outputs.fill(&loader, &plan)?;
    }
    Ok(shown(found(plan, arguments)?, arguments))
}

/// Writes what was found, then the kernel and the ramdisk, to standard output. The kernel is
/// unpacked here, as what unpacking takes is the guest's choice too. Nothing is written before all
/// sizes are known to fit into `memory` bytes.
fn stream(loader: &Loader, plan: Plan, arguments: &Arguments, memory: u64) -> Result<()> {
    let sizes = loader.sizes(&plan)?;
    let mut packed = Vec::new();
    loader.kernel(&plan, &mut packed)?;
    let most = usize::try_from(memory.min(MAX_RAMDISKS)).unwrap_or(usize::MAX);
    let kernel = oxen_domain::image::parse_within(&packed, most)
        .map_err(|error| Error::new(format!("{}: {error}", plan.kernel.path)))?
        .into_image();
    drop(packed);
    let all = sizes.ramdisks.saturating_add(kernel.len() as u64);
    if all > memory {
        return Err(Error::new(format!(
            "kernel and ramdisks have {} MiB, more than the guest's memory",
            all.div_ceil(1 << 20)
        )));
    }
    let mut found = found(plan.clone(), arguments)?;
    found.stream = Some(Streamed {
        kernel: kernel.len() as u64,
        ramdisk: sizes.ramdisks,
    });
    let line = serde_json::to_string(&found).map_err(|error| Error::new(error.to_string()))?;
    let mut to = BufWriter::new(std::io::stdout().lock());
    to.write_all(line.as_bytes())
        .and_then(|()| to.write_all(b"\n"))
        .and_then(|()| to.write_all(&kernel))
        .map_err(written)?;
    loader.ramdisks(&plan, &mut to)?;
    to.flush().map_err(written)
}

fn written(error: std::io::Error) -> Error {
    Error::new(format!("writing a copy: {error}"))
}

struct Outputs {
    kernel: File,
    ramdisk: File,
}

impl Outputs {
    fn create(directory: &Path) -> Result<Self> {
        let new = |name: &str| {
            let path = directory.join(name);
            File::create_new(&path)
                .map_err(|error| Error::new(format!("{}: {error}", path.display())))
        };
        Ok(Self {
            kernel: new("kernel")?,
            ramdisk: new("ramdisk")?,
        })
    }

    fn fill(self, loader: &Loader, plan: &Plan) -> Result<()> {
        let sizes = loader.sizes(plan)?;
        self.check_room(sizes.kernel.saturating_add(sizes.ramdisks))?;
        let mut kernel = BufWriter::new(self.kernel);
        loader.kernel(plan, &mut kernel)?;
        kernel.flush().map_err(written)?;
        let mut ramdisk = BufWriter::new(self.ramdisk);
        loader.ramdisks(plan, &mut ramdisk)?;
        ramdisk.flush().map_err(written)
    }

    /// A full file system would hurt others than the guest whose disk this is.
    fn check_room(&self, bytes: u64) -> Result<()> {
        let stat = rustix::fs::fstatvfs(&self.kernel)
            .map_err(|error| Error::new(format!("the room for copies: {error}")))?;
        // A ramfs, as the root of an initramfs may be, knows no size.
        if stat.f_blocks == 0 {
            return Ok(());
        }
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let spared = SPARED.min(stat.f_blocks.saturating_mul(stat.f_frsize) / 8);
        if free.saturating_sub(spared) < bytes {
            return Err(Error::new(format!(
                "the copies have {} MiB, and of the {} MiB free for them {} are spared",
                bytes.div_ceil(1 << 20),
                free >> 20,
                spared >> 20
            )));
        }
        Ok(())
    }
}

fn found(plan: Plan, arguments: &Arguments) -> Result<Found> {
    let more = arguments.args.as_deref().unwrap_or_default();
    let cmdline = format!("{} {more}", plan.arguments).trim().to_owned();
    if cmdline.len() > MAX_CMDLINE {
        return Err(Error::new(format!(
            "the kernel's arguments have {} bytes, more than the {MAX_CMDLINE} that are taken",
            cmdline.len()
        )));
    }
    Ok(Found {
        cmdline,
        entry: plan.entry,
        kernel: plan.kernel.path,
        ramdisks: plan.ramdisks.into_iter().map(|place| place.path).collect(),
        stream: None,
    })
}

fn shown(found: Found, arguments: &Arguments) -> String {
    if arguments.json {
        return serde_json::to_string(&found).unwrap_or_default();
    }
    let clean = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
    format!(
        "entry    {}\nkernel   {}\nramdisks {}\ncmdline  {}",
        clean(&found.entry),
        clean(&found.kernel),
        clean(&found.ramdisks.join(" ")),
        clean(&found.cmdline)
    )
}
