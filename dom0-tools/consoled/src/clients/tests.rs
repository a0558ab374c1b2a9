//! Tests of this module.

use std::io::{BufRead, BufReader};

use super::*;

#[derive(Default)]
struct Fake {
    there: bool,
    typed: Vec<u8>,
    room: usize,
}

impl Consoles for Fake {
    fn find(&self, domain: u16) -> Option<(String, Vec<u8>)> {
        (self.there && domain == 5).then(|| ("demo".to_owned(), b"old output\n".to_vec()))
    }
    fn input_room(&self, _: u16) -> usize {
        self.room
    }
    fn type_in(&mut self, _: u16, bytes: &[u8]) {
        self.typed.extend_from_slice(bytes);
        self.room -= bytes.len();
    }
}

struct Test {
    clients: Clients,
    fake: Fake,
    path: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

impl Test {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let fake = Fake {
            room: 100,
            ..Fake::default()
        };
        Self {
            clients: Clients::new(listener),
            fake,
            path,
            _dir: dir,
        }
    }

    fn connect(&self, line: &str) -> BufReader<UnixStream> {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    fn turn(&mut self, now: Instant) {
        self.clients.take_in(&mut self.fake, now);
        self.clients.send();
    }
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line
}

#[test]
fn waits_attaches_talks_and_ends() {
    let mut test = Test::new();
    let now = Instant::now();
    let mut one = test.connect("5\n");
    test.turn(now);
    assert!(test.clients.are_waiting());
    test.fake.there = true;
    let mut two = test.connect("5 noreplay\n");
    test.turn(now);
    assert_eq!(
        (line(&mut one), line(&mut one), line(&mut two)),
        (
            "ok demo\n".into(),
            "old output\n".into(),
            "ok demo\n".into()
        )
    );
    one.get_mut().write_all(b"typed").unwrap();
    two.get_mut().write_all(b"-too").unwrap();
    test.turn(now);
    assert_eq!(test.fake.typed, b"typed-too");
    test.clients.output(5, b"both see this\n");
    test.clients.output(6, b"nobody sees this\n");
    test.clients.console_ended(5);
    test.turn(now);
    for reader in [&mut one, &mut two] {
        assert_eq!(
            (line(reader), line(reader)),
            ("both see this\n".into(), String::new())
        );
    }
    assert!(test.clients.open.is_empty());
}

#[test]
fn patience_ends_and_nonsense_is_refused() {
    let mut test = Test::new();
    let now = Instant::now();
    let mut waiting = test.connect("7\n");
    let mut wrong = [
        test.connect("x\n"),
        test.connect("5 y\n"),
        test.connect(&"5".repeat(99)),
    ];
    test.turn(now);
    test.turn(now + PATIENCE);
    assert_eq!(
        (line(&mut waiting), line(&mut waiting)),
        ("error domain 7 has no console\n".into(), String::new())
    );
    for reader in &mut wrong {
        assert!(line(reader).starts_with("error "));
    }
}

#[test]
fn typing_stops_while_the_guest_does_not_read() {
    let mut test = Test::new();
    let now = Instant::now();
    test.fake.there = true;
    let mut client = test.connect("5\n");
    client.get_mut().write_all(&[b'x'; 500]).unwrap();
    for _ in 0..5 {
        test.turn(now);
    }
    assert_eq!(test.fake.typed.len(), 100);
    test.fake.room = 1000;
    test.turn(now);
    test.turn(now);
    assert_eq!(test.fake.typed.len(), 500);
}
/// D10: `poll` reports the end of a client also when no event was requested.
#[test]
fn a_client_that_left_while_the_guest_does_not_read_is_let_go() {
    let mut test = Test::new();
    let now = Instant::now();
    test.fake.there = true;
    let mut client = test.connect("5\n");
    client.get_mut().write_all(&[b'x'; 3000]).unwrap();
    for _ in 0..5 {
        test.turn(now);
    }
    assert_eq!((test.fake.room, test.clients.open.len()), (0, 1));
    drop(client);
    let mut turns = 0;
    let second = Timespec::try_from(Duration::from_secs(1)).unwrap();
    loop {
        let mut fds = test.clients.poll_fds(&test.fake);
        if rustix::event::poll(&mut fds, Some(&second)).unwrap() == 0 {
            break;
        }
        drop(fds);
        test.turn(now);
        turns += 1;
        assert!(turns < 5, "it spins");
    }
    assert!(test.clients.open.is_empty());
}

#[test]
fn what_a_client_typed_before_it_left_is_typed() {
    let mut test = Test::new();
    let now = Instant::now();
    test.fake.there = true;
    let mut client = test.connect("5\n");
    client.get_mut().write_all(b"poweroff\n").unwrap();
    drop(client);
    for _ in 0..5 {
        test.turn(now);
    }
    assert_eq!(test.fake.typed, b"poweroff\n");
    assert!(test.clients.open.is_empty());
}
