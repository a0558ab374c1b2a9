//! A guest built in the fakes: what it finds, and what is left when any one step fails.

use super::*;
use crate::testing::{Fake, elf64};
use crate::world::Access;
use oxen_config::Actions;
use oxen_sys::hypercall::AffinityKind;

fn config() -> DomainConfig {
    let text = "type='pvh'\nname='demo'\nkernel='/k'\nmemory=64\nvcpus=2\nmaxvcpus=3\ncmdline='console=hvc0'\ncpus='1'\ncpu_weight=512";
    let config = oxen_config::parse("test", text.as_bytes(), &[])
        .expect("a good file")
        .config;
    assert_eq!(config.actions, Actions::default());
    config
}

fn images() -> Images {
    let kernel = image::parse(&elf64(&[0xf4; 5000])).expect("a kernel");
    Images {
        kernel: Arc::new(kernel),
        ramdisk: vec![0x5a; 9000],
    }
}

fn try_build(fake: &Fake, config: &DomainConfig) -> Result<DomId> {
    let mut store = fake.clone();
    let mut world = World {
        hypervisor: fake,
        store: &mut store,
        clock: fake,
    };
    let order = Order {
        config,
        uuid: Uuid([7; 16]),
        now: 1234,
    };
    create_paused(&mut world, &order, &images(), &mut |_| {}, &mut |_| Ok(()))
}

