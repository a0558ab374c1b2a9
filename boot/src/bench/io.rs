//! A guest's disks and network against dom0's own, on the same devices in one run: fio and iperf3
//! of Debian.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};
use oxen_harness::{Disk, DiskBus, Images, Limit, Machine, Nic, NicModel, Vm, images};

use super::figures::{IO, Measured, Samples};
use super::system::{LIMIT, output};
use crate::compile::write_whole;
use crate::initramfs::{self, cpio::Archive};
use crate::tools;

const DISK_MIB: u64 = 256;
const DISKS: [DiskBus; 3] = [DiskBus::Ahci, DiskBus::Nvme, DiskBus::Virtio];
/// As slow beside the emulated CPU as a disk is beside a real one: the disk is the limit, and not
/// the copying.
const LIMIT_OF_SLOW: Limit = Limit {
    bytes: 32 << 20,
    requests: 500,
};

/// All of a figure's values.
type Values = BTreeMap<(String, String), Vec<f64>>;

pub(super) fn measure(only: Option<&str>) -> Result<Vec<Measured>> {
    eprintln!("x: fio and iperf3, in dom0 and in a guest by turns");
    let name = format!("bench-io-{}", std::process::id());
    let directory = images::target_dir().join("run").join(&name);
    fs::create_dir_all(&directory)?;
    let lines = run(&name, &directory);
    let _ = fs::remove_dir_all(&directory);
    let values = parse(&lines?)?;
    let of = |figure: &str, who: &str| {
        let found = values.get(&(figure.to_owned(), who.to_owned()));
        found.and_then(|values| Samples::of(values))
    };
    IO.iter()
        .filter(|figure| only.is_none_or(|only| only == figure.name))
        .map(|figure| {
            let (guest, dom0) = (of(figure.name, "guest"), of(figure.name, "dom0"));
            let (guest, dom0) = guest
                .zip(dom0)
                .with_context(|| format!("nothing was measured of {}", figure.name))?;
            Ok(Measured::beside_dom0(figure, guest, dom0))
        })
        .collect()
}

fn run(name: &str, directory: &Path) -> Result<Vec<String>> {
    let mut images = Images::built()?;
    let (_server, port) = server()?;
    let mut more = Archive::default();
    let script = images::root().join("boot/bench/io.sh");
    more.copy("bench/io.sh", &script)?;
    let mut initrd = fs::read(&images.initrd).context("cannot read dom0's initramfs")?;
    initrd.extend(fs::read(tools::archive()?)?);
    initrd.extend(more.finish()?);
    initrd.extend(initramfs::with_command(&format!("sh /bench/io.sh {port}"))?);
    images.initrd = directory.join("dom0.cpio");
    write_whole(&images.initrd, &initrd)?;
    let mut machine = Machine::new(images.direct("dom0_mem=1G", ""));
    machine.cpus = 2;
    machine.memory_mib = 3072;
    let slow = (DiskBus::Virtio, Some(LIMIT_OF_SLOW));
    let disks = DISKS.map(|bus| (bus, None)).into_iter().chain([slow]);
    for (number, (bus, limit)) in disks.enumerate() {
        let file = directory.join(format!("disk{number}"));
        fs::File::create(&file)?.set_len(DISK_MIB << 20)?;
        let disk = Disk::new(file, bus);
        machine.disks.push(Disk { limit, ..disk });
    }
    machine.nics.push(Nic::new(NicModel::Virtio));
    output(&mut Vm::start(&machine, name, LIMIT)?)
}

/// iperf3 on this machine, which the emulator's user network leads to; it ends with the value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn server() -> Result<(Server, u16)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let child = tools::iperf3()?
        .command()
        .args(["-s", "-B", "127.0.0.1", "-p", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start iperf3")?;
    Ok((Server(child), port))
}

/// `IO figure who value`.
fn parse(lines: &[String]) -> Result<Values> {
    let mut found = Values::new();
    for line in lines {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["IO", figure, who, value] => {
                let value: f64 = value
                    .parse()
                    .with_context(|| format!("no number in {line:?}"))?;
                let key = (figure.to_owned(), who.to_owned());
                found.entry(key).or_default().push(value);
            }
            ["FAIL", ..] => bail!("{}", lines.join("\n")),
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_s_lines() {
        let lines = ["IO ahci-read dom0 200", "noise", "IO ahci-read dom0 100"];
        let found = parse(&lines.map(str::to_owned)).expect("well-formed");
        let key = ("ahci-read".to_owned(), "dom0".to_owned());
        assert_eq!(found.get(&key), Some(&vec![200.0, 100.0]));
        assert!(parse(&["IO a dom0 x".to_owned()]).is_err());
        assert!(parse(&["FAIL no /dev/sda".to_owned()]).is_err());
    }
}
