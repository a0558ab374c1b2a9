//! The figures: what each means, what is aimed at, and what was measured.

use serde::{Deserialize, Serialize};

/// A figure's definition.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// The highest ratio, Oxen over Xen, that is aimed at.
    pub(crate) aim: Option<f64>,
    /// The operation, and the path of the hypervisor that it takes.
    pub(crate) means: &'static str,
}

const fn count(name: &'static str, aim: f64, means: &'static str) -> Figure {
    Figure {
        name,
        unit: "instructions",
        aim: Some(aim),
        means,
    }
}

/// Counted by our guest (tests/guests/src/bench).
pub(crate) const MICRO: &[Figure] = &[
    count("hypercall", 0.5, "xen_version: exit, dispatcher, entry"),
    count(
        "multicall-entry",
        0.5,
        "one xen_version among 64 of a multicall: dispatcher, copies of the entry",
    ),
    count(
        "event-send",
        0.5,
        "EVTCHNOP_send to oneself, nobody woken: the event path",
    ),
    count("cpuid", 0.5, "CPUID: exit, policy"),
    count("msr-read", 0.5, "RDMSR of APIC_BASE: exit, MSR policy"),
    count(
        "port-io",
        0.5,
        "IN from a port without a device: exit, port dispatch",
    ),
    count(
        "npt-hole",
        0.7,
        "load from a hole: nested fault, p2m, instruction emulator",
    ),
    count(
        "page-fault",
        1.0,
        "a page fault of the guest's own: the hypervisor must not see it",
    ),
    count(
        "set-timer",
        0.6,
        "VCPUOP_set_singleshot_timer: timer queue, deadline",
    ),
    count(
        "singleshot-timer",
        0.6,
        "the same, with its expiry and the event's upcall",
    ),
    count(
        "lapic-timer",
        0.6,
        "the virtual APIC's timer set, fired, acknowledged: three emulated accesses",
    ),
    count(
        "self-ipi",
        0.6,
        "an IPI by the APIC to oneself, acknowledged: two emulated accesses",
    ),
    count(
        "event-upcall",
        0.6,
        "an event to oneself, delivered by the callback vector",
    ),
    count("yield", 0.6, "SCHEDOP_yield: the scheduler's way around"),
    count(
        "event-ping-pong",
        0.6,
        "event to another guest on the same CPU and back: two sends, two blocks, two switches",
    ),
    count(
        "event-ping-pong-cpus",
        0.6,
        "the same with the guests on a CPU each, which two CPUs execute: two IPIs, no switch",
    ),
    count(
        "ipi-ping-pong",
        0.6,
        "an IPI by the APIC to another vcpu of the guest, asleep on the same CPU, and one back",
    ),
    count(
        "ipi-ping-pong-cpus",
        0.6,
        "the same with the vcpus on a CPU each, which two CPUs execute",
    ),
    count(
        "grant-map-unmap",
        0.7,
        "another guest's page mapped and unmapped: grants, p2m, flush",
    ),
    count(
        "grant-copy",
        0.7,
        "4 KiB of another guest's page copied by grant",
    ),
    count(
        "decrease-populate",
        0.7,
        "a page given back and another populated: allocator, p2m, flush",
    ),
];

pub(crate) const MILLISECONDS: &str = "ms";

const fn time(name: &'static str, means: &'static str) -> Figure {
    Figure {
        name,
        unit: MILLISECONDS,
        aim: Some(0.1),
        means,
    }
}

/// Taken by a script in dom0 (boot/bench/domains.sh), on a machine of 10^9 instructions a second.
pub(crate) const DOMAINS: &[Figure] = &[
    time(
        "create",
        "a tiny guest created: xm create and xmd against xl create",
    ),
    time(
        "create-first-line",
        "the same, until the guest's first line is in its console's log",
    ),
    time("guests-1", "1 tiny guest created, listed, destroyed"),
    time("guests-10", "10 tiny guests created, listed, destroyed"),
    time("guests-50", "50 tiny guests created, listed, destroyed"),
    time("guests-100", "100 tiny guests created, listed, destroyed"),
    Figure {
        name: "memory-per-guest",
        unit: "KiB",
        aim: Some(0.5),
        means: "what an idle guest of 8 MiB takes beyond its 8 MiB, by 100 of them",
    },
];

/// On a machine of 10^9 instructions a second, too.
pub(crate) const BOOT: &[Figure] = &[
    Figure {
        name: "boot-prompt",
        unit: MILLISECONDS,
        aim: Some(1.0),
        means: "firmware, GRUB, hypervisor, dom0 (Xen's: PV) and its daemons, to dom0's prompt",
    },
    Figure {
        name: "boot-prompt-pvh",
        unit: MILLISECONDS,
        aim: Some(1.0),
        means: "the same with an IOMMU in the machine and dom0=pvh on Xen's command line",
    },
];

