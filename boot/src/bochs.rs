//! `./x run --bochs`: the same disc in Bochs, whose emulated Intel CPUs have VT-x with EPT.
//!
//! Bochs connects its COM1 to a port of ours on the loopback interface, which this module joins to
//! the terminal, or reads a command's output from. Debian's build starts in its debugger: a file of
//! `continue` commands gets it going. Its text display wants a terminal, which `script` makes up.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use oxen_harness::images;

use crate::compile::{make_parent, write_whole};
use crate::exec::command;

/// The models that were tried: see docs on emulators. This one has all that we use.
pub(crate) const MODEL: &str = "corei7_haswell_4770";
/// Saves some ten seconds there.
pub(crate) const DOM0_ARGS: &str = "mitigations=off nopti rodata=off cryptomgr.notests";
/// More gets slow.
pub(crate) const LARGEST_MIB: u32 = 2048;

/// Bytes that it may write into one file before it is ended.
const LOG_LIMIT: u64 = 2 << 30;

/// Each reset and each signal stops in the debugger once.
const CONTINUES: usize = 50;
const ESCAPE: u8 = 0x1d;

/// A Bochs machine to start.
pub(crate) struct Bochs {
    pub(crate) model: String,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u32,
    pub(crate) disc: PathBuf,
    /// No longer than this.
    pub(crate) limit: Option<Duration>,
}

struct Running {
    child: Child,
    serial: TcpStream,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bochs {
    fn start(&self) -> Result<Running> {
        ensure!(
            self.memory_mib <= LARGEST_MIB,
            "Bochs with more than {LARGEST_MIB} MiB is too slow: use --mem"
        );
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let directory = images::target_dir().join("run");
        let name = format!("bochs-{}", std::process::id());
        let (config, debugger) = (
            directory.join(format!("{name}.rc")),
            directory.join(format!("{name}.dbg")),
        );
        make_parent(&config)?;
        let log = directory.join(format!("{name}.log"));
        let port = listener.local_addr()?.port();
        write_whole(&config, self.config(port, &log).as_bytes())?;
        write_whole(&debugger, "c\n".repeat(CONTINUES).as_bytes())?;
        // A guest in an endless loop of faults is a line of its log every few instructions.
        let mut line = format!(
            "prlimit --fsize={LOG_LIMIT} bochs -q -f '{}' -rc '{}'",
            config.display(),
            debugger.display()
        );
        if let Some(limit) = self.limit {
            line = format!("timeout -k 5 {} {line}", limit.as_secs());
        }
        let child = command("script", ["-qec", &line, "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start Bochs")?;
        let serial = accept(&listener, child, &log)?;
        Ok(serial)
    }

    fn config(&self, port: u16, log: &Path) -> String {
        format!(
            "plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, parallel=0, serial=1, gameport=0, iodebug=1\n\
             config_interface: textconfig\n\
             display_library: term\n\
             cpu: model={}, count={}, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=1\n\
             memory: guest={mem}, host={mem}\n\
             romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot\n\
             vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest\n\
             pci: enabled=1, chipset=i440fx\n\
             ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
             ata0-master: type=cdrom, path=\"{}\", status=inserted\n\
             boot: cdrom\n\
             log: {}\n\
             panic: action=fatal\n\
             error: action=report\n\
             info: action=ignore\n\
             debug: action=ignore\n\
             com1: enabled=1, mode=socket-client, dev=127.0.0.1:{port}\n\
             clock: sync=none, time0=utc\n\
             vga: extension=none, update_freq=1\n\
             mouse: enabled=0\n",
            self.model,
            self.cpus,
            self.disc.display(),
            log.display(),
            mem = self.memory_mib,
        )
    }

    /// On the terminal, until the machine or the user (Ctrl-]) ends it.
    pub(crate) fn interactive(&self) -> Result<ExitCode> {
        let running = self.start()?;
        println!("x: Ctrl-] ends Bochs (so does poweroff)");
        let saved = command("stty", ["-g"]).stdin(Stdio::inherit()).output();
        let _ = command("stty", ["raw", "-echo"]).status();
        let mut out = running.serial.try_clone()?;
        let printer = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut buffer) {
                let mut stdout = std::io::stdout().lock();
                let _ = stdout
                    .write_all(&buffer[..count])
                    .and_then(|()| stdout.flush());
            }
        });
        let mut keys = running.serial.try_clone()?;
        std::thread::spawn(move || {
            let mut key = [0];
            while let Ok(1) = std::io::stdin().read(&mut key) {
                if key[0] == ESCAPE || keys.write_all(&key).is_err() {
                    break;
                }
            }
            let _ = keys.shutdown(std::net::Shutdown::Both);
        });
        let _ = printer.join();
        if let Ok(saved) = saved {
            let state = String::from_utf8_lossy(&saved.stdout).trim().to_owned();
            if !state.is_empty() {
                let _ = command("stty", [state]).status();
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Prints what the command in dom0 prints, until its status; the console goes into the log of
    /// that name.
    pub(crate) fn one_command(&self, name: &str) -> Result<ExitCode> {
        let running = self.start()?;
        let path = images::test_log(name);
        make_parent(&path)?;
        let mut log = fs::File::create(&path)?;
        let mut lines = BufReader::new(running.serial.try_clone()?);
        let (mut line, mut begun) = (Vec::new(), false);
        while lines.read_until(b'\n', &mut line)? > 0 {
            log.write_all(&line)?;
            let text = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            let text = text.trim_end_matches(['\r', '\n']);
            if text.contains("PANIC on CPU") {
                bail!("the hypervisor stopped: {text}");
            }
            begun |= text.ends_with("<oxen-begin>");
            if let Some((_, output)) = text.split_once("oxen| ").filter(|_| begun) {
                println!("{output}");
            } else if let Some((_, rest)) = text.split_once("<oxen-status ").filter(|_| begun) {
                let status = rest.split('>').next().unwrap_or_default();
                let status = status
                    .parse::<u8>()
                    .with_context(|| format!("no status in {text:?}"))?;
                return Ok(ExitCode::from(status));
            }
        }
        bail!(
            "Bochs ended before the command did: see its console in {}",
            path.display()
        )
    }
}

fn accept(listener: &TcpListener, child: Child, log: &Path) -> Result<Running> {
    listener.set_nonblocking(true)?;
    let mut child = child;
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Ok((serial, _)) = listener.accept() {
            serial.set_nonblocking(false)?;
            return Ok(Running { child, serial });
        }
        if child.try_wait()?.is_some() || Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            bail!("Bochs did not start: see {}", log.display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
