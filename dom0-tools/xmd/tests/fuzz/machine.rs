//! A machine in memory, with a daemon that is killed now and then.

use crate::Counts;
use crate::random::Random;
use crate::requests::{self, NAMES};
use oxen_config::Uuid;
use oxen_devices::{Device, Guest, Kind, Nodes, Spec};
use oxen_domain::Result;
use oxen_domain::testing::{Fake, State as Memory};
use oxen_domain::world::World;
use oxen_domain::world::{Access, DomId, Hypervisor, Store};
use oxen_sys::hypercall::{CreateDomain, ShutdownReason};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use xmd::journal::{Journal, State};
use xmd::log::Log;
use xmd::manager::Manager;
use xmd::ops::Context;
use xmd::recover::recover;
use xmd_api::{Op, Request};

const MEMORY_MIB: u64 = 160;
/// So often the watcher looks until everything has been tried again.
const ROUNDS: u32 = 70;

pub struct Machine {
    fake: Fake,
    directory: tempfile::TempDir,
    manager: Mutex<Manager>,
    devices: Mutex<()>,
    log: Log,
    cache: oxen_domain::image::Cache,
    /// Domains that are nobody's: other toolstacks', and those whose entry was destroyed on
    /// purpose.
    strangers: BTreeSet<Uuid>,
    /// Directories that stand in the way of the journal.
    blocks: Vec<PathBuf>,
}

thread_local! {
    static NEXT: AtomicU64 = const { AtomicU64::new(1) };
}

