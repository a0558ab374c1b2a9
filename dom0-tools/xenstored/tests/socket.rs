//! The daemon as processes of dom0 see it, killed and started again.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use xenstored::client::{Client, Error, Operations, StoreError};

struct Daemon {
    dir: tempfile::TempDir,
    child: Child,
}

impl Daemon {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = spawn(&dir);
        Self { dir, child }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    fn connect(&self) -> Client {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match Client::connect_to(&self.socket()) {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// kill -9, and start at once, as a supervisor does.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.dir);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &tempfile::TempDir) -> Child {
    Command::new(env!("CARGO_BIN_EXE_xenstored"))
        .arg("--no-xen")
        .arg("--socket")
        .arg(dir.path().join("socket"))
        .arg("--state")
        .arg(dir.path().join("state"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn serves_clients() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.write("/a/b", "value").unwrap();
    assert_eq!(client.read_string("/a/b").unwrap(), "value");
    assert_eq!(client.try_read("/a/c").unwrap(), None);
    assert_eq!(client.directory("/a").unwrap(), ["b"]);
    assert_eq!(client.get_domain_path(3).unwrap(), "/local/domain/3");
    assert!(client.control(&["help"]).unwrap().contains("check"));
    for n in 0..1000 {
        client.mkdir(&format!("/many/name-{n:04}")).unwrap();
    }
    let names = client.directory("/many").unwrap();
    assert_eq!((names.len(), names[999].as_str()), (1000, "name-0999"));
    let mut other = daemon.connect();
    other.watch("/a", "t").unwrap();
    assert_eq!(
        other
            .next_event(Some(Duration::from_secs(5)))
            .unwrap()
            .unwrap()
            .path,
        "/a"
    );
    client.rm("/a/b").unwrap();
    let event = other
        .next_event(Some(Duration::from_secs(5)))
        .unwrap()
        .unwrap();
    assert_eq!((event.path.as_str(), event.token.as_str()), ("/a/b", "t"));
    assert_eq!(other.next_event(Some(Duration::ZERO)).unwrap(), None);
}

#[test]
fn transactions_of_two_clients_collide_and_are_tried_again() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.write("/counter", "0").unwrap();
    let add = |mut client: Client| {
        for _ in 0..50 {
            client
                .transact(|t| {
                    let count: u32 = t.read_string("/counter")?.parse().unwrap();
                    t.write("/counter", (count + 1).to_string())
                })
                .unwrap();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let client = daemon.connect();
            scope.spawn(move || add(client));
        }
    });
    assert_eq!(client.read_string("/counter").unwrap(), "200");
}

#[test]
fn nothing_that_was_answered_is_lost() {
    let mut daemon = Daemon::start();
    let mut written = 0;
    for round in 0..5 {
        let mut client = daemon.connect();
        for n in 0..written {
            assert_eq!(
                client.read_string(&format!("/n/{n}")).unwrap(),
                n.to_string()
            );
        }
        assert!(round == 0 || client.is_introduced(7).unwrap());
        if round == 0 {
            client.introduce(7, 1, 1).unwrap();
        }
        // Enough to have the journal rewritten now and then.
        client.write("/big", vec![b'x'; 4000]).unwrap();
        for _ in 0..200 {
            client
                .write(&format!("/n/{written}"), written.to_string())
                .unwrap();
            client.write("/big", vec![b'x'; 4000]).unwrap();
            written += 1;
        }
        daemon.kill();
        let gone = client.read("/n/0").unwrap_err();
        assert!(gone.is_disconnect(), "{gone}");
    }
    let mut client = daemon.connect();
    assert_eq!(client.directory("/n").unwrap().len(), written);
    assert_eq!(client.control(&["check"]).unwrap(), "OK");
}

#[test]
fn survives_being_killed_in_the_midst_of_work() {
    let mut daemon = Daemon::start();
    let mut answered = 0u32;
    for _ in 0..5 {
        let client = daemon.connect();
        let worker = std::thread::spawn(move || count_up(client));
        std::thread::sleep(Duration::from_millis(30));
        daemon.kill();
        answered = answered.max(worker.join().unwrap());
        // All requests with a reply are done; one more may be done whose reply was lost.
        let now: u32 = daemon
            .connect()
            .try_read("/count")
            .unwrap()
            .map_or(0, |t| t.parse().unwrap());
        assert!(
            now == answered || now == answered + 1,
            "{now} after {answered}"
        );
        answered = now;
    }
    assert!(answered > 0);
}

/// Counts up in transactions until the daemon dies; returns the last count that got a reply.
fn count_up(mut client: Client) -> u32 {
    let Ok(count) = client.try_read("/count") else {
        return 0;
    };
    let mut count = count.map_or(0, |t| t.parse().unwrap());
    loop {
        match client.transact(|t| t.write("/count", (count + 1).to_string())) {
            Ok(()) => count += 1,
            Err(Error::Io(_)) => return count,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_client_that_breaks_the_protocol_loses_only_its_connection() {
    let daemon = Daemon::start();
    let mut good = daemon.connect();
    let mut bad = UnixStream::connect(daemon.socket()).unwrap();
    bad.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let too_long = [2u32, 1, 0, 4097].map(u32::to_le_bytes).concat();
    bad.write_all(&too_long).unwrap();
    assert_eq!(bad.read(&mut [0; 16]).unwrap(), 0);
    // Half a request, and gone.
    let mut half = UnixStream::connect(daemon.socket()).unwrap();
    half.write_all(&too_long[..7]).unwrap();
    drop(half);
    // Many requests, and no reading of the replies.
    let mut deaf = UnixStream::connect(daemon.socket()).unwrap();
    deaf.set_nonblocking(true).unwrap();
    let list = [1u32, 1, 0, 2].map(u32::to_le_bytes).concat();
    for _ in 0..100_000 {
        if deaf.write(&[&list[..], b"/\0"].concat()).is_err() {
            break;
        }
    }
    good.write("/still", "here").unwrap();
    assert_eq!(good.read_string("/still").unwrap(), "here");
    assert_eq!(
        good.rm("/nothing/here").unwrap_err().store(),
        Some(StoreError::NoEnt)
    );
}

#[test]
fn the_command_line_does_what_it_says() {
    let daemon = Daemon::start();
    drop(daemon.connect());
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_xenstore"))
            .env("XENSTORED_PATH", daemon.socket())
            .args(args)
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let ok = |text: &str| (0, text.to_owned());
    assert_eq!(run(&["write", "/a/b", "1", "/a/c", "x\x1b[m"]), ok(""));
    assert_eq!(run(&["read", "/a/b"]), ok("1\n"));
    assert_eq!(run(&["read", "-p", "/a/b"]), ok("/a/b: 1\n"));
    assert_eq!(run(&["list", "/a"]), ok("b\nc\n"));
    assert_eq!(run(&["chmod", "-r", "/a", "n0", "r7"]), ok(""));
    assert_eq!(
        run(&["ls", "-p", "/a"]),
        ok("b = \"1\"   (n0,r7)\nc = \"x\\x1b[m\"   (n0,r7)\n")
    );
    assert_eq!(
        run(&["ls", "-f", "/a"]),
        ok("/a/b = \"1\"\n/a/c = \"x\\x1b[m\"\n")
    );
    assert_eq!(run(&["exists", "/a/b"]).0, 0);
    assert_eq!(run(&["exists", "/a/b", "/a/x"]).0, 1);
    assert_eq!(run(&["watch", "-n", "1", "/a"]), ok("/a\n"));
    assert_eq!(
        run(&["watch", "-t", "0", "-n", "2", "/a"]),
        (1, "/a\n".to_owned())
    );
    assert_eq!(run(&["rm", "/a/b"]), ok(""));
    assert_eq!(run(&["rm", "-t", "/a/c"]), ok(""));
    assert_eq!(run(&["exists", "/a"]).0, 1);
    assert_eq!(run(&["read", "/a"]).0, 2);
    assert_eq!(run(&["write", "/a"]).0, 2);
    assert_eq!(run(&["write", "/a", "b", "/c"]).0, 2);
}

/// Xen's programs are one of ours under their names, with their options.
#[test]
fn the_programs_of_xen_by_their_names() {
    let daemon = Daemon::start();
    drop(daemon.connect());
    let run = |line: &str| {
        let mut words = line.split(' ');
        let name = daemon.dir.path().join(words.next().unwrap());
        if !name.exists() {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_xenstore"), &name).unwrap();
        }
        let output = Command::new(&name)
            .env("XENSTORED_PATH", daemon.socket())
            .args(words)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap(), text)
    };
    let ok = |text: &str| (0, text.to_owned());
    assert_eq!(run("xenstore-write -s /a/b one /a/c \x1b[m"), ok(""));
    assert_eq!(run("xenstore-read /a/b"), ok("one\n"));
    assert_eq!(run("xenstore-read -R /a/c"), ok("\x1b[m\n"));
    assert_eq!(run("xenstore-list /a"), ok("b\nc\n"));
    assert_eq!(run("xenstore-list -p /a"), ok("/a/b\n/a/c\n"));
    assert_eq!(run("xenstore-chmod -u /a/b n0 r7"), ok(""));
    assert_eq!(
        run("xenstore-ls -f -p -w /a"),
        ok("/a/b = \"one\"   (n0,r7)\n/a/c = \"\\x1b[m\"   (n0)\n")
    );
    assert!(
        run("xenstore-ls -f -p /")
            .1
            .contains("/a = \"\"   (n0,r7)\n")
    );
    assert_eq!(run("xenstore-exists /a/b"), ok(""));
    assert_eq!(run("xenstore-watch -n 1 /a"), ok("/a\n"));
    assert_eq!(run("xenstore-rm -t /a/b"), ok(""));
    assert_eq!(run("xenstore-exists /a/b").0, 1);
    assert_ne!(run("xenstore-read /a/b").0, 0);
    assert_eq!(run("xenstore-control quota set nodes 5"), ok("OK\n"));
    assert!(
        run("xenstore-control quota")
            .1
            .starts_with("nodes            :        5 ")
    );
    assert_ne!(run("xenstore-control quota set nonsense 5").0, 0);
    let log = daemon.dir.path().join("elsewhere.log");
    assert_eq!(
        run(&format!("xenstore-control logfile {}", log.display())),
        ok("OK\n")
    );
    assert_eq!(run("xenstore-control print hello"), ok("OK\n"));
    assert_eq!(std::fs::read_to_string(log).unwrap(), "xenstored: hello\n");
    assert_ne!(run("xenstore-control logfile /not/there/at/all").0, 0);
}
