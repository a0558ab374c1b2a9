//! Calls, in dom0, everything of this crate that changes nothing or undoes itself, and prints the
//! replies: shows whether the wrappers and a hypervisor understand each other.

use oxen_sys::hypercall::{AffinityKind, CreateDomain, Extents};
use oxen_sys::{Errno, EventChannels, PAGE_SIZE, Privcmd, Result};

fn main() -> Result<()> {
    let xen = Privcmd::open().inspect_err(|e| eprintln!("/dev/xen: {e}"))?;
    machine(&xen);
    show("event channels", events());
    show("a domain made and destroyed", domain(&xen));
    show("domains after", xen.domains().map(|d| d.len()));
    Ok(())
}

fn machine(xen: &Privcmd) {
    show("version", xen.version());
    show("extra version", xen.extra_version());
    show("compile info", xen.compile_info());
    show("capabilities", xen.capabilities());
    show("changeset", xen.changeset());
    show("command line", xen.command_line());
    show("page size", xen.pagesize());
    show("virtual start", xen.virt_start());
    show("physinfo", xen.physinfo());
    show("scheduler", xen.scheduler());
    show("idle times", xen.cpu_idle_times());
    show("topology", xen.cpu_topology());
    show("free heap", xen.available_heap(0));
    show(
        "log",
        xen.read_console(0, false)
            .map(|(log, next)| (log.len(), next)),
    );
    show("domains", xen.domains());
    show("dom0", xen.domain_info(0));
    show("dom0's vcpu 0", xen.vcpu_info(0, 0));
    show(
        "its affinity",
        xen.vcpu_affinity(0, 0, AffinityKind::Hard, 64),
    );
    show(
        "its scheduling",
        xen.scheduler().and_then(|s| xen.sched_params(0, s)),
    );
    show("its reservation", xen.current_reservation(0));
    show("a domain that is not there", xen.domain_info(0x7000));
}

fn events() -> Result<()> {
    let events = EventChannels::open()?;
    let port = events.bind_unbound(0)?;
    let other = events.bind_interdomain(0, port)?;
    events.unmask(&events.read()?)?;
    events.notify(port)?;
    let fired = events.read()?;
    events.unmask(&fired)?;
    events.unbind(other)?;
    events.unbind(port)?;
    if fired == [other] {
        Ok(())
    } else {
        Err(Errno::IO)
    }
}

fn domain(xen: &Privcmd) -> Result<Vec<String>> {
    let domain = xen.create_domain(0, &CreateDomain::pvh(*b"sixteen-byte-id!", 1))?;
    let done = in_domain(xen, domain);
    xen.destroy_domain(domain)?;
    done
}

fn in_domain(xen: &Privcmd, domain: u16) -> Result<Vec<String>> {
    let mut said = Vec::new();
    let mut say = |what: &str, answer: String| said.push(format!("{what}: {answer}"));
    xen.set_max_vcpus(domain, 1)?;
    xen.set_max_mem(domain, 8192)?;
    say(
        "mempool",
        format!("{:?}", xen.set_paging_mempool_size(domain, 4 << 20)),
    );
    let gfns: Vec<u64> = (0..64).collect();
    xen.populate_all(
        domain,
        Extents {
            frames: &gfns,
            order: 0,
            flags: 0,
        },
    )?;
    say("pages", xen.domain_info(domain)?.tot_pages.to_string());
    let memory = xen.map_foreign(domain, &gfns)?;
    memory.write(5 * PAGE_SIZE - 2, b"across")?;
    let again = xen.map_foreign(domain, &gfns[4..6])?;
    let mut text = [0; 6];
    again.read(PAGE_SIZE - 2, &mut text)?;
    say("foreign memory", text.escape_ascii().to_string());
    say(
        "a frame that is not there",
        format!("{:?}", xen.map_foreign(domain, &[9999]).map(drop)),
    );
    say("grant", format!("{:?}", xen.seed_grant(domain, 1, 0, 3)));
    say("port", format!("{:?}", xen.alloc_unbound(domain, 0)));
    xen.set_hvm_param(domain, 1, 3)?;
    say("store's frame", xen.hvm_param(domain, 1)?.to_string());
    say(
        "context",
        format!("{:?}", xen.hvm_context(domain).map(|c| c.len())),
    );
    say(
        "policy",
        format!(
            "{:?}",
            xen.cpu_policy(domain).map(|(l, m)| (l.len(), m.len()))
        ),
    );
    say("clock", format!("{:?}", xen.tsc_info(domain)));
    say("paused", xen.domain_info(domain)?.paused().to_string());
    Ok(said)
}

fn show<T: core::fmt::Debug>(what: &str, answer: Result<T>) {
    match answer {
        Ok(answer) => println!("{what}: {answer:?}"),
        Err(error) => println!("{what}: FAILED: {error:?}"),
    }
}
