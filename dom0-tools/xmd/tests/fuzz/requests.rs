//! Lines that a client may send: requests, and what is none.

use crate::random::Random;
use serde_json::{Value, json};

pub const NAMES: [&str; 5] = ["demo", "other", "a", "b-1", "third"];
const DISKS: [&str; 4] = ["xvda", "xvdb", "hda", "xvdz"];
const WORDS: [&str; 10] = [
    "", "0", "1", "65535", "../x", "Domain-0", "xvda", "-1", "\u{0}", "demo\n",
];
const ACTIONS: [&str; 5] = [
    "destroy",
    "restart",
    "rename-restart",
    "preserve",
    "coredump-restart",
];

/// A line.
pub fn line(random: &mut Random, kernel: &str) -> Vec<u8> {
    let mut request = request(random, kernel);
    request["id"] = random.below(1000).into();
    if random.one_in(12) {
        distort(random, &mut request);
    }
    let mut line = request.to_string().into_bytes();
    if random.one_in(20) {
        let at = random.below(line.len() as u64) as usize;
        match random.below(3) {
            0 => line.truncate(at),
            1 => line[at] ^= 1 << random.below(8),
            _ => line.insert(at, random.below(256) as u8),
        }
    }
    line
}

fn request(random: &mut Random, kernel: &str) -> Value {
    let domain = domain(random);
    match random.below(26) {
        0..8 => {
            json!({ "op": "create", "config": config(random, kernel), "paused": random.one_in(4) })
        }
        8..11 => json!({ "op": "destroy", "domain": domain }),
        11 => json!({ "op": "list" }),
        12 => json!({ "op": "config", "domain": domain }),
        13 => {
            let request = *random.of(&["poweroff", "reboot", "halt", "suspend"]);
            json!({ "op": "shutdown", "domain": domain, "request": request })
        }
        14 => json!({ "op": *random.of(&["pause", "unpause", "resume"]), "domain": domain }),
        15 => json!({ "op": "rename", "domain": domain, "name": name(random) }),
        16 => json!({ "op": "sysrq", "domain": domain, "key": "h" }),
        17 => {
            json!({ "op": "trigger", "domain": domain, "trigger": random.below(9), "vcpu": random.below(4) })
        }
        18..21 => json!({ "op": "attach", "domain": domain, "device": { "vbd": disk(random) } }),
        21 => {
            let device = *random.of(&DISKS);
            json!({ "op": "detach", "domain": domain, "kind": "vbd", "device": device, "force": random.one_in(2) })
        }
        22 => {
            json!({ "op": "set-memory", "domain": domain, "mib": random.below(64), "force": random.one_in(2) })
        }
        23 => {
            json!({ "op": *random.of(&["set-max-memory", "log"]), "domain": domain, "mib": random.below(64), "lines": 9 })
        }
        24 => json!({ "op": "set-vcpus", "domain": domain, "count": random.below(5) }),
        _ => {
            json!({ "op": "pin", "domain": domain, "vcpu": random.below(3), "hard": { "Some": [random.below(5)] } })
        }
    }
}

fn name(random: &mut Random) -> String {
    let list: &[&str] = if random.one_in(8) { &WORDS } else { &NAMES };
    (*random.of(list)).to_owned()
}

fn domain(random: &mut Random) -> String {
    match random.one_in(4) {
        true => random.below(40).to_string(),
        false => name(random),
    }
}

fn disk(random: &mut Random) -> Value {
    json!({ "target": "/a.img", "vdev": *random.of(&DISKS), "format": "raw", "cdrom": random.one_in(6) })
}

fn config(random: &mut Random, kernel: &str) -> Value {
    let memory = 20 + random.below(8);
    let vcpus = 1 + random.below(3);
    let mut config = json!({
        "name": name(random), "memory_mib": memory, "maxmem_mib": memory + random.below(3),
        "vcpus": vcpus, "max_vcpus": vcpus + random.below(2), "kernel": kernel, "cmdline": "quiet",
        "actions": {
            "poweroff": *random.of(&ACTIONS), "reboot": *random.of(&ACTIONS), "crash": *random.of(&ACTIONS),
            "watchdog": *random.of(&ACTIONS), "soft_reset": *random.of(&ACTIONS),
        },
    });
    if random.one_in(3) {
        config["disks"] = json!([disk(random)]);
    }
    if random.one_in(9) {
        config["cmdline"] = "x".repeat(2000 + random.below(100) as usize).into();
    }
    if random.one_in(9) {
        config["kernel"] = "/no/such/kernel".into();
    }
    if random.one_in(4) {
        config["uuid"] =
            format!("01234567-89ab-4def-8123-0000000000{:02x}", random.below(4)).into();
    }
    config
}

/// Puts something else somewhere.
pub fn distort(random: &mut Random, value: &mut Value) {
    let other = match random.below(6) {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!(u64::MAX),
        3 => json!("x".repeat(300)),
        4 => json!([[], {}]),
        _ => json!({ "unknown": true }),
    };
    match value {
        Value::Object(map) if !map.is_empty() && !random.one_in(4) => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = random.of(&keys).clone();
            match random.below(4) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(format!("{key}s"), other)),
                _ => {
                    if let Some(inner) = map.get_mut(&key) {
                        distort(random, inner);
                    }
                }
            }
        }
        Value::Array(list) if !list.is_empty() && !random.one_in(4) => {
            let index = random.below(list.len() as u64) as usize;
            distort(random, &mut list[index]);
        }
        plain => *plain = other,
    }
}