/// In multiples of the time without a hypervisor.
pub(crate) const OF_BARE: &str = "of bare";

/// Taken by boot/bench/load.sh, on that machine as well.
pub(crate) const LOAD: &[Figure] = &[
    Figure {
        name: "idle-exits",
        unit: "1/s",
        aim: None,
        means: "exits (VMRUN executed) a second of dom0 and one sleeping guest; Xen's dom0 is PV and exits otherwise",
    },
    Figure {
        name: "idle-instructions",
        unit: "1/s",
        aim: None,
        means: "instructions a second, of 10^9, that such a machine executes: its CPU's share",
    },
    Figure {
        name: "load-dom0",
        unit: OF_BARE,
        aim: None,
        means: "many processes, page faults, files, as a kernel's build has: in dom0, over the bare kernel's time",
    },
    Figure {
        name: "load-guest",
        unit: OF_BARE,
        aim: None,
        means: "the same in a guest with the stock kernel",
    },
];

/// Of the hypervisors' files.
pub(crate) const SIZE: &[Figure] = &[
    Figure {
        name: "image-loaded",
        unit: "bytes",
        aim: None,
        means: "the hypervisor as it lies in memory, without what it allocates",
    },
    Figure {
        name: "image-gzip",
        unit: "bytes",
        aim: None,
        means: "the same as GRUB reads it from the disc",
    },
];

const fn io(name: &'static str, unit: &'static str, aim: f64, means: &'static str) -> Figure {
    Figure {
        name,
        unit,
        aim: Some(aim),
        means,
    }
}

/// Of a guest beside dom0's own on the same device, by boot/bench/io.sh; here the aim is the lowest
/// ratio.
pub(crate) const IO: &[Figure] = &[
    io("ahci-write", "KiB/s", 0.8, "1 MiB each, four at once"),
    io("ahci-read", "KiB/s", 0.8, "the same"),
    io("ahci-random-write", "1/s", 0.5, "4 KiB each, 32 at once"),
    io("ahci-random-read", "1/s", 0.5, "the same"),
    io("nvme-write", "KiB/s", 0.8, "1 MiB each, four at once"),
    io("nvme-read", "KiB/s", 0.8, "the same"),
    io("nvme-random-write", "1/s", 0.5, "4 KiB each, 32 at once"),
    io("nvme-random-read", "1/s", 0.5, "the same"),
    io("virtio-write", "KiB/s", 0.8, "1 MiB each, four at once"),
    io("virtio-read", "KiB/s", 0.8, "the same"),
    io("virtio-random-write", "1/s", 0.5, "4 KiB each, 32 at once"),
    io("virtio-random-read", "1/s", 0.5, "the same"),
    io(
        "slow-write",
        "KiB/s",
        0.8,
        "1 MiB each, on a virtio disk held to 32 MiB and 500 requests a second",
    ),
    io("slow-read", "KiB/s", 0.8, "the same"),
    io("slow-random-write", "1/s", 0.5, "4 KiB each, 32 at once"),
    io("slow-random-read", "1/s", 0.5, "the same"),
    io(
        "tcp-send",
        "KiB/s",
        0.8,
        "one stream to the emulator's host; the guest's by dom0's NAT",
    ),
    io("tcp-receive", "KiB/s", 0.8, "the same, from there"),
];

/// A guest on shadows over one with nested paging.
const fn paging(name: &'static str, means: &'static str) -> Figure {
    Figure {
        name,
        unit: "of NPT",
        aim: None,
        means,
    }
}

/// Taken by boot/bench/paging.sh.
pub(crate) const PAGING: &[Figure] = &[
    paging(
        "paging-storm",
        "a guest's processes, copies on write and 2 MiB pages on shadows: instructions, over those with nested paging",
    ),
    paging("paging-build", "the same of work like a kernel's build"),
    paging("paging-misses", "the same of random access to 4 KiB pages"),
    paging(
        "paging-storm-time",
        "the first in the emulator's time, as for the following",
    ),
    paging("paging-build-time", "the second"),
    paging("paging-misses-time", "the third"),
];

/// Of the store's daemon, by its own tests on the host.
const fn store(name: &'static str, unit: &'static str, means: &'static str) -> Figure {
    Figure {
        name,
        unit,
        aim: None,
        means,
    }
}

