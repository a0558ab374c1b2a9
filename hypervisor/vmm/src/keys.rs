//! Debug keys, with Xen's letters where Xen has the same key.

use core::fmt::Write;

use oxen_core::domain::Domain;
use oxen_core::fallible::Text;
use oxen_core::seams::FrameSource;
use oxen_types::CpuId;

use crate::Vmm;
use crate::host::Host;

struct Key<H: Host> {
    key: u8,
    help: &'static str,
    run: fn(&Vmm<H>),
}

impl<H: Host> Vmm<H> {
    const KEYS: &[Key<H>] = &[
        Key {
            key: b'h',
            help: "this list",
            run: help,
        },
        Key {
            key: b'q',
            help: "domains and their vcpus",
            run: domains,
        },
        Key {
            key: b'e',
            help: "event channels",
            run: events,
        },
        Key {
            key: b'g',
            help: "grant tables",
            run: grants,
        },
        Key {
            key: b'r',
            help: "the scheduler's queue",
            run: scheduler,
        },
        Key {
            key: b'd',
            help: "what each CPU runs",
            run: cpus,
        },
        Key {
            key: b'm',
            help: "memory",
            run: memory,
        },
        Key {
            key: b't',
            help: "trace: off, hypercalls, exits too",
            run: |vmm| vmm.trace.cycle(),
        },
        Key {
            key: b's',
            help: "clocks",
            run: clocks,
        },
        Key {
            key: b'C',
            help: "crash: a panic, to see its report",
            run: crash,
        },
        Key {
            key: b'R',
            help: "reboot the machine",
            run: |vmm| vmm.host.reboot(),
        },
        Key {
            key: b'O',
            help: "power the machine off",
            run: |vmm| vmm.host.power_off(),
        },
    ];

    /// Runs a debug key.
    pub fn run_key(&self, key: u8) {
        match Self::KEYS.iter().find(|entry| entry.key == key) {
            Some(entry) => (entry.run)(self),
            None => log::info!("no debug key '{}': h lists them", key.escape_ascii()),
        }
    }
}

fn crash<H: Host>(_: &Vmm<H>) {
    panic!("asked for by debug key")
}

fn help<H: Host>(_: &Vmm<H>) {
    for entry in Vmm::<H>::KEYS {
        log::info!("  {}  {}", entry.key as char, entry.help);
    }
}

/// Formats one domain after the other, so that no lock is held while lines go out.
fn each_domain<H: Host>(vmm: &Vmm<H>, show: impl Fn(&Domain, &mut Text) -> core::fmt::Result) {
    for domain in vmm.machine.all_domains() {
        let mut text = Text::default();
        let shown = show(&domain, &mut text);
        text.lines().for_each(|line| log::info!("{line}"));
        if shown.is_err() {
            log::info!("  (no memory for the rest)");
        }
    }
}

fn domains<H: Host>(vmm: &Vmm<H>) {
    each_domain(vmm, |domain, out| {
        let life = domain.life();
        writeln!(
            out,
            "d{}: {:?}, shutdown {:?}, {} pauses",
            domain.id, life.dying, life.shutdown, life.pauses
        )?;
        let memory = &domain.memory;
        writeln!(
            out,
            "  {} of at most {} frames",
            memory.ram_frames(),
            memory.max_frames()
        )?;
        domain.arch.dump(out)?;
        domain.with_vcpus(|vcpus| {
            vcpus.iter().try_for_each(|vcpu| {
                let (state, times) = vcpu.run_times(vcpu.domain.machine.now());
                write!(
                    out,
                    "  v{} on {:?}, holds {:#x}, ",
                    vcpu.id,
                    vcpu.cpu(),
                    vcpu.holds()
                )?;
                writeln!(out, "{state:?}, times {times:?} ns")
            })
        })
    });
}

fn events<H: Host>(vmm: &Vmm<H>) {
    each_domain(vmm, |domain, out| {
        writeln!(out, "d{}:", domain.id)?;
        domain.events.dump(domain, out)
    });
}

fn grants<H: Host>(vmm: &Vmm<H>) {
    each_domain(vmm, |domain, out| {
        let (frames, most) = domain.grants.size();
        let (maps, pins) = domain.grants.usage();
        writeln!(
            out,
            "d{}: {frames} of {most} frames, maps {maps} of others, {pins} of its own in use",
            domain.id
        )
    });
}

fn scheduler<H: Host>(vmm: &Vmm<H>) {
    let mut text = Text::default();
    vmm.machine.sched.with(|policy| policy.dump(&mut text));
    text.lines().for_each(|line| log::info!("{line}"));
}

fn cpus<H: Host>(vmm: &Vmm<H>) {
    for cpu in vmm.host.online().iter() {
        show_cpu(vmm, cpu);
    }
}

fn show_cpu<H: Host>(vmm: &Vmm<H>, cpu: CpuId) {
    let shared = vmm.cpu(cpu);
    let (idle, entries) = (shared.idle_ns() / 1_000_000, shared.entries());
    match shared.current() {
        Some(vcpu) => log::info!(
            "CPU{cpu}: d{}v{}, idle for {idle} ms in all, {entries} entries to guests",
            vcpu.domain.id,
            vcpu.id
        ),
        None => {
            log::info!("CPU{cpu}: idle, for {idle} ms in all, {entries} entries to guests");
        }
    }
}

fn memory<H: Host>(vmm: &Vmm<H>) {
    let stats = vmm.frames.stats();
    log::info!(
        "{} frames, {} free, {} with the heap, {} bytes of heap",
        stats.total_frames,
        stats.free_frames,
        stats.heap_frames,
        stats.heap_used
    );
}

fn clocks<H: Host>(vmm: &Vmm<H>) {
    let machine = vmm.machine;
    log::info!(
        "{}, {} kHz, system time {} ns",
        vmm.host.clock_name(),
        vmm.host.tsc_khz(),
        machine.now()
    );
}