fn random_bytes() -> Result<[u8; 16]> {
    let number = NEXT.with(|next| next.fetch_add(1, Ordering::Relaxed));
    let mut bytes = [0xaa; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Ok(bytes)
}

/// A disk that is nothing but its number.
struct Dummy(u32);

impl Dummy {
    fn of(spec: &Spec) -> Result<Box<dyn Device>> {
        let id = spec.id().filter(|_| spec.kind() == Kind::Vbd);
        match id {
            Some(id) => Ok(Box::new(Self(id))),
            // Whatever is wrong with it, is told by the real one.
            None => spec.device(),
        }
    }
}

impl Device for Dummy {
    fn kind(&self) -> Kind {
        Kind::Vbd
    }

    fn id(&self) -> u32 {
        self.0
    }

    fn claim(&mut self, _: &Guest<'_>, _: &mut dyn Store) -> Result<Nodes> {
        Ok(Nodes::default())
    }

    fn plug(&mut self, _: &Guest<'_>) -> Result<Vec<(&'static str, String)>> {
        Ok(Vec::new())
    }

    fn is_plugged(&mut self, _: &Guest<'_>) -> bool {
        true
    }
}

/// One step of the drivers of all disks. A guest's driver takes two of three.
fn drivers(memory: &mut Memory) {
    const BACKS: &str = "/local/domain/0/backend/vbd/";
    let disks: Vec<(String, String)> = memory
        .nodes
        .keys()
        .filter_map(|path| path.strip_prefix(BACKS)?.strip_suffix("/state"))
        .filter_map(|place| place.split_once('/'))
        .map(|(domain, id)| (domain.to_owned(), id.to_owned()))
        .collect();
    for (domain, id) in disks {
        let back = format!("{BACKS}{domain}/{id}/state");
        let front = format!("/local/domain/{domain}/device/vbd/{id}/state");
        let state = |path: &str| {
            memory
                .nodes
                .get(path)
                .map_or("", |(value, _)| value.as_str())
        };
        let refuses = id.parse::<u64>().unwrap_or_default() % 3 == 0;
        let next = match (state(&back), state(&front)) {
            ("1", _) => (back, "2"),
            ("2", "1") if refuses => {
                let error = format!("/local/domain/{domain}/error/device/vbd/{id}/error");
                let text = "16 xlvbd_add".to_owned();
                memory.nodes.insert(error, (text, Access::Private));
                (front, "5")
            }
            ("2", "1") => (front, "4"),
            ("2", "4") => (back, "4"),
            ("5", "4") => (front, "6"),
            ("5", "6") => (back, "6"),
            _ => continue,
        };
        memory
            .nodes
            .insert(next.0, (next.1.to_owned(), Access::Private));
    }
}

impl Machine {
    pub fn start(seed: u64) -> Self {
        NEXT.with(|next| next.store(seed << 20, Ordering::Relaxed));
        let fake = Fake::new(MEMORY_MIB);
        *fake.drivers.borrow_mut() = Some(Box::new(drivers));
        let directory = tempfile::tempdir().expect("a scratch directory");
        let kernel = oxen_domain::testing::sample_kernel();
        std::fs::write(directory.path().join("kernel"), kernel).expect("a kernel");
        let journal = Journal::open(&directory.path().join("journal")).expect("a journal");
        let log = Log::open(&directory.path().join("log"), false);
        Self {
            manager: Mutex::new(Manager::new(journal, Vec::new())),
            fake,
            log,
            directory,
            devices: Mutex::new(()),
            cache: oxen_domain::image::Cache::default(),
            strangers: BTreeSet::new(),
            blocks: Vec::new(),
        }
    }

    fn run<T>(&self, work: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let mut store = self.fake.clone();
        work(&mut Context {
            world: World {
                hypervisor: &self.fake,
                store: &mut store,
                clock: &self.fake,
            },
            manager: &self.manager,
            devices: &self.devices,
            log: &self.log,
            cache: &self.cache,
            random: random_bytes,
            now: || 1000,
            device: Dummy::of,
            announce: &|_| {},
        })
    }

    fn kernel(&self) -> String {
        self.directory.path().join("kernel").display().to_string()
    }

    /// A line of a client, as the server takes it.
    pub fn request(&self, random: &mut Random, counts: &mut Counts) {
        counts.requests += 1;
        let line = requests::line(random, &self.kernel());
        let request: Request = match serde_json::from_slice(&line) {
            Ok(request) => request,
            Err(_) => {
                counts.nonsense += 1;
                return;
            }
        };
        let is_destroy = matches!(request.op, Op::Destroy { .. });
        let done = self.run(|context| context.perform(request.op, &mut |_| {}));
        let Ok(value) = done else {
            return;
        };
        counts.done += 1;
        if is_destroy {
            let uuid: Uuid = serde_json::from_value(value["uuid"].clone()).expect("a uuid");
            let manager = self.manager.lock().expect("no panic");
            assert!(manager.entry(uuid).is_none(), "destroyed, and there");
            let memory = self.fake.state.borrow();
            let mut domains = memory.domains.values();
            assert!(
                domains.all(|it| it.created.handle != uuid.0),
                "destroyed, and alive"
            );
        }
    }

    /// A guest ends, or somebody else ends it, or makes one.
    pub fn end(&mut self, random: &mut Random, counts: &mut Counts) {
        let domains: Vec<DomId> = self.fake.state.borrow().domains.keys().copied().collect();
        if domains.is_empty() || random.one_in(12) {
            let uuid = Uuid(random_bytes().expect("bytes"));
            if self.fake.create(&CreateDomain::pvh(uuid.0, 1)).is_ok() {
                self.strangers.insert(uuid);
            }
            return;
        }
        counts.ends += 1;
        let domain = *random.of(&domains);
        if random.one_in(6) {
            let _ = self.fake.destroy(domain);
            return;
        }
        let reasons = [
            ShutdownReason::Poweroff,
            ShutdownReason::Reboot,
            ShutdownReason::Crash,
            ShutdownReason::Watchdog,
            ShutdownReason::Suspend,
        ];
        self.fake.ends(domain, *random.of(&reasons));
    }

    pub fn look(&self) {
        for work in self.run(|context| context.look()).unwrap_or_default() {
            let _ = self.run(|context| context.finish(&work));
        }
    }

    /// Something fails soon, or for a while.
    pub fn fail(&mut self, random: &mut Random, counts: &mut Counts) {
        counts.failures += 1;
        match random.below(8) {
            0 => {
                let entries = self.entries();
                let journal = self.directory.path().join("journal");
                for entry in entries.iter().filter(|_| random.one_in(2)) {
                    let block = journal.join(format!("{}.new", entry.0));
                    if std::fs::create_dir(&block).is_ok() {
                        self.blocks.push(block);
                    }
                }
            }
            1 => self.unblock(),
            2 => {
                let _ = std::fs::remove_file(self.directory.path().join("kernel"));
            }
            3 => self.restore_kernel(),
            _ => self.fake.fail_at(random.below(40)),
        }
    }

    fn unblock(&mut self) {
        for block in self.blocks.drain(..) {
            let _ = std::fs::remove_dir(block);
        }
    }

    fn restore_kernel(&self) {
        let kernel = oxen_domain::testing::sample_kernel();
        std::fs::write(self.kernel(), kernel).expect("a kernel");
    }

    fn entries(&self) -> Vec<(Uuid, String, State, Option<DomId>)> {
        let manager = self.manager.lock().expect("no panic");
        let entries = manager.entries();
        entries
            .map(|entry| {
                (
                    entry.uuid,
                    entry.config.name.clone(),
                    entry.state,
                    entry.domain,
                )
            })
            .collect()
    }

    /// The daemon is killed, and started again on what it left.
    pub fn restart(&mut self, random: &mut Random, counts: &mut Counts, place: &str) {
        counts.restarts += 1;
        let directory = self.directory.path().join("journal");
        // A full disk is seen to before a daemon is started again, as a rule.
        if random.one_in(2) {
            self.unblock();
        }
        for (uuid, ..) in self.entries() {
            let path = directory.join(format!("{uuid}.json"));
            match random.below(24) {
                0 => {
                    // Somebody edits what is not theirs.
                    let bytes = std::fs::read(&path).unwrap_or_default();
                    let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
                    std::fs::write(&path, half).expect("a file");
                    self.strangers.insert(uuid);
                }
                1..4 => self.enrich(&path, random),
                _ => {}
            }
        }
        let journal = Journal::open(&directory).expect("a journal");
        let mut store = self.fake.clone();
        let mut world = World {
            hypervisor: &self.fake,
            store: &mut store,
            clock: &self.fake,
        };
        let recovered = recover(&mut world, journal, &self.log);
        let (manager, restart) = recovered.unwrap_or_else(|error| panic!("{place}: {error}"));
        self.manager = Mutex::new(manager);
        for uuid in restart {
            let _ = self.run(|context| context.restart_unfinished(uuid));
        }
    }

    /// A newer xmd has written this entry.
    fn enrich(&self, path: &std::path::Path, random: &mut Random) {
        let Ok(bytes) = std::fs::read(path) else {
            return;
        };
        let mut value: Value = serde_json::from_slice(&bytes).expect("what we wrote");
        value["version"] = random.below(9).into();
        value["mood"] = json!({ "good": random.below(9) });
        value["config"]["colour"] = "red".into();
        for disk in value["config"]["disks"]
            .as_array_mut()
            .into_iter()
            .flatten()
        {
            disk["cache"] = random.below(9).into();
        }
        std::fs::write(path, value.to_string()).expect("a file");
    }

    /// Once nothing fails any more, the watcher brings everything to rest: all is as the journal
    /// says.
    pub fn check(&mut self, counts: &mut Counts, place: &str) {
        counts.checks += 1;
        self.calm();
        let entries = self.entries();
        let memory = self.fake.state.borrow();
        for (uuid, name, state, domain) in &entries {
            let found = domain.and_then(|domain| memory.domains.get(&domain));
            let ours = found.filter(|found| found.created.handle == uuid.0);
            let Some(ours) = ours else {
                let manager = self.manager.lock().expect("no panic");
                let cause = manager.broken(*uuid).cloned().unwrap_or_default();
                // It waits until others leave it room, or it was made too small on purpose.
                let small = cause.contains("MiB are free") || cause.contains("is too little");
                if *state == State::Restarting && small {
                    continue;
                }
                panic!("{place}: {name} is {state:?}, its domain {domain:?} not there: {cause}");
            };
            let ended = ours
                .shutdown
                .is_some_and(|why| why != ShutdownReason::Suspend);
            match state {
                State::Running => assert!(!ended, "{place}: the end of {name} was forgotten"),
                State::Kept => {}
                other => panic!("{place}: {name} stays {other:?}"),
            }
        }
        let known = |uuid: Uuid| entries.iter().any(|entry| entry.0 == uuid);
        for (domain, found) in &memory.domains {
            let uuid = Uuid(found.created.handle);
            let ours = known(uuid) || self.strangers.contains(&uuid);
            assert!(ours, "{place}: domain {domain} ({uuid}) is nobody's");
        }
        for path in memory.nodes.keys() {
            let home = path.strip_prefix("/local/domain/");
            let domain = home.and_then(|rest| rest.split('/').next()?.parse::<DomId>().ok());
            let there = domain.is_none_or(|it| it == 0 || memory.domains.contains_key(&it));
            assert!(there, "{place}: {path} is left of a domain that is gone");
        }
        let held = memory.domains.values();
        let held: u64 = held.map(|it| it.frames.len() as u64 + it.pool).sum();
        let all = MEMORY_MIB * 256;
        assert_eq!(memory.free_pages + held, all, "{place}: memory");
        drop(memory);
        let mut names: Vec<_> = entries.iter().map(|entry| &entry.1).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), entries.len(), "{place}: two of one name");
        self.check_journal(&entries, place);
        self.check_disks(place);
    }

    fn calm(&mut self) {
        self.fake.fail_no_more();
        self.unblock();
        self.restore_kernel();
        // What others have must not keep ours from being built again.
        let memory = self.fake.state.borrow();
        let strangers = memory.domains.iter().filter_map(|(domain, found)| {
            let uuid = Uuid(found.created.handle);
            (self.strangers.contains(&uuid) && found.frames.len() > 64).then_some(*domain)
        });
        let strangers: Vec<DomId> = strangers.collect();
        drop(memory);
        for domain in strangers {
            self.fake.destroy(domain).expect("nothing fails");
        }
        for _ in 0..ROUNDS {
            self.look();
        }
        // Their nodes are nobody's to remove but a daemon's that starts.
        self.manager.lock().expect("no panic").sweep_again();
        self.look();
    }

    fn check_journal(&self, entries: &[(Uuid, String, State, Option<DomId>)], place: &str) {
        let journal = Journal::open(&self.directory.path().join("journal")).expect("a journal");
        let (read, _) = journal.read().expect("the journal");
        let read = read
            .iter()
            .filter(|entry| !self.strangers.contains(&entry.uuid));
        let read: BTreeSet<_> = read.map(|entry| (entry.uuid, entry.domain)).collect();
        let ours = entries
            .iter()
            .filter(|entry| !self.strangers.contains(&entry.0));
        let ours: BTreeSet<_> = ours.map(|entry| (entry.0, entry.3)).collect();
        assert_eq!(read, ours, "{place}: the journal");
    }

    /// A guest that runs has the disks of its configuration, and no others.
    fn check_disks(&self, place: &str) {
        let manager = self.manager.lock().expect("no panic");
        let memory = self.fake.state.borrow();
        for entry in manager
            .entries()
            .filter(|entry| entry.state == State::Running)
        {
            assert!(entry.pending.is_empty(), "{place}: {:?}", entry.pending);
            let backs = format!(
                "/local/domain/0/backend/vbd/{}/",
                entry.domain.expect("it runs")
            );
            let paths = memory
                .nodes
                .keys()
                .filter_map(|path| path.strip_prefix(&backs));
            let there: BTreeSet<u32> = paths
                .filter_map(|rest| rest.split('/').next()?.parse().ok())
                .collect();
            let specs = Spec::all(&entry.config);
            let wanted: BTreeSet<u32> = specs
                .iter()
                .filter(|spec| !spec.is_empty_drive())
                .filter_map(Spec::id)
                .collect();
            let name = &entry.config.name;
            let log = self.log.tail(20);
            assert_eq!(there, wanted, "{place}: disks of {name}, after\n{log}");
        }
    }

    /// Nothing of ours is left in the end.
    pub fn destroy_all(&self, place: &str) {
        for (_, name, _, domain) in self.entries() {
            let domain = domain.map_or(name, |domain| domain.to_string());
            let op = Op::Destroy { domain };
            let done = self.run(|context| context.perform(op, &mut |_| {}));
            done.unwrap_or_else(|error| panic!("{place}: {error}"));
        }
        assert!(self.entries().is_empty(), "{place}");
        let memory = self.fake.state.borrow();
        let mut left = memory.domains.values();
        let strange = |handle| self.strangers.contains(&Uuid(handle));
        assert!(left.all(|found| strange(found.created.handle)), "{place}");
        // A domain whose entry somebody destroyed stays, with its nodes.
        let stays = |path: &str| {
            let id = |home| path.strip_prefix(home)?.split('/').next();
            let domain = id("/local/domain/").and_then(|id| id.parse::<DomId>().ok());
            let strangers = self.strangers.iter().map(Uuid::to_string);
            domain.is_some_and(|it| memory.domains.contains_key(&it))
                || id("/vm/").is_some_and(|id| strangers.into_iter().any(|it| it == id))
        };
        let ours = |path: &&String| {
            let names = memory.nodes[*path].0.as_str();
            path.ends_with("/name") && NAMES.contains(&names) && !stays(path)
        };
        assert_eq!(memory.nodes.keys().find(ours), None, "{place}");
    }
}
