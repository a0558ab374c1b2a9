//! Guests that attack the hypervisor, next to a neighbour that goes on answering: each ends with
//! its own death at most, dom0 goes on, and afterwards nothing of them is left.

use anyhow::{Context, Result, ensure};
use oxen_fuzz::Soak;
use regex_lite::Regex;
use system_tests::{Guest, Lab, plain};

struct Attack {
    test: &'static str,
    vcpus: u32,
    end: End,
    /// How many seconds it works.
    seconds: u32,
}

enum End {
    /// The guest lives to report its result.
    Says,
    /// The guest's random requests may take its own memory away: then it reports nothing any more.
    MayFallSilent,
    /// The guest's vcpus spin, or are gone.
    Silent,
}

const fn attack(test: &'static str, vcpus: u32) -> Attack {
    Attack {
        test,
        vcpus,
        end: End::Says,
        seconds: 3,
    }
}

const ATTACKS: &[Attack] = &[
    Attack {
        end: End::MayFallSilent,
        ..attack("hypercalls", 1)
    },
    attack("mmio", 1),
    attack("io", 1),
    attack("msr", 1),
    attack("hypercall-page", 1),
    attack("cpuid", 1),
    attack("xsetbv", 1),
    attack("control-registers", 1),
    attack("events", 1),
    attack("fifo", 2),
    attack("grants", 2),
    attack("memory", 1),
    attack("pagetables", 1),
    attack("reserved-bits", 1),
    attack("cmpxchg16b", 1),
    attack("timers", 1),
    attack("halts", 1),
    attack("exceptions", 1),
    attack("ipis", 4),
    attack("nmis", 1),
    attack("x2apic", 1),
    attack("tsc", 2),
    attack("startup", 2),
    Attack {
        test: "triple",
        vcpus: 1,
        end: End::Silent,
        seconds: 1,
    },
    Attack {
        test: "alignment",
        vcpus: 1,
        end: End::Silent,
        seconds: 1,
    },
    Attack {
        test: "task-switch",
        vcpus: 1,
        end: End::Silent,
        seconds: 1,
    },
    Attack {
        test: "spin",
        vcpus: 2,
        end: End::Silent,
        seconds: 1,
    },
];

#[test]
fn attackers_harm_themselves_only() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "attacks")?;
    let neighbour = Guest::test("neighbour", "test=echo").create(&mut lab)?;
    lab.guest_says(&neighbour, "READY", 20)?;
    let before = lab.totals()?;
    let mut faults = Vec::new();
    for attack in ATTACKS {
        if let Err(error) = one(&mut lab, attack, 1) {
            faults.push(format!("attack {}: {error:#}", attack.test));
            // What went wrong with the attacker's own report must not hide how the next one does;
            // without dom0 or the neighbour there is no next one.
            lab.answers("neighbour", "after-fault")
                .with_context(|| faults.join("\n"))?;
            lab.sh(&format!("xm destroy {} || true", attack.test))?;
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n--\n"));
    let after = lab.totals()?;
    ensure!(
        after.free_frames == before.free_frames && after.store == before.store,
        "{before:?} became {after:?}"
    );
    lab.destroy(&neighbour)?;
    lab.finish()
}

/// The same for a long time, with many seeds: `./x soak attacks`.
#[test]
#[ignore = "takes hours"]
fn soak_attacks() -> Result<()> {
    let first = std::env::var("OXEN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(100);
    // A machine lives for a quarter of an hour: three seeds each.
    for first in (first..first + 60).step_by(3) {
        let mut lab = Lab::start(&plain()?, "attacks-soak")?;
        Guest::test("neighbour", "test=echo").create(&mut lab)?;
        lab.guest_says("neighbour", "READY", 20)?;
        for seed in first..first + 3 {
            eprintln!("seed {seed}");
            for attack in ATTACKS {
                one(&mut lab, attack, seed)
                    .with_context(|| format!("attack {} seed {seed}", attack.test))?;
            }
        }
        lab.finish()?;
    }
    Ok(())
}

/// The machine's part of `./x soak fuzz`: the random attackers with one seed after another, until
/// the time is over.
#[test]
#[ignore = "runs as long as OXEN_FUZZ_SECONDS says: ./x soak fuzz"]
fn soak_fuzz() -> Result<()> {
    let soak = Soak::from_env();
    let first = soak.seed;
    let (mut seed, mut guests, mut machines) = (first, 0, 0);
    while guests == 0 || soak.has_time() {
        let mut lab = Lab::start(&plain()?, "attacks-fuzz")?;
        machines += 1;
        Guest::test("neighbour", "test=echo").create(&mut lab)?;
        lab.guest_says("neighbour", "READY", 20)?;
        // A machine lives for three seeds.
        for _ in 0..3 {
            for attack in ATTACKS
                .iter()
                .filter(|attack| !matches!(attack.end, End::Silent))
            {
                if guests > 0 && !soak.has_time() {
                    break;
                }
                one(&mut lab, attack, seed)
                    .with_context(|| format!("attack {} seed={seed}", attack.test))?;
                guests += 1;
            }
            seed += 1;
        }
        lab.finish()?;
    }
    println!(
        "fuzz machine: seed={first} seeds={} guests={guests} machines={machines}",
        seed - first
    );
    Ok(())
}

fn one(lab: &mut Lab, attack: &Attack, seed: u64) -> Result<()> {
    let Attack {
        test,
        vcpus,
        end,
        seconds,
    } = attack;
    let guest = Guest::test(test, &format!("test={test} seed={seed} seconds={seconds}"))
        .set("memory", "64")
        .set("vcpus", &vcpus.to_string());
    let name = guest.create(lab)?;
    lab.answers("neighbour", &format!("during-{test}"))?;
    let said = format!("grep -qE '^(PASS|FAIL)' /var/log/xen/console/guest-{name}.log");
    match end {
        // Some go on to what may stop them for ever.
        End::Says => drop(lab.until(&said, 120)?),
        End::MayFallSilent => drop(lab.sh_in(
            &format!("n=0; until {said} || [ $n = 40 ]; do n=$((n + 1)); sleep 0.5; done"),
            120,
        )?),
        // The triple fault has its own test.
        End::Silent => drop(lab.sh("sleep 2")?),
    }
    let log = lab.guest_log(&name)?;
    let passed = Regex::new(&format!("(?m)^PASS {test}\\b"))?.is_match(&log);
    ensure!(
        !log.contains("FAIL") && (passed || !matches!(end, End::Says)),
        "it printed:\n{log}"
    );
    lab.answers("neighbour", &format!("after-{test}"))?;
    lab.sh(&format!("rm -f /var/log/xen/console/guest-{name}.log*"))?;
    lab.destroy(&name)?;
    lab.vm.refuse(r"\(OXEN\).*(PANIC|panicked)")
}