/// Taken by dom0-tools/xenstored/tests/fairness.rs; a test there holds the first two below five.
pub(crate) const STORE: &[Figure] = &[
    store(
        "store-hostile",
        OF_QUIET,
        "steps of work until dom0's request to xenstored is answered, beside four guests that attack it in four ways; mean over that without guests",
    ),
    store(
        "store-hostile-worst",
        OF_QUIET,
        "the same with all four attacking in the way that delays it most",
    ),
    store(
        "store-turn",
        "steps",
        "the longest that xenstored works for guests before it looks at dom0 again, in the first",
    ),
];
const OF_QUIET: &str = "of quiet";

pub(crate) const IO_GROUP: &str = "io";
pub(crate) const PAGING_GROUP: &str = "paging";
pub(crate) const STORE_GROUP: &str = "store";
pub(crate) const MICRO_GROUP: &str = "micro";
pub(crate) const GUESTS_GROUP: &str = "guests";
pub(crate) const BOOT_GROUP: &str = "boot";
pub(crate) const LOAD_GROUP: &str = "load";

/// Figures that are measured together.
pub(crate) const GROUPS: &[(&str, &[Figure])] = &[
    (MICRO_GROUP, MICRO),
    (GUESTS_GROUP, DOMAINS),
    (BOOT_GROUP, BOOT),
    (LOAD_GROUP, LOAD),
    ("size", SIZE),
    (IO_GROUP, IO),
    (PAGING_GROUP, PAGING),
    (STORE_GROUP, STORE),
];

/// Whether a name is of figures for which there is no Xen: beside dom0, on shadows, and of our own
/// store.
pub(crate) fn is_without_xen(name: &str) -> bool {
    let mut figures = IO.iter().chain(PAGING).chain(STORE);
    [IO_GROUP, PAGING_GROUP, STORE_GROUP].contains(&name)
        || figures.any(|figure| figure.name == name)
}

/// Whether a name is of figures that are counted on the host, without a machine.
pub(crate) fn is_of_store(name: &str) -> bool {
    name == STORE_GROUP || STORE.iter().any(|figure| figure.name == name)
}

pub(crate) fn all() -> impl Iterator<Item = &'static Figure> {
    GROUPS.iter().flat_map(|(_, figures)| *figures)
}

/// A figure, measured.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) oxen: Option<f64>,
    pub(crate) xen: Option<f64>,
    /// dom0's own figure, where the guest's is compared with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dom0: Option<f64>,
    pub(crate) ratio: Option<f64>,
    pub(crate) aim: Option<f64>,
    pub(crate) met: Option<bool>,
    /// How far the samples lie apart: largest over smallest, the wider of both systems'.
    pub(crate) spread: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<Time>,
}

/// The time of a figure on machines that do not count, of several starts of each system by turns.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub(crate) struct Time {
    pub(crate) unit: String,
    pub(crate) pairs: usize,
    /// Medians.
    pub(crate) oxen: Option<f64>,
    pub(crate) xen: Option<f64>,
    /// The median of the pairs' ratios: what slows the host down for a while falls on both of a
    /// pair.
    pub(crate) ratio: Option<f64>,
    /// Largest over smallest, the wider of both systems'.
    pub(crate) spread: Option<f64>,
}

impl Time {
    pub(crate) fn new(unit: &str, oxen: &[f64], xen: &[f64]) -> Self {
        let pairs = oxen.iter().zip(xen);
        let ratios: Vec<f64> = pairs.map(|(oxen, xen)| oxen / xen).collect();
        let median = |values: &[f64]| Some(Samples::of(values)?.median);
        let spreads = [oxen, xen].map(|values| Some(Samples::of(values)?.spread()));
        Self {
            unit: unit.to_owned(),
            pairs: oxen.len(),
            oxen: median(oxen),
            xen: median(xen),
            ratio: median(&ratios).filter(|ratio| ratio.is_finite()),
            spread: widest(spreads),
        }
    }
}

/// Of nothing there is no spread.
fn widest(spreads: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let spreads = spreads.into_iter().flatten();
    spreads.filter(|spread| spread.is_finite()).reduce(f64::max)
}

impl Measured {
    pub(crate) fn new(figure: &Figure, oxen: Option<Samples>, xen: Option<Samples>) -> Self {
        let value = |samples: &Option<Samples>| samples.as_ref().map(|samples| samples.median);
        let (o, x) = (value(&oxen), value(&xen));
        // Of nothing there is no multiple.
        let ratio = o.zip(x).map(|(oxen, xen)| oxen / xen);
        let ratio = ratio.filter(|ratio| ratio.is_finite());
        Self {
            name: figure.name.to_owned(),
            unit: figure.unit.to_owned(),
            oxen: o,
            xen: x,
            dom0: None,
            ratio,
            aim: figure.aim,
            met: ratio.zip(figure.aim).map(|(ratio, aim)| ratio <= aim),
            spread: widest([oxen, xen].map(|samples| Some(samples?.spread()))),
            time: None,
        }
    }

