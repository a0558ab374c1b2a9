//! A daemon on the fakes, and the requests of its tests.

use crate::journal::Journal;
use crate::log::Log;
use crate::manager::Manager;
use crate::ops::Context;
use crate::recover::recover;
use oxen_config::{DomainConfig, Uuid};
use oxen_devices::{Device, Spec};
use oxen_domain::Result;
use oxen_domain::testing::Fake;
use oxen_domain::world::Clock;
use oxen_domain::world::World;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use xmd_api::{Event, Op, Subject};

/// A directory of its own for each test, removed at the end.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("xmd-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        std::fs::write(path.join("kernel"), oxen_domain::testing::sample_kernel())
            .expect("a kernel");
        Self(path)
    }

    pub(super) fn journal(&self) -> Journal {
        Journal::open(&self.0.join("journal")).expect("a journal")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn random() -> Result<[u8; 16]> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    Ok(bytes)
}

pub(super) fn config(scratch: &Scratch, more: &str) -> DomainConfig {
    let kernel = scratch.0.join("kernel");
    let text = format!(
        "type='pvh'\nname='demo'\nkernel='{}'\nmemory=32\n{more}",
        kernel.display()
    );
    oxen_config::parse("test", text.as_bytes(), &[])
        .expect("a good file")
        .config
}

/// A daemon on the fakes: the events that its clients got are in `events`.
pub(super) struct Rig {
    pub(super) fake: Fake,
    pub(super) manager: Mutex<Manager>,
    devices: Mutex<()>,
    pub(super) log: Log,
    cache: oxen_domain::image::Cache,
    pub(super) events: RefCell<Vec<Event>>,
    pub(super) device: fn(&Spec) -> Result<Box<dyn Device>>,
}

impl Rig {
    pub(super) fn start(scratch: &Scratch, fake: &Fake) -> (Self, Vec<Uuid>) {
        let log = Log::open(&scratch.0.join("log"), false);
        let mut store = fake.clone();
        let mut world = World {
            hypervisor: fake,
            store: &mut store,
            clock: fake,
        };
        let (manager, restart) = recover(&mut world, scratch.journal(), &log).expect("it starts");
        (Self::with(scratch, fake, manager), restart)
    }

    /// After a recovery.
    pub(super) fn with(scratch: &Scratch, fake: &Fake, manager: Manager) -> Self {
        Self {
            fake: fake.clone(),
            manager: Mutex::new(manager),
            devices: Mutex::new(()),
            log: Log::open(&scratch.0.join("log"), false),
            cache: oxen_domain::image::Cache::default(),
            events: RefCell::new(Vec::new()),
            device: Spec::device,
        }
    }

    pub(super) fn run<T>(&self, work: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.run_by(&self.fake, work)
    }

    pub(super) fn run_by<T>(
        &self,
        clock: &dyn Clock,
        work: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T {
        let mut store = self.fake.clone();
        let announce = |event| self.events.borrow_mut().push(event);
        work(&mut Context {
            world: World {
                hypervisor: &self.fake,
                store: &mut store,
                clock,
            },
            manager: &self.manager,
            devices: &self.devices,
            log: &self.log,
            cache: &self.cache,
            random,
            now: || 1000,
            device: self.device,
            announce: &announce,
        })
    }

    pub(super) fn create(&self, config: DomainConfig) -> Result<Subject> {
        self.run(|context| context.create(config, false, &mut |_| {}))
    }

    pub(super) fn perform(&self, op: Op) -> Result<serde_json::Value> {
        self.run(|context| context.perform(op, &mut |_| {}))
    }

    /// One round of the watcher.
    pub(super) fn reap(&self) {
        for end in self.run(|context| context.look()).expect("the hypervisor") {
            self.run(|context| context.finish(&end)).expect("its end");
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        let manager = self.manager.lock().expect("no panic");
        manager
            .entries()
            .map(|entry| entry.config.name.clone())
            .collect()
    }
}

pub(super) fn files(scratch: &Path) -> usize {
    std::fs::read_dir(scratch.join("journal"))
        .expect("the journal")
        .count()
}

pub(super) fn nothing_left(fake: &Fake, scratch: &Scratch, when: &str) {
    let state = fake.state.borrow();
    assert!(state.domains.is_empty(), "{when}: a domain is left");
    assert!(
        state.nodes.is_empty(),
        "{when}: {:?}",
        state.nodes.keys().next()
    );
    assert_eq!(state.free_pages, 256 * 256, "{when}: memory is left");
    assert_eq!(files(&scratch.0), 0, "{when}: the journal has an entry");
}
