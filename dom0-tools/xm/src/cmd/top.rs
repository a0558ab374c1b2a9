//! `xm top`: what domains use, as a live screen or in print.

use super::list::{mib, name, seconds, state};
use crate::cli::Top;
use crate::machine::{Machine, failed};
use crate::output::{Output, pretty, write};
use crossterm::event::{Event, KeyCode, KeyModifiers, poll, read};
use crossterm::{cursor, execute, terminal};
use oxen_domain::lifecycle::Listed;
use oxen_domain::{Error, Result};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

pub(super) fn run(args: &Top, out: &Output) -> Result<()> {
    if !(0.1..=3600.0).contains(&args.delay) {
        return Err(Error::new("--delay", "it must be from 0.1 to 3600 seconds"));
    }
    let mut machine = Machine::open()?;
    let delay = Duration::from_secs_f64(args.delay);
    if args.batch || args.once || out.json {
        return print(args, &mut machine, delay, out);
    }
    let result = Screen::enter().and_then(|screen| screen.show(&mut machine, delay));
    result.map_err(|error| {
        Error::new("cannot show a live screen", error).remedy("use xm top --batch")
    })?
}

/// A sample of CPU time, of which two show how busy domains were in between.
struct Look {
    when: Instant,
    times: BTreeMap<u16, u64>,
    domains: Vec<Listed>,
    total_mib: u64,
    free_mib: u64,
    cpus: u32,
}

impl Look {
    fn take(machine: &mut Machine) -> Result<Self> {
        let physical = machine
            .xen
            .calls()
            .physinfo()
            .map_err(failed("cannot ask after the machine"))?;
        let domains = machine.list()?;
        Ok(Self {
            when: Instant::now(),
            times: domains
                .iter()
                .map(|domain| (domain.info.domain, domain.info.cpu_time))
                .collect(),
            domains,
            total_mib: physical.total_pages / 256,
            free_mib: (physical.free_pages + physical.scrub_pages) / 256,
            cpus: physical.nr_cpus,
        })
    }

    /// Percent of one CPU since `before`.
    fn load(&self, before: Option<&Self>, domain: &Listed) -> f64 {
        let Some(before) = before else { return 0.0 };
        let elapsed = self.when.duration_since(before.when).as_secs_f64();
        let Some(then) = before.times.get(&domain.info.domain) else {
            return 0.0;
        };
        if elapsed > 0.0 {
            seconds(domain.info.cpu_time.saturating_sub(*then)) * 100.0 / elapsed
        } else {
            0.0
        }
    }

    fn text(&self, before: Option<&Self>) -> String {
        let mut text = format!(
            "{} domains, {} CPUs, memory {} MiB of which {} MiB are free\n\n",
            self.domains.len(),
            self.cpus,
            self.total_mib,
            self.free_mib
        );
        text.push_str(
            "NAME                  ID  STATE   CPU(sec) CPU(%)   MEM(MiB) MEM(%) VCPUS\n",
        );
        for domain in &self.domains {
            let info = &domain.info;
            let share = mib(info) as f64 * 100.0 / self.total_mib.max(1) as f64;
            let _ = writeln!(
                text,
                "{:<20.20} {:>3}  {} {:>9.1} {:>6.1} {:>10} {:>6.1} {:>5}",
                name(domain),
                info.domain,
                state(info),
                seconds(info.cpu_time),
                self.load(before, domain),
                mib(info),
                share,
                info.nr_online_vcpus
            );
        }
        text
    }

    fn json(&self, before: Option<&Self>) -> serde_json::Value {
        let domains: Vec<_> = self.domains.iter().map(|domain| {
            serde_json::json!({
                "name": domain.name, "domain": domain.info.domain, "state": state(&domain.info),
                "cpu_seconds": seconds(domain.info.cpu_time), "cpu_percent": self.load(before, domain),
                "memory_mib": mib(&domain.info), "vcpus": domain.info.nr_online_vcpus,
            })
        }).collect();
        serde_json::json!({
            "cpus": self.cpus, "total_memory_mib": self.total_mib, "free_memory_mib": self.free_mib, "domains": domains,
        })
    }
}

fn print(args: &Top, machine: &mut Machine, delay: Duration, out: &Output) -> Result<()> {
    let mut before: Option<Look> = None;
    let mut rounds = 0;
    loop {
        let look = Look::take(machine)?;
        write(&if out.json {
            pretty(&look.json(before.as_ref()))
        } else {
            look.text(before.as_ref())
        });
        before = Some(look);
        rounds += 1;
        if args.once || (args.iterations > 0 && rounds >= args.iterations) {
            return Ok(());
        }
        std::thread::sleep(delay);
    }
}

/// The whole terminal, given back however we leave.
struct Screen;

impl Screen {
    fn enter() -> std::io::Result<Self> {
        terminal::enable_raw_mode()?;
        let screen = Self;
        execute!(
            std::io::stdout(),
            terminal::EnterAlternateScreen,
            cursor::Hide
        )?;
        Ok(screen)
    }

    /// Until q, Escape or Ctrl-C. The inner error is ours, the outer the terminal's.
    fn show(self, machine: &mut Machine, delay: Duration) -> std::io::Result<Result<()>> {
        let mut before: Option<Look> = None;
        loop {
            let look = match Look::take(machine) {
                Ok(look) => look,
                Err(error) => return Ok(Err(error)),
            };
            draw(&look.text(before.as_ref()))?;
            before = Some(look);
            let next = Instant::now() + delay;
            while poll(next.saturating_duration_since(Instant::now()))? {
                if let Event::Key(key) = read()? {
                    let stop = key.code == KeyCode::Char('c')
                        && key.modifiers.contains(KeyModifiers::CONTROL);
                    if stop || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                        return Ok(Ok(()));
                    }
                }
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(
            std::io::stdout(),
            cursor::Show,
            terminal::LeaveAlternateScreen
        );
        let _ = terminal::disable_raw_mode();
    }
}

fn draw(text: &str) -> std::io::Result<()> {
    // A serial line does not know its terminal's size.
    let (width, height) = terminal::size()
        .ok()
        .filter(|(width, height)| *width > 0 && *height > 0)
        .unwrap_or((80, 24));
    execute!(
        std::io::stdout(),
        terminal::Clear(terminal::ClearType::All),
        cursor::MoveTo(0, 0)
    )?;
    let room = usize::from(height).saturating_sub(1);
    let lines = text
        .lines()
        .take(room)
        .map(|line| line.chars().take(usize::from(width)).collect::<String>());
    let mut screen: String = lines.map(|line| line + "\r\n").collect();
    screen.push_str("q leaves");
    std::io::Write::write_all(&mut std::io::stdout(), screen.as_bytes())?;
    std::io::Write::flush(&mut std::io::stdout())
}