    /// Where more is better: a guest on Oxen against its dom0.
    pub(crate) fn beside_dom0(figure: &Figure, guest: Samples, dom0: Samples) -> Self {
        let ratio = guest.median / dom0.median;
        Self {
            dom0: Some(dom0.median),
            ratio: Some(ratio),
            met: figure.aim.map(|aim| ratio >= aim),
            ..Self::new(figure, Some(guest), None)
        }
    }
}

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Samples {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Samples {
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            min: *sorted.first()?,
            median: *sorted.get(sorted.len() / 2)?,
            max: *sorted.last()?,
        })
    }
}

impl Samples {
    fn spread(&self) -> f64 {
        self.max / self.min
    }
}

impl From<f64> for Samples {
    fn from(only: f64) -> Self {
        Self {
            min: only,
            median: only,
            max: only,
        }
    }
}

/// The tables for people.
pub(crate) fn print(measured: &[Measured]) {
    let (beside_dom0, beside_xen): (Vec<_>, Vec<_>) =
        measured.iter().partition(|one| one.dom0.is_some());
    for (rows, first, second) in [(beside_xen, "oxen", "xen"), (beside_dom0, "guest", "dom0")] {
        if rows.is_empty() {
            continue;
        }
        let (mut over, mut heads) = (String::new(), String::new());
        if let Some(pairs) = rows.iter().find_map(|one| Some(one.time.as_ref()?.pairs)) {
            over = format!("{:78}| time, by {pairs} pairs of starts\n", "");
            heads = format!(
                " | {first:>9} {second:>9} {:2} {:>5} {:>6}",
                "", "ratio", "spread"
            );
        }
        println!(
            "{over}{:<20} {:>12} {first:>10} {second:>10} {:>5} {:>4} {:<3} {:>6}{heads}",
            "figure", "unit", "ratio", "aim", "met", "spread"
        );
        for one in rows {
            println!("{}", row(one));
        }
    }
}

fn row(one: &Measured) -> String {
    let time = one.time.as_ref().map(|time| {
        format!(
            " | {:>9} {:>9} {:2} {:>5} {:>6}",
            shown(time.oxen, 1),
            shown(time.xen, 1),
            time.unit,
            shown(time.ratio, 2),
            shown(time.spread, 2)
        )
    });
    format!(
        "{:<20} {:>12} {:>10} {:>10} {:>5} {:>4} {:<3} {:>6}{}",
        one.name,
        one.unit,
        shown(one.oxen, 1),
        shown(one.xen.or(one.dom0), 1),
        shown(one.ratio, 2),
        shown(one.aim, 2),
        one.met.map_or("", |met| if met { "yes" } else { "NO" }),
        shown(one.spread, 2),
        time.unwrap_or_default()
    )
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_pairs() {
        // The host was slow for the last pair.
        let time = Time::new("ns", &[10.0, 12.0, 30.0], &[20.0, 20.0, 60.0]);
        let medians = (time.pairs, time.oxen, time.xen);
        assert_eq!(medians, (3, Some(12.0), Some(20.0)));
        assert_eq!((time.ratio, time.spread), (Some(0.5), Some(3.0)));
        let alone = Time::new("ns", &[10.0], &[]);
        assert_eq!((alone.xen, alone.ratio), (None, None));
    }

    #[test]
    fn results_with_and_without_time_are_read_back() {
        let mut one = Measured::new(&MICRO[0], Some(Samples::from(1.0)), None);
        let text = serde_json::to_string(&one).expect("plain data");
        assert!(!text.contains("time"));
        assert_eq!(serde_json::from_str(&text).ok(), Some(one.clone()));
        one.time = Some(Time::new("ns", &[10.0], &[20.0]));
        let text = serde_json::to_string(&one).expect("plain data");
        assert_eq!(serde_json::from_str(&text).ok(), Some(one));
    }

    #[test]
    fn a_row_fits_in_120_columns() {
        let mut one = Measured::new(&MICRO[0], Some(Samples::from(99_999_999.9)), None);
        one.time = Some(Time::new("ms", &[9_999_999.9], &[9_999_999.9]));
        assert!(row(&one).len() <= 120);
        assert!(MICRO.iter().all(|figure| figure.name.len() <= 20));
    }
}
