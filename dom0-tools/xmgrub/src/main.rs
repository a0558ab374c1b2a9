//! `xmgrub`: prints and copies what GRUB would boot from a disk image.

mod confine;

use clap::Parser;
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use xmgrub::boot::{Loader, Plan};
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
    /// The entry to take: its title, id or place, with > between levels [default: what GRUB would take]
    #[arg(long)]
    entry: Option<String>,
    /// More arguments for the kernel, behind the entry's own
    #[arg(long, value_name = "ARGUMENTS")]
    args: Option<String>,
    /// An empty directory, into which the files `kernel` and `ramdisk` are copied
    #[arg(long, value_name = "DIRECTORY")]
    output_directory: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Serialize)]
struct Found {
    entry: String,
    kernel: String,
    ramdisks: Vec<String>,
    cmdline: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(text) => {
            // Whoever reads us may have seen enough.
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            if arguments.json {
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
    confine::confine(cell)
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
    if let Some(outputs) = outputs {
        outputs.fill(&loader, &plan)?;
    }
    Ok(shown(plan, arguments))
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

    /// Several ramdisks become one: the kernel unpacks them one after the other.
    fn fill(self, loader: &Loader, plan: &Plan) -> Result<()> {
        let written = |error: std::io::Error| Error::new(format!("writing a copy: {error}"));
        let mut kernel = BufWriter::new(self.kernel);
        loader.copy(&plan.kernel, &mut kernel)?;
        kernel.flush().map_err(written)?;
        let mut ramdisk = BufWriter::new(self.ramdisk);
        for place in &plan.ramdisks {
            let size = loader.copy(place, &mut ramdisk)?;
            // Each begins at a multiple of four.
            let padding = (4 - size % 4) % 4;
            for _ in 0..padding {
                ramdisk.write_all(&[0]).map_err(written)?;
            }
        }
        ramdisk.flush().map_err(written)
    }
}

fn shown(plan: Plan, arguments: &Arguments) -> String {
    let more = arguments.args.as_deref().unwrap_or_default();
    let found = Found {
        cmdline: format!("{} {more}", plan.arguments).trim().to_owned(),
        entry: plan.entry,
        kernel: plan.kernel.path,
        ramdisks: plan.ramdisks.into_iter().map(|place| place.path).collect(),
    };
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
