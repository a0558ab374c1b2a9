//! From an image to the files that it boots.

use crate::disk::{Disk, FileSystem, Image, MAX_CONFIG, Volume};
use crate::grub::{self, Boot, Files, Place, Search};
use crate::{Error, Result};
use std::io::Write;

/// The largest kernel's file.
pub const MAX_KERNEL: u64 = 64 << 20;
/// The ramdisks of an entry, all together: a guest may name one file, which takes no room on its
/// disk, again and again, and all of it ends up in the privileged domain's memory.
pub const MAX_RAMDISKS: u64 = 256 << 20;
/// Ramdisks that one entry may name.
const MOST_RAMDISKS: usize = 8;

/// Where GRUB's configuration lies, on a root file system or on one of its own for /boot.
const CONFIGS: [&str; 4] = [
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/grub/grub.cfg",
    "/grub2/grub.cfg",
];

/// A disk whose menu can be used.
pub struct Loader {
    disk: Disk,
    /// The configuration: its volume, path and text.
    volume: usize,
    path: &'static str,
    text: String,
}

/// The files that one entry boots, and their command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub entry: String,
    pub kernel: Place,
    pub ramdisks: Vec<Place>,
    pub arguments: String,
}

/// The sizes of an entry's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    pub kernel: u64,
    /// All of them, as one.
    pub ramdisks: u64,
}

impl Loader {
    /// Finds GRUB's configuration: the first, by partition.
    ///
    /// # Errors
    /// `Error` if the image cannot be read, or has no configuration of a boot loader.
    pub fn open(image: &Image) -> Result<Self> {
        let disk = Disk::open(image)?;
        let places = (0..disk.volumes.len())
            .flat_map(|volume| CONFIGS.into_iter().map(move |path| (volume, path)));
        let mut problem = None;
        for (volume, path) in places {
            let Some(found) = disk.volumes.get(volume) else {
                continue;
            };
            if !found.files.has_file(path, true) {
                continue;
            }
            match found.files.read_text(path, MAX_CONFIG) {
                Ok(text) => {
                    return Ok(Self {
                        disk,
                        volume,
                        path,
                        text,
                    });
                }
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        Err(problem.unwrap_or_else(|| {
            Error::new(format!(
                "no configuration of GRUB is on it (looked for {})",
                CONFIGS.join(", ")
            ))
        }))
    }

    fn run(&self) -> Result<grub::Machine<'_>> {
        let device = self
            .disk
            .volumes
            .get(self.volume)
            .map(|volume| self.disk.name(volume))
            .unwrap_or_default();
        let directory = self.path.rsplit_once('/').map_or("", |(before, _)| before);
        grub::run(&self.text, &self.disk, &device, directory)
            .map_err(|error| error.while_doing(self.path))
    }

    /// The menu's entries by their full names.
    ///
    /// # Errors
    /// `Error` if the configuration is not well-formed.
    pub fn entries(&self) -> Result<Vec<String>> {
        Ok(self.run()?.entries())
    }

    /// The plan of the wanted entry, or of the default one.
    ///
    /// # Errors
    /// `Error` if there is no such entry, or if it boots no Linux.
    pub fn plan(&self, wanted: Option<&str>) -> Result<Plan> {
        let (entry, boot) = self
            .run()?
            .choose(wanted)
            .map_err(|error| error.while_doing(self.path))?;
        plan(entry, boot).map_err(|error| error.while_doing(self.path))
    }

    /// The sizes of an entry's kernel and ramdisks, before anything of them is read.
    ///
    /// # Errors
    /// `Error` if a file is missing, or if the files are too large.
    pub fn sizes(&self, plan: &Plan) -> Result<Sizes> {
        let (files, path) = self.find(&plan.kernel)?;
        let kernel = files.size(path, MAX_KERNEL)?;
        let mut ramdisks = 0;
        for place in &plan.ramdisks {
            let (files, path) = self.find(place)?;
            ramdisks += padded(files.size(path, left(ramdisks))?);
        }
        Ok(Sizes { kernel, ramdisks })
    }

    /// Copies the kernel.
    ///
    /// # Errors
    /// `Error` if the kernel is missing, too large, or cannot be read or written.
    pub fn kernel(&self, plan: &Plan, to: &mut dyn Write) -> Result<u64> {
        let (files, path) = self.find(&plan.kernel)?;
        files.copy(path, MAX_KERNEL, to)
    }

    /// Copies the ramdisks, which become one: the kernel unpacks them one after the other. Each
    /// begins at a multiple of four.
    ///
    /// # Errors
    /// `Error` if a ramdisk is missing, or if they are too large, or cannot be read or written.
    pub fn ramdisks(&self, plan: &Plan, to: &mut dyn Write) -> Result<u64> {
        let mut done = 0;
        for place in &plan.ramdisks {
            let (files, path) = self.find(place)?;
            let size = files.copy(path, left(done), to)?;
            for _ in size..padded(size) {
                to.write_all(&[0])
                    .map_err(|error| Error::new(format!("writing a copy: {error}")))?;
            }
            done += padded(size);
        }
        Ok(done)
    }

    fn find<'a>(&'a self, place: &'a Place) -> Result<(&'a FileSystem, &'a str)> {
        let volume = self.disk.volume(&place.device);
        let volume = volume.ok_or_else(|| {
            let text = format!(
                "({}){}: there is no such partition",
                place.device, place.path
            );
            Error::new(text)
        })?;
        Ok((volume, &place.path))
    }
}

