//! The scripts that keep daemons and their logs, run by the host's shell in a directory that stands
//! for dom0.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use oxen_harness::images;
use tempfile::TempDir;

/// dom0, as far as the scripts see it. `sleep` does not.
struct Dom0 {
    root: TempDir,
    supervisor: Option<Child>,
}

fn program(path: &Path, text: &str) {
    fs::write(path, text).expect("a program");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a program");
}

impl Dom0 {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        for directory in ["bin", "run/oxen", "run/xenstored", "var/log", "dev"] {
            fs::create_dir_all(root.path().join(directory)).expect("a directory");
        }
        let dom0 = Self {
            root,
            supervisor: None,
        };
        let scripts = images::root().join("boot/initramfs");
        for name in ["oxen-supervise", "oxen-log"] {
            let text = fs::read_to_string(scripts.join(name)).expect("the script");
            program(&dom0.path(&format!("bin/{name}")), &text);
        }
        program(&dom0.path("bin/sleep"), "#!/bin/sh\nexec /bin/sleep 0.01\n");
        dom0
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = self.path("bin");
        let mut command = Command::new("sh");
        command
            .arg(bin.join(words[0]))
            .args(&words[1..])
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("OXEN_ROOT", self.root.path())
            .stderr(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    fn supervise(&mut self, name: &str) {
        let child = self.command(&["oxen-supervise", name]).spawn();
        self.supervisor = Some(child.expect("a shell"));
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn wait_for(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !done(self) {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn stop(&mut self, name: &str) {
        fs::write(self.path(&format!("run/oxen/{name}.stop")), "").expect("a file");
        if let Some(mut supervisor) = self.supervisor.take() {
            supervisor.wait().expect("its end");
        }
    }
}

impl Drop for Dom0 {
    fn drop(&mut self) {
        if let Some(supervisor) = &mut self.supervisor {
            let _ = supervisor.kill();
        }
    }
}

#[test]
fn a_store_that_dies_at_its_start_loses_its_journal_and_that_is_said() {
    let mut dom0 = Dom0::new();
    // It cannot live with this journal.
    program(
        &dom0.path("bin/xenstored"),
        "#!/bin/sh\necho no >>$OXEN_ROOT/starts\n[ -e $OXEN_ROOT/run/xenstored/journal ] && exit 1\n\
         [ -e $OXEN_ROOT/up ] && exit 0\ntouch $OXEN_ROOT/up\nexec /bin/sleep 1000\n",
    );
    fs::write(dom0.path("run/xenstored/journal"), "poison").expect("a journal");
    dom0.supervise("xenstored");
    dom0.wait_for("it never comes up", |dom0| dom0.path("up").exists());
    let pid = || dom0.read("run/oxen/xenstored.pid");
    dom0.wait_for("no pid", |dom0| {
        !dom0.read("run/oxen/xenstored.pid").is_empty()
    });
    assert_eq!(dom0.read("starts").lines().count(), 6);
    assert_eq!(dom0.read("run/xenstored/journal.aside"), "poison");
    assert!(!dom0.path("run/xenstored/journal").exists());
    dom0.wait_for("it is not said", |dom0| {
        dom0.read("var/log/xenstored.log").contains("begins anew")
    });
    let said = dom0.read("var/log/xenstored.log");
    assert_eq!(said.matches("ended with status 1").count(), 5, "{said}");
    let kill = Command::new("kill").arg(pid().trim()).status();
    assert!(kill.expect("kill").success());
    dom0.stop("xenstored");
    assert!(
        !dom0.path("run/oxen/xenstored.pid").exists(),
        "it goes with the process"
    );
}

#[test]
fn other_daemons_keep_what_they_have() {
    let mut dom0 = Dom0::new();
    program(
        &dom0.path("bin/xmd"),
        "#!/bin/sh\necho start >>$OXEN_ROOT/starts\nexit 1\n",
    );
    fs::write(dom0.path("run/xenstored/journal"), "whole").expect("a journal");
    dom0.supervise("xmd");
    dom0.wait_for("it gives up", |dom0| {
        dom0.read("starts").lines().count() >= 12
    });
    dom0.stop("xmd");
    assert_eq!(dom0.read("run/xenstored/journal"), "whole");
}

#[test]
fn a_log_keeps_its_last_lines_and_a_bound() {
    let dom0 = Dom0::new();
    let log = dom0.path("var/log/x.log");
    let file = log.to_str().expect("text").to_owned();
    fs::write(&log, "from before\n").expect("a log");
    let lines: String = (0..2000)
        .map(|n| format!("line {n} \\ \"of\" many %s\n"))
        .collect();
    let input = dom0.path("input");
    fs::write(&input, lines).expect("lines");
    let status = dom0
        .command(&["oxen-log", &file, "4096"])
        .stdin(fs::File::open(&input).expect("lines"))
        .status();
    assert!(status.expect("a shell").success());
    let (new, old) = (dom0.read("var/log/x.log"), dom0.read("var/log/x.log.1"));
    let both = format!("{old}{new}");
    assert!(
        new.len() <= 4200 && old.len() <= 4200,
        "{} {}",
        new.len(),
        old.len()
    );
    assert!(both.len() > 4000);
    assert!(both.ends_with("line 1999 \\ \"of\" many %s\n"));
    let first: usize = both
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("a number");
    assert_eq!(
        both.lines().count(),
        2000 - first,
        "nothing between is missing"
    );
    let names: Vec<_> = fs::read_dir(dom0.path("var/log"))
        .expect("the logs")
        .collect();
    assert_eq!(names.len(), 2);
}
