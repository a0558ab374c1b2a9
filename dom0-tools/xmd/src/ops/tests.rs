//! The daemon's work in the fakes: lives and ends, names, and a kill at any moment.

use super::*;
use crate::journal::Journal;
use crate::recover::recover;
use oxen_domain::fake::Fake;
use oxen_domain::ports::{Clock, Hypervisor, Store};
use oxen_sys::hypercall::ShutdownReason;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory of its own for each test, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("xmd-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        std::fs::write(path.join("kernel"), oxen_domain::image::sample_kernel()).expect("a kernel");
        Self(path)
    }

    fn journal(&self) -> Journal {
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

fn config(scratch: &Scratch, more: &str) -> DomainConfig {
    let kernel = scratch.0.join("kernel");
    let text = format!(
        "type='pvh'\nname='demo'\nkernel='{}'\nmemory=32\n{more}",
        kernel.display()
    );
    oxen_config::parse("test", text.as_bytes(), &[])
        .expect("a good file")
        .config
}

/// A daemon on the fakes: what it was told is in `events`.
struct Rig {
    fake: Fake,
    manager: Mutex<Manager>,
    devices: Mutex<()>,
    log: Log,
    cache: oxen_domain::image::Cache,
    events: RefCell<Vec<Event>>,
}

impl Rig {
    fn start(scratch: &Scratch, fake: &Fake) -> (Self, Vec<Uuid>) {
        let log = Log::open(&scratch.0.join("log"), false);
        let mut store = fake.clone();
        let mut world = World {
            hypervisor: fake,
            store: &mut store,
            clock: fake,
        };
        let (manager, restart) = recover(&mut world, scratch.journal(), &log).expect("it starts");
        let rig = Self {
            fake: fake.clone(),
            manager: Mutex::new(manager),
            devices: Mutex::new(()),
            log,
            cache: oxen_domain::image::Cache::default(),
            events: RefCell::new(Vec::new()),
        };
        (rig, restart)
    }

    fn run<T>(&self, work: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.run_by(&self.fake, work)
    }

    fn run_by<T>(&self, clock: &dyn Clock, work: impl FnOnce(&mut Context<'_>) -> T) -> T {
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
            announce: &announce,
        })
    }

    fn create(&self, config: DomainConfig) -> Result<Subject> {
        self.run(|context| context.create(config, false, &mut |_| {}))
    }

    fn perform(&self, op: Op) -> Result<serde_json::Value> {
        self.run(|context| context.perform(op, &mut |_| {}))
    }

    /// One round of the watcher.
    fn reap(&self) {
        for end in self.run(|context| context.look()).expect("the hypervisor") {
            self.run(|context| context.finish(&end)).expect("its end");
        }
    }

    fn names(&self) -> Vec<String> {
        let manager = self.manager.lock().expect("no panic");
        manager
            .entries()
            .map(|entry| entry.config.name.clone())
            .collect()
    }
}

fn files(scratch: &Path) -> usize {
    std::fs::read_dir(scratch.join("journal"))
        .expect("the journal")
        .count()
}

fn nothing_left(fake: &Fake, scratch: &Scratch, when: &str) {
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

#[test]
fn a_life_from_creation_to_poweroff() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let made = rig.create(config(&scratch, "")).expect("it is created");
    assert!(!fake.state.borrow().domains[&made.domain].paused);
    assert_eq!(files(&scratch.0), 1);
    let error = rig
        .create(config(&scratch, ""))
        .expect_err("the name is taken")
        .to_string();
    assert!(error.contains("of that name"), "{error}");
    rig.perform(Op::Rename {
        domain: "demo".into(),
        name: "other".into(),
    })
    .expect("renamed");
    assert_eq!(rig.names(), ["other"]);
    rig.perform(Op::Pause {
        domain: "other".into(),
    })
    .expect("paused");
    assert!(fake.state.borrow().domains[&made.domain].paused);
    fake.ends(made.domain, ShutdownReason::Poweroff);
    rig.reap();
    nothing_left(&fake, &scratch, "after poweroff");
    let kinds = rig.events.borrow();
    assert!(
        matches!(
            kinds[..],
            [
                Event::Started { .. },
                Event::Ended { .. },
                Event::Gone { .. }
            ]
        ),
        "{kinds:?}"
    );
}

#[test]
fn a_reboot_keeps_name_and_uuid() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let first = rig.create(config(&scratch, "")).expect("it is created");
    fake.ends(first.domain, ShutdownReason::Reboot);
    rig.reap();
    let domains = fake.domains().expect("the fake");
    assert_eq!(domains.len(), 1);
    assert_ne!(domains[0].domain, first.domain);
    assert_eq!(domains[0].handle, first.uuid.0);
    assert_eq!(rig.names(), ["demo"]);
    rig.reap();
    assert_eq!(
        fake.domains().expect("the fake").len(),
        1,
        "it is not restarted again"
    );
}

