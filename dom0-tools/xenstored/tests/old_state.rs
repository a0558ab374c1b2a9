//! A journal that the daemon of before wrote (format 1, as of 929ed23) is read, with the record in
//! it that used to end every start.

use std::fs;
use std::path::Path as FilePath;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use xenstored::client::{Client, Operations};
use xenstored::error::StoreError;
use xenstored::journal::{Format, Journal};
use xenstored::path::Path;
use xenstored::record::Record;
use xenstored::server::{Indices, Platform, Restored, Server};

struct NoRings;

impl Platform for NoRings {
    fn connect(&mut self, _: u16, _: u64, _: u32, _: bool) -> Result<Indices, StoreError> {
        Ok(Indices::default())
    }

    fn disconnect(&mut self, _: u16) {}
}

/// Its frames. The first line names the boot, so that is written here.
const FRAMES: &[u8] = include_bytes!("data/journal-1");

fn write(dir: &FilePath) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let head = format!("oxen xenstored journal 1 {}\n", boot.trim());
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("journal"), [head.as_bytes(), FRAMES].concat()).unwrap();
}

fn text(server: &Server, path: &str) -> Option<String> {
    let node = server
        .tree()
        .get(&Path::absolute(path.to_owned()).unwrap())?;
    let perms: Vec<String> = node.perms.iter().map(ToString::to_string).collect();
    Some(format!("{} {}", node.value.escape_ascii(), perms.join(",")))
}

#[test]
fn the_first_format_is_read() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let (_, found) = Journal::open(dir.path()).unwrap();
    assert_eq!((found.format, found.damaged), (Format::WorldReadable, 0));
    let Restored { mut server, aside } = Server::restore(found.records);
    let gone = Record::Gone {
        path: "/local/domain/5/data/x".to_owned(),
    };
    assert_eq!(aside, [gone], "made and removed in one transaction");
    assert!(server.tree().is_consistent());
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(text(&server, "/secret"), some("topsecret r0"));
    server.hide_what_everyone_could_read();
    for (path, expected) in [
        ("/", some(" n0")),
        ("/local/domain", some(" n0")),
        ("/secret", some("topsecret n0")),
        ("/last", some("one n0")),
        ("/local/domain/5", some(" n0,r5")),
        ("/local/domain/5/data/after", some("it n5")),
        ("/local/domain/5/data/x", None),
        ("/local/domain/6/data", some(" n6")),
        ("/local/domain/6/data/y", None),
    ] {
        assert_eq!(text(&server, path), expected, "{path}");
    }
    assert_eq!(server.domains(), [5, 6]);
    let ring = server.ring(5).unwrap();
    assert_eq!((ring.gfn, ring.port), (105, 15));
    assert_eq!((ring.indices.consumed, ring.indices.produced), (300, 402));
    assert_eq!(ring.partial, b"half a request");
    assert!(server.ring(6).unwrap().shutdown_told);
    let has = |wanted: &Record| server.snapshot().contains(wanted);
    assert!(has(&Record::Quota {
        name: "nodes".to_owned(),
        value: 900
    }));
    assert!(has(&Record::Target {
        domain: 6,
        target: Some(5)
    }));
    assert!(has(&Record::TransactionStart { domain: 5, id: 2 }));
    let watches = server.snapshot();
    let watches = watches
        .iter()
        .filter(|record| matches!(record, Record::Watch { .. }));
    assert_eq!(watches.count(), 2);
    server.reconnect(&mut NoRings);
}

#[test]
fn the_daemon_starts_on_it_and_says_what_it_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, state) = (dir.path().join("socket"), dir.path().join("state"));
    write(&state);
    let said = fs::File::create(dir.path().join("log")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_xenstored"))
        .args([FilePath::new("--no-xen"), "--socket".as_ref(), &socket])
        .args([FilePath::new("--state"), &state])
        .stderr(Stdio::from(said))
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut client = loop {
        match Client::connect_to(&socket) {
            Ok(client) => break client,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(client.read_string("/last").unwrap(), "one");
    assert!(client.is_introduced(5).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    let said = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(said.contains("left out of the journal"), "{said}");
    assert!(said.contains("restarted with 2 domains"), "{said}");
    // What it wrote is of today, and whole.
    let (_, found) = Journal::open(&state).unwrap();
    assert_eq!((found.format, found.damaged), (Format::Current, 0));
    assert!(Server::restore(found.records).aside.is_empty());
}