/// The rest of the ramdisks' budget.
fn left(done: u64) -> u64 {
    MAX_RAMDISKS.saturating_sub(done)
}

fn padded(size: u64) -> u64 {
    size.next_multiple_of(4)
}

fn plan(entry: String, boot: Boot) -> Result<Plan> {
    let kernel = match (boot.kernel, boot.foreign) {
        (Some(kernel), None) => kernel,
        (_, Some(command)) => {
            let text = format!("the entry {entry:?} boots by {command}, not by linux");
            return Err(Error::new(text));
        }
        (None, None) => {
            return Err(Error::new(format!("the entry {entry:?} names no kernel")));
        }
    };
    if boot.ramdisks.len() > MOST_RAMDISKS {
        return Err(Error::new(format!(
            "the entry {entry:?} has more than {MOST_RAMDISKS} ramdisks"
        )));
    }
    Ok(Plan {
        entry,
        kernel,
        ramdisks: boot.ramdisks,
        arguments: boot.arguments,
    })
}

impl Disk {
    /// GRUB's name for a volume.
    fn name(&self, volume: &Volume) -> String {
        match (&volume.partition, self.table) {
            (Some(partition), Some(table)) => format!("hd0,{}{}", table.word(), partition.number),
            _ => "hd0".to_owned(),
        }
    }

    /// The volume of that name: only the partition's number counts, as there is one disk.
    fn volume(&self, device: &str) -> Option<&FileSystem> {
        let number = device.rsplit_once(',').map(|(_, partition)| {
            let digits = partition.trim_start_matches(|c: char| !c.is_ascii_digit());
            digits.parse::<u32>().unwrap_or_default()
        });
        let found = self
            .volumes
            .iter()
            .find(|volume| volume.partition.as_ref().map(|it| it.number) == number);
        found.map(|volume| &volume.files)
    }
}

impl Files for Disk {
    fn has(&self, root: &str, path: &str, filled: bool) -> bool {
        let (device, path) = grub::split_device(path).unwrap_or((root, path));
        self.volume(device)
            .is_some_and(|files| files.has_file(path, filled))
    }

    fn text(&self, root: &str, path: &str) -> Result<String> {
        let (device, path) = grub::split_device(path).unwrap_or((root, path));
        let files = self.volume(device);
        files
            .ok_or_else(|| Error::new(format!("({device}): there is no such partition")))?
            .read_text(path, MAX_CONFIG)
    }

    fn search(&self, what: Search<'_>) -> Option<String> {
        let matches = |volume: &&Volume| match what {
            Search::Uuid(uuid) => volume.files.uuid().eq_ignore_ascii_case(uuid),
            Search::Label(label) => volume.files.label() == label,
            Search::File(path) => volume.files.has_file(path, false),
        };
        let found = self.volumes.iter().find(matches)?;
        Some(self.name(found))
    }
}