#[test]
fn rename_restart_keeps_the_dead_one() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let first = rig
        .create(config(&scratch, "on_crash='rename-restart'"))
        .expect("it is created");
    fake.ends(first.domain, ShutdownReason::Crash);
    rig.reap();
    rig.reap();
    let mut names = rig.names();
    names.sort();
    assert_eq!(names, ["demo", "demo-1"]);
    assert_eq!(
        fake.node(&format!("/local/domain/{}/name", first.domain))
            .as_deref(),
        Some("demo-1")
    );
    rig.perform(Op::Destroy {
        domain: "demo-1".into(),
    })
    .expect("destroyed");
    rig.perform(Op::Destroy {
        domain: "demo".into(),
    })
    .expect("destroyed");
    nothing_left(&fake, &scratch, "after both are destroyed");
}

#[test]
fn preserve_and_suspend_leave_it_where_it_is() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let made = rig
        .create(config(&scratch, "on_crash='preserve'"))
        .expect("it is created");
    fake.ends(made.domain, ShutdownReason::Suspend);
    rig.reap();
    rig.perform(Op::Resume {
        domain: "demo".into(),
    })
    .expect("it goes on");
    assert!(
        rig.perform(Op::Resume {
            domain: "demo".into()
        })
        .is_err(),
        "it runs"
    );
    fake.ends(made.domain, ShutdownReason::Crash);
    rig.reap();
    rig.reap();
    assert_eq!(fake.domains().expect("the fake").len(), 1);
    assert_eq!(rig.events.borrow().len(), 2, "its end is told once");
    rig.perform(Op::Destroy {
        domain: "demo".into(),
    })
    .expect("destroyed");
    nothing_left(&fake, &scratch, "after destroy");
}

#[test]
fn domain_0_is_not_touched_and_strangers_are() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let want = oxen_sys::hypercall::CreateDomain::pvh([9; 16], 1);
    let stranger = fake.create(&want).expect("another toolstack's");
    assert!(rig.perform(Op::Destroy { domain: "0".into() }).is_err());
    rig.reap();
    assert_eq!(
        fake.domains().expect("the fake").len(),
        1,
        "not ours to reap"
    );
    rig.perform(Op::Destroy {
        domain: stranger.to_string(),
    })
    .expect("asked for by number");
    nothing_left(&fake, &scratch, "after destroy");
}

#[test]
fn a_bad_kernel_leaves_nothing() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    std::fs::write(scratch.0.join("kernel"), b"no kernel").expect("a file");
    let error = rig
        .create(config(&scratch, ""))
        .expect_err("no kernel")
        .to_string();
    assert!(
        error.contains("neither a bzImage nor an ELF image"),
        "{error}"
    );
    nothing_left(&fake, &scratch, "after a bad kernel");
    assert!(rig.names().is_empty());
}

#[test]
fn a_failure_at_any_call_leaves_nothing() {
    for call in 0.. {
        let (scratch, fake) = (Scratch::new(), Fake::new(256));
        let (rig, _) = Rig::start(&scratch, &fake);
        fake.fail_at(call);
        let made = rig.create(config(&scratch, ""));
        if !fake.has_failed() {
            made.expect("no call failed any more");
            return;
        }
        let error = made.expect_err("a call failed");
        nothing_left(&fake, &scratch, &format!("call {call}: {error}"));
    }
}

#[test]
fn a_restart_adopts_what_runs() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let made = Rig::start(&scratch, &fake)
        .0
        .create(config(&scratch, ""))
        .expect("it is created");
    let (rig, restart) = Rig::start(&scratch, &fake);
    assert!(restart.is_empty());
    assert_eq!(fake.domains().expect("the fake").len(), 1);
    fake.ends(made.domain, ShutdownReason::Poweroff);
    rig.reap();
    nothing_left(&fake, &scratch, "after poweroff");
}

#[test]
fn a_restart_undoes_what_was_half_built() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let made = Rig::start(&scratch, &fake)
        .0
        .create(config(&scratch, ""))
        .expect("it is created");
    // As if the kill had come before the last step, with and without the number noted.
    for number in [Some(made.domain), None] {
        if number.is_none() {
            Rig::start(&scratch, &fake)
                .0
                .create(config(&scratch, ""))
                .expect("it is created");
        }
        let (mut entries, _) = scratch.journal().read().expect("the journal");
        let mut entry = entries.pop().expect("one entry");
        entry.state = State::Building;
        entry.domain = number;
        scratch.journal().write(&entry).expect("the journal");
        let (_, restart) = Rig::start(&scratch, &fake);
        assert!(restart.is_empty());
        nothing_left(&fake, &scratch, "after the restart");
    }
}

