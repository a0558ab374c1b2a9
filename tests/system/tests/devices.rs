//! dom0's devices under load: all disks and network cards of the machine at once, their data
//! checked, their interrupts by MSI or MSI-X.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use oxen_harness::{Disk, DiskBus, Nic, NicModel};
use system_tests::{Lab, plain};

const DISK_MIB: usize = 24;

/// Bytes that differ from disk to disk and from block to block.
fn contents(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..DISK_MIB << 17).flat_map(|_| next()).collect()
}

#[test]
fn disks_and_network_cards_work_under_load() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("oxen-devices-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let result = load(&directory);
    std::fs::remove_dir_all(&directory)?;
    result
}

fn load(directory: &std::path::Path) -> Result<()> {
    let mut machine = plain()?;
    for (index, bus) in [DiskBus::Ahci, DiskBus::Nvme, DiskBus::Virtio]
        .into_iter()
        .enumerate()
    {
        let file = directory.join(format!("disk{index}"));
        std::fs::write(&file, contents(index as u64 + 77))?;
        machine.disks.push(Disk::new(file, bus));
    }
    let peer = Peer::listen()?;
    for model in [NicModel::Virtio, NicModel::E1000e] {
        machine.nics.push(Nic::new(model));
    }
    let sum = |file: &str| -> Result<String> {
        let out = std::process::Command::new("md5sum")
            .arg(directory.join(file))
            .output()?;
        let text = String::from_utf8(out.stdout)?;
        Ok(text
            .split(' ')
            .next()
            .context("md5sum prints nothing")?
            .to_owned())
    };
    let mut lab = Lab::start(&machine, "devices")?;
    lab.until(
        "[ -b /dev/sda ] && [ -b /dev/nvme0n1 ] && [ -b /dev/vda ]",
        20,
    )?;
    // Read all three at the same time, past the page cache's first fill, twice.
    lab.sh_in(
        "for d in sda nvme0n1 vda; do (for i in 1 2; do echo 3 > /proc/sys/vm/drop_caches; md5sum /dev/$d; done > /tmp/$d) & done; wait",
        120,
    )?;
    for (index, disk) in ["sda", "nvme0n1", "vda"].iter().enumerate() {
        let want = sum(&format!("disk{index}"))?;
        let found = lab.sh(&format!("cut -d' ' -f1 /tmp/{disk}"))?;
        ensure!(
            found == format!("{want}\n{want}"),
            "{disk}: {found:?}, not {want}"
        );
    }
    // Copy in a circle, and compare what came back.
    lab.sh_in(
        "dd if=/dev/sda of=/dev/vda bs=1M 2>/dev/null && dd if=/dev/vda of=/dev/nvme0n1 bs=64k 2>/dev/null && sync && echo 3 > /proc/sys/vm/drop_caches && cmp /dev/sda /dev/nvme0n1",
        120,
    )?;
    // Both directions at once, from a disk, over one card and then the other.
    let disk = contents(77);
    let served = contents(5);
    std::fs::write(directory.join("served"), &served)?;
    let want = sum("served")?;
    let port = peer.port()?;
    for (card, other) in [("eth0", "eth1"), ("eth1", "eth0")] {
        let peer = peer.serve(served.clone())?;
        let found = lab.sh_in(
            &format!(
                "ip addr flush dev {other}; ip link set {card} up; ip addr add 10.0.2.15/24 dev {card}; \
                 echo 3 > /proc/sys/vm/drop_caches; nc 10.0.2.2 {port} </dev/sda | md5sum | cut -d' ' -f1"
            ),
            150,
        )?;
        ensure!(found.ends_with(&want), "by {card}: {found:?}, not {want}");
        let received = peer.join().expect("it does not panic")?;
        ensure!(
            received == disk,
            "{card} sent {} bytes that are not the disk's {}",
            received.len(),
            disk.len()
        );
    }
    let interrupts = lab.sh("cat /proc/interrupts")?;
    for device in ["ahci", "nvme0q", "virtio", "eth"] {
        let count = interrupts
            .lines()
            .filter(|line| line.contains(device) && line.contains("MSI"))
            .flat_map(|line| {
                line.split_whitespace()
                    .skip(1)
                    .map_while(|word| word.parse::<u64>().ok())
            })
            .sum::<u64>();
        ensure!(count > 0, "no MSI came of {device}:\n{interrupts}");
    }
    lab.finish()
}

/// The other side of the network: QEMU's user network leads 10.0.2.2 to the host's own address.
struct Peer(TcpListener);

impl Peer {
    fn listen() -> Result<Self> {
        Ok(Self(TcpListener::bind("127.0.0.1:0")?))
    }

    fn port(&self) -> Result<u16> {
        Ok(self.0.local_addr()?.port())
    }

    /// Sends the bytes to whoever connects first, and returns what came from there meanwhile.
    fn serve(&self, bytes: Vec<u8>) -> Result<JoinHandle<Result<Vec<u8>>>> {
        let listener = self.0.try_clone()?;
        Ok(std::thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            let mut sender = stream.try_clone()?;
            let sending = std::thread::spawn(move || {
                sender.write_all(&bytes)?;
                sender.shutdown(Shutdown::Write)
            });
            let mut received = Vec::new();
            stream.read_to_end(&mut received)?;
            sending.join().expect("it does not panic")?;
            Ok(received)
        }))
    }
}