fn word(fake: &Fake, domain: DomId, addr: u64) -> u64 {
    let bytes = fake.memory(domain, addr, 8);
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

#[test]
fn the_guest_finds_its_memory_kernel_and_information() {
    let fake = Fake::new(1024);
    let domain = try_build(&fake, &config()).expect("it builds");
    let found = fake.state.borrow().domains[&domain].clone();
    assert!(found.paused);
    assert_eq!(
        (
            found.max_vcpus,
            found.created.max_vcpus,
            found.created.arch.emulation_flags
        ),
        (3, 3, 1)
    );
    assert_eq!(found.sched, (512, 0));
    assert_eq!(found.affinity.len(), 3);
    assert_eq!(found.affinity[&(2, AffinityKind::Hard)], [2]);
    assert!(found.frames.len() > 64 * 256 + 8);
    assert_eq!(found.map[0], (0, 64 << 20, guest_pv_abi::E820_RAM));
    // The kernel with its zero tail.
    assert_eq!(fake.memory(domain, 16 << 20, 5001)[4998..], [0xf4, 0xf4, 0]);
    // From the registers to start_info, to the command line and the ramdisk.
    let registers = found.contexts.last().expect("registers").clone();
    let body = &registers[16 + 8..];
    let info = u64::from_le_bytes(body[520..528].try_into().expect("rbx"));
    assert_eq!(fake.memory(domain, info, 4), [0x78, 0xc5, 0x6e, 0x33]);
    assert_eq!(
        fake.memory(domain, word(&fake, domain, info + 24), 13),
        b"console=hvc0\0"
    );
    let modules = word(&fake, domain, info + 16);
    let (ramdisk, size) = (
        word(&fake, domain, modules),
        word(&fake, domain, modules + 8),
    );
    assert_eq!(size, 9000);
    assert_eq!(fake.memory(domain, ramdisk, 9000), vec![0x5a; 9000]);
    assert_eq!(
        fake.memory(domain, word(&fake, domain, info + 32), 8),
        b"RSD PTR "
    );
}

#[test]
fn store_and_console_are_connected() {
    let fake = Fake::new(1024);
    let domain = try_build(&fake, &config()).expect("it builds");
    let state = fake.state.borrow();
    let found = &state.domains[&domain];
    assert_eq!(found.params[&1], layout::STORE_GFN);
    assert_eq!(found.params[&17], layout::CONSOLE_GFN);
    assert_eq!(found.grants[&0], (0, layout::CONSOLE_GFN));
    assert_eq!(found.grants[&1], (0, layout::STORE_GFN));
    assert_eq!(
        state.introduced[&domain],
        (layout::STORE_GFN, found.params[&2] as u32)
    );
    assert_eq!(
        fake.memory(domain, layout::IDENT_GFN * PAGE + 4, 4),
        [0xe7, 0, 0x40, 0]
    );
    let node = |path: &str| state.nodes[&format!("/local/domain/{domain}/{path}")].clone();
    let read = Access::Readable(domain);
    assert_eq!(node("name"), ("demo".into(), read));
    assert_eq!(
        node("control/shutdown"),
        (String::new(), Access::Owned(domain))
    );
    assert_eq!(node("console/port"), (found.params[&18].to_string(), read));
    assert_eq!(
        node("store/ring-ref"),
        (layout::STORE_GFN.to_string(), read)
    );
    assert_eq!(node("cpu/1/availability").0, "online");
    assert_eq!(node("cpu/2/availability").0, "offline");
    assert_eq!(node("memory/target").0, (64 * 1024).to_string());
    let vm = node("vm").0;
    assert_eq!(state.nodes[&format!("{vm}/start_time")].0, "1234");
    for path in state.nodes.keys() {
        let (parent, _) = path.rsplit_once('/').expect("an absolute path");
        let top = [
            "",
            "/vm",
            "/local/domain",
            "/local/domain/0/backend/console",
        ];
        assert!(
            top.contains(&parent) || state.nodes.contains_key(parent),
            "{path} has a parent with permissions"
        );
    }
}

#[test]
fn without_superpages_it_builds_as_well() {
    let fake = Fake::new(1024);
    fake.small_pages_only.set(true);
    let domain = try_build(&fake, &config()).expect("it builds");
    assert!(fake.state.borrow().domains[&domain].frames.len() >= 64 * 256);
}

#[test]
fn a_failure_at_any_call_leaves_nothing_behind() {
    let mut failures = 0;
    loop {
        let fake = Fake::new(1024);
        fake.fail_at(failures);
        let built = try_build(&fake, &config());
        if !fake.has_failed() {
            built.expect("no call failed any more");
            break;
        }
        let error = built.expect_err("a call failed").to_string();
        assert!(
            error.contains("cannot") || error.contains("fails as asked"),
            "{error}"
        );
        assert!(!error.contains("still there"), "{error}");
        let state = fake.state.borrow();
        assert!(state.domains.is_empty(), "call {failures}: {error}");
        assert!(state.nodes.is_empty(), "call {failures}: {error}");
        assert!(state.introduced.is_empty(), "call {failures}: {error}");
        assert_eq!(state.free_pages, 1024 * 256, "call {failures}: {error}");
        failures += 1;
    }
    assert!(failures > 30, "{failures} calls could fail");
}

#[test]
fn too_much_memory_is_refused_before_there_is_a_domain() {
    let fake = Fake::new(32);
    let error = try_build(&fake, &config())
        .expect_err("no room")
        .to_string();
    assert!(
        error
            .contains("memory=64 and 4 MiB for its page tables are asked for, and 32 MiB are free"),
        "{error}"
    );
    assert!(fake.state.borrow().domains.is_empty());
}

#[test]
fn a_command_line_that_the_kernel_would_cut_off_is_refused_before_there_is_a_domain() {
    let fake = Fake::new(1024);
    let mut config = config();
    config.cmdline = "x".repeat(2047);
    try_build(&fake, &config).expect("as long as Linux takes");
    config.cmdline = "x".repeat(3000);
    let domains = fake.state.borrow().domains.len();
    let error = try_build(&fake, &config).expect_err("too long").to_string();
    assert!(
        error.contains("3000 characters, and its kernel takes 2047"),
        "{error}"
    );
    assert_eq!(fake.state.borrow().domains.len(), domains);
}

#[test]
fn memory_that_runs_out_on_the_way_is_given_back() {
    let fake = Fake::new(64);
    // Enough for the RAM (less than all) and the page tables, not for the pages beside them.
    let free = (64 + 4) * 256 + 1;
    fake.state.borrow_mut().free_pages = free;
    let error = try_build(&fake, &config())
        .expect_err("no room")
        .to_string();
    assert!(error.contains("not enough free memory"), "{error}");
    assert_eq!(fake.state.borrow().free_pages, free);
    assert!(fake.state.borrow().domains.is_empty());
}