#[test]
fn a_restart_finishes_a_start_and_a_restart() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let made = Rig::start(&scratch, &fake)
        .0
        .create(config(&scratch, ""))
        .expect("it is created");
    let note = |state| {
        let (mut entries, _) = scratch.journal().read().expect("the journal");
        let mut entry = entries.pop().expect("one entry");
        entry.state = state;
        scratch.journal().write(&entry).expect("the journal");
    };
    fake.pause(made.domain).expect("the fake");
    note(State::Starting);
    Rig::start(&scratch, &fake);
    assert!(!fake.state.borrow().domains[&made.domain].paused);
    note(State::Restarting);
    let (rig, restart) = Rig::start(&scratch, &fake);
    assert!(fake.domains().expect("the fake").is_empty());
    for uuid in restart {
        rig.run(|context| context.restart_unfinished(uuid))
            .expect("it is built");
    }
    assert_eq!(fake.domains().expect("the fake").len(), 1);
    assert_eq!(rig.names(), ["demo"]);
}

#[test]
fn a_restart_removes_nodes_of_the_dead() {
    let (scratch, mut fake) = (Scratch::new(), Fake::new(256));
    let made = Rig::start(&scratch, &fake)
        .0
        .create(config(&scratch, ""))
        .expect("it is created");
    fake.destroy(made.domain).expect("behind the daemon's back");
    fake.apply(&[oxen_domain::ports::Change::Write {
        path: "/local/domain/77/name".into(),
        value: "x".into(),
    }])
    .expect("the store");
    Rig::start(&scratch, &fake);
    nothing_left(&fake, &scratch, "after the restart");
}

#[test]
fn a_guest_whose_card_cannot_be_had_is_not_made() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    for (vifs, cause) in [
        ("'gatewaydev=eth0'", "routed networks"),
        ("'','','','','','','','',''", "8 already"),
        ("'devid=1','devid=1'", "number 1 already"),
    ] {
        let config = config(&scratch, &format!("vif=[{vifs}]"));
        let error = rig.create(config).expect_err(vifs).to_string();
        assert!(error.contains(cause), "{error}");
        nothing_left(&fake, &scratch, vifs);
    }
}

#[test]
fn a_guest_whose_disk_cannot_be_had_is_not_made() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let config = config(&scratch, "disk=['/no/such/image,raw,xvda']");
    let error = rig.create(config).expect_err("no image").to_string();
    assert!(error.contains("/no/such/image"), "{error}");
    nothing_left(&fake, &scratch, "after a missing image");
}

#[test]
fn a_dead_domain_that_lingers_holds_neither_name_nor_uuid() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let config = config(&scratch, "uuid='01234567-89ab-cdef-0123-456789abcdef'");
    rig.create(config.clone()).expect("it is created");
    fake.linger.set(true);
    let mut warnings = 0;
    let destroy = Op::Destroy {
        domain: "demo".into(),
    };
    rig.run(|context| context.perform(destroy, &mut |_| warnings += 1))
        .expect("it is dead");
    assert_eq!(warnings, 1);
    assert!(rig.names().is_empty());
    let again = rig.create(config).expect("name and uuid are free");
    // And a restart of the daemon takes the living one for its own.
    let (rig, _) = Rig::start(&scratch, &fake);
    fake.linger.set(false);
    fake.ends(again.domain, ShutdownReason::Poweroff);
    rig.reap();
    assert!(rig.names().is_empty());
    assert_eq!(files(&scratch.0), 0);
}

/// While somebody waits, the domain's end is finished.
struct Reaper<'a> {
    rig: &'a Rig,
    end: RefCell<Option<crate::manager::End>>,
}

impl Clock for Reaper<'_> {
    fn sleep(&self, _: core::time::Duration) {
        if let Some(end) = self.end.take() {
            self.rig
                .run(|context| context.finish(&end))
                .expect("its end");
        }
    }
}

#[test]
fn who_destroys_or_creates_waits_for_an_end_under_way() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let ended = || {
        let made = rig.create(config(&scratch, "")).expect("it is created");
        fake.ends(made.domain, ShutdownReason::Crash);
        let end = rig.run(|context| context.look()).expect("the hypervisor");
        let end = RefCell::new(end.into_iter().next());
        Reaper { rig: &rig, end }
    };
    let clock = ended();
    let destroyed = rig.run_by(&clock, |context| {
        let domain = "demo".to_owned();
        context.perform(Op::Destroy { domain }, &mut |_| {})
    });
    assert_eq!(destroyed.expect("it is gone")["name"], "demo");
    nothing_left(&fake, &scratch, "after the destruction");
    let clock = ended();
    let created = rig.run_by(&clock, |context| {
        context.create(config(&scratch, ""), false, &mut |_| {})
    });
    created.expect("its name is free");
    assert_eq!(rig.names(), ["demo"]);
    // An end that nobody finishes is told.
    let domain = fake.domains().expect("the fake")[0].domain;
    fake.ends(domain, ShutdownReason::Crash);
    rig.run(|context| context.look()).expect("the hypervisor");
    let error = rig
        .create(config(&scratch, ""))
        .expect_err("a driver hangs");
    assert!(
        error.to_string().contains("still being taken down"),
        "{error}"
    );
}
