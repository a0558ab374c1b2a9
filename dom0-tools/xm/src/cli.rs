//! The commands and their options.

use crate::values::{Cpus, Mib, Which};
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use guest_pv_abi::{
    XEN_DOMCTL_SENDTRIGGER_INIT, XEN_DOMCTL_SENDTRIGGER_NMI, XEN_DOMCTL_SENDTRIGGER_POWER,
    XEN_DOMCTL_SENDTRIGGER_RESET, XEN_DOMCTL_SENDTRIGGER_SLEEP,
};
use std::ffi::OsString;
use std::path::PathBuf;

/// Manages guests: creates, watches and ends them.
#[derive(Parser)]
#[command(
    version,
    arg_required_else_help = true,
    disable_help_subcommand = false
)]
pub(crate) struct Cli {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One command, without the description of all the others: to build that is most of what a start of
/// xm costs.
#[derive(Parser)]
struct Alone<T: Args> {
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    args: T,
}

/// Parses the command line. A wrong command line is reported, and ends the program.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> (ArgMatches, Cli) {
    let words: Vec<OsString> = words.collect();
    quick(&words).unwrap_or_else(|| {
        let matches = Cli::command().try_get_matches_from(words);
        let matches = matches.unwrap_or_else(|error| crate::xl::exit(&error));
        let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        (matches, cli)
    })
}

/// Parses the commands that scripts repeat. `None` if the command line has an error or requests
/// help: the whole parser reports that.
fn quick(words: &[OsString]) -> Option<(ArgMatches, Cli)> {
    let (_, words) = words.split_first()?;
    match words.first()?.to_str()? {
        "create" => alone(words, Command::Create),
        "destroy" => alone(words, Command::Destroy),
        "list" | "ls" => alone(words, Command::List),
        _ => None,
    }
}

fn alone<T: Args>(words: &[OsString], command: fn(T) -> Command) -> Option<(ArgMatches, Cli)> {
    let matches = Alone::<T>::command().try_get_matches_from(words).ok()?;
    let Alone { json, args } = Alone::<T>::from_arg_matches(&matches).ok()?;
    let command = command(args);
    Some((matches, Cli { json, command }))
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Create a guest from a configuration file
    Create(Create),
    /// List domains
    #[command(visible_alias = "ls")]
    List(List),
    /// Connect to a guest's console (leave with Ctrl-])
    Console(Console),
    /// Stop a guest until it is unpaused
    Pause(Domains),
    /// Let a paused guest go on
    Unpause(Domains),
    /// Let a suspended guest go on
    Resume(Domains),
    /// Ask a guest to shut down
    Shutdown(Shutdown),
    /// Ask a guest to restart
    Reboot(Shutdown),
    /// End a guest at once
    Destroy(Domains),
    /// Give a guest another name
    Rename {
        /// Name or number
        domain: String,
        name: String,
    },
    /// Print the number of the domain of that name
    Domid { name: String },
    /// Print the name of the domain of that number
    Domname { number: u16 },
    /// Print what is known about the machine and the hypervisor
    Info,
    /// Print the hypervisor's log
    Dmesg {
        /// Empty the log after printing it
        #[arg(short, long)]
        clear: bool,
    },
    /// Print the log of xmd
    Log {
        /// How many lines, from the end
        #[arg(short = 'n', long, default_value_t = 200)]
        lines: usize,
    },
    /// Print how long domains have been running
    Uptime {
        /// Names or numbers; all without any
        domains: Vec<String>,
    },
    /// List virtual CPUs: where they run and may run
    VcpuList {
        /// Names or numbers; all without any
        domains: Vec<String>,
    },
    /// Give a guest that runs a disk
    BlockAttach(BlockAttach),
    /// Take a disk from a guest that runs
    BlockDetach(Detach),
    /// List guests' disks
    BlockList(DeviceList),
    /// Give a running guest more or less memory
    MemSet(MemSet),
    /// Limit the memory that a running guest can be given
    MemMax {
        /// Name or number
        domain: String,
        /// In MiB, or with a unit, as 512m or 1g
        memory: Mib,
    },
    /// Have a running guest use more or fewer of its virtual CPUs
    VcpuSet {
        /// Name or number
        domain: String,
        /// How many, maxvcpus at most
        count: u32,
    },
    /// Choose the CPUs that virtual CPUs run on
    #[command(after_help = "\
CPUs are written as all, 3, 0-3,5 or 0-7,^2. The hard affinity is kept to always, the soft one \
while one of its CPUs is free.")]
    VcpuPin {
        /// Name or number
        domain: String,
        /// The virtual CPU's number, or all
        vcpu: Which,
        /// Where it may run; - leaves that as it is
        hard: Cpus,
        /// Where it had better run; - leaves that as it is
        #[arg(default_value = "-")]
        soft: Cpus,
    },
    /// Put a disc into a guest's CD drive
    CdInsert {
        /// Name or number of the guest
        domain: String,
        /// The drive, by its name in the guest
        device: String,
        /// The disc's image
        target: String,
    },
    /// Take the disc out of a guest's CD drive
    CdEject {
        /// Name or number of the guest
        domain: String,
        /// The drive, by its name in the guest
        device: String,
    },
    /// Give a guest that runs a network card
    NetworkAttach(NetworkAttach),
    /// Take a network card from a guest that runs
    NetworkDetach(Detach),
    /// List guests' network cards
    NetworkList(DeviceList),
    /// Send a magic SysRq key to a guest
    Sysrq {
        /// Name or number
        domain: String,
        /// The key, as h for help
        key: char,
    },
    /// Send a trigger to a guest's virtual CPU
    Trigger {
        /// Name or number
        domain: String,
        kind: Trigger,
        #[arg(default_value_t = 0)]
        vcpu: u32,
    },
    /// Do what keys do on the hypervisor's own console (h prints help into its log, see dmesg)
    DebugKeys { keys: String },
    /// Log which pages of a guest are written (for migration, and to look at a guest's working set)
    LogDirty {
        what: LogDirty,
        /// Name or number
        domain: String,
        /// Look at the first so many pages only
        #[arg(long)]
        pages: Option<u64>,
    },
    /// Show what domains use, renewed until q is pressed
    Top(Top),
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum LogDirty {
    /// From now on; all pages count as clean
    On,
    /// Print which pages were written
    Peek,
    /// Print which pages were written, and count them as clean again
    Clean,
    Off,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Trigger {
    Nmi,
    Reset,
    Init,
    Power,
    Sleep,
}

impl Trigger {
    /// The number of the trigger in the ABI.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Nmi => XEN_DOMCTL_SENDTRIGGER_NMI,
            Self::Reset => XEN_DOMCTL_SENDTRIGGER_RESET,
            Self::Init => XEN_DOMCTL_SENDTRIGGER_INIT,
            Self::Power => XEN_DOMCTL_SENDTRIGGER_POWER,
            Self::Sleep => XEN_DOMCTL_SENDTRIGGER_SLEEP,
        }
    }
}

#[derive(Args)]
pub(crate) struct Create {
    /// The configuration file, in the syntax of xl.cfg(5)
    #[arg(required_unless_present = "defconfig")]
    pub(crate) file: Option<PathBuf>,
    /// Settings that win over the file's, as memory=256
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// The configuration file, as xl takes it too
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) defconfig: Option<PathBuf>,
    /// Connect to the console once it runs
    #[arg(short = 'c', long)]
    pub(crate) console: bool,
    /// Leave it paused
    #[arg(short = 'p', long)]
    pub(crate) paused: bool,
    /// Check the file and print what would be created
    #[arg(short = 'n', long, alias = "dryrun")]
    pub(crate) dry_run: bool,
    /// Print errors only
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) of_xl: OfXl,
}

/// Options of xl create that have no effect here, so that scripts need not be changed.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "options")]
pub(crate) struct OfXl {
    /// Taken, as by xl: it is xmd that watches over the guest
    #[arg(short = 'F', hide_short_help = true)]
    pub(crate) foreground: bool,
    /// Taken with a warning: at its end xmd does what on_* say in any case
    #[arg(short = 'e', hide_short_help = true)]
    pub(crate) no_watch: bool,
    /// Taken, as by xl: see xm log
    #[arg(short = 'd', hide_short_help = true)]
    pub(crate) debug: bool,
    /// Taken with a warning: guests of type pvh have no VNC
    #[arg(short = 'V', long = "vncviewer", hide_short_help = true)]
    pub(crate) vncviewer: bool,
    /// The same
    #[arg(short = 'A', long = "vncviewer-autopass", hide_short_help = true)]
    pub(crate) autopass: bool,
    /// Taken: there are no such masks
    #[arg(long, hide_short_help = true)]
    pub(crate) ignore_global_affinity_masks: bool,
}

impl Create {
    /// The file, and the settings behind it: after -f the first word is one of these already.
    pub(crate) fn file_and_settings(&self) -> (PathBuf, Vec<String>) {
        let mut settings = self.settings.clone();
        let file = self.file.clone();
        match (&self.defconfig, file) {
            (Some(named), Some(word)) => {
                settings.insert(0, word.to_string_lossy().into_owned());
                (named.clone(), settings)
            }
            (Some(named), None) => (named.clone(), settings),
            (None, file) => (file.unwrap_or_default(), settings),
        }
    }
}

#[derive(Args)]
#[command(after_help = "\
The guest's balloon driver follows in its own time, and may not reach the target at all. What is beyond the \
memory that it was started with is used once its kernel has put it online: by itself with \
memhp_default_state=online on the kernel's command line.")]
pub(crate) struct MemSet {
    /// Name or number
    pub(crate) domain: String,
    /// In MiB, or with a unit, as 512m or 1g
    pub(crate) memory: Mib,
    /// Wait until the guest has so much
    #[arg(short, long)]
    pub(crate) wait: bool,
    /// How many seconds to wait; 0 for ever
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) timeout: u64,
    /// Take memory from it even if it may not survive
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct List {
    /// Names or numbers; all without any
    pub(crate) domains: Vec<String>,
    /// All that is known, as JSON
    #[arg(short = 'l', long)]
    pub(crate) long: bool,
    /// UUIDs and the reasons of shutdowns too
    #[arg(short = 'v', long)]
    pub(crate) verbose: bool,
}

#[derive(Args)]
#[command(after_help = "\
For scripts: --expect and --send are steps, done in the order in which they are given. --expect waits \
until the regular expression matches what the guest printed since the step before; the first also sees \
what was printed before we came (the last 64 KiB), unless a --send precedes it. The exit status is 0 \
when all steps are done, else 1.

  xm console --expect 'login:' --send 'root\\n' --expect '# $' --timeout 120 demo")]
pub(crate) struct Console {
    /// Name or number
    pub(crate) domain: String,
    /// Wait for output that matches
    #[arg(long, value_name = "REGEX")]
    pub(crate) expect: Vec<String>,
    /// Type this; \n, \r, \t, \e, \\ and \xNN are understood
    #[arg(long, value_name = "TEXT")]
    pub(crate) send: Vec<String>,
    /// How many seconds each --expect may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,
    /// With --expect: print all output as it comes
    #[arg(short = 'v', long)]
    pub(crate) verbose: bool,
}

#[derive(Args)]
pub(crate) struct Domains {
    /// Names or numbers
    #[arg(required = true)]
    pub(crate) domains: Vec<String>,
}

#[derive(Args)]
#[command(after_help = "\
The words are joined by commas and read like an element of disk=[...] in a configuration file:

  xm block-attach demo /srv/data.img,raw,xvdb,rw
  xm block-attach demo phy:/dev/vg/data xvdb r
  xm block-attach demo format=qcow2 vdev=xvdc access=rw target=/srv/a.qcow2

The guest has the disk again when it restarts.")]
pub(crate) struct BlockAttach {
    /// Name or number of the guest
    pub(crate) domain: String,
    /// The disk
    #[arg(required = true, value_name = "DISK")]
    pub(crate) disk: Vec<String>,
}

#[derive(Args)]
#[command(after_help = "\
The words are joined by commas and read like an element of vif=[...] in a configuration file:

  xm network-attach demo                             the default network
  xm network-attach demo network=nat ip=10.87.0.20   NAT, with that address
  xm network-attach demo bridge=br0 mac=00:16:3e:01:02:03
  xm network-attach demo network=private:blue        among guests alone

The default is vif.default.bridge of /etc/xen/xl.conf if it is set, else the bridge xenbr0 if there is \
one, else NAT: the bridge xmnat0, which is made with the first card on it. There dom0 has the address \
10.87.0.1/24 (vif.default.nat in /etc/xen/xl.conf sets another), xnetd gives guests theirs by DHCP, and \
they reach the world under dom0's address; nobody there reaches them.

Other settings: antispoof=mac|ip, vlan=10, rate=10Mb/s, mtu=1400, vifname=NAME, devid=N. The guest has the \
card again when it restarts.")]
pub(crate) struct NetworkAttach {
    /// Name or number of the guest
    pub(crate) domain: String,
    /// The card
    #[arg(value_name = "CARD")]
    pub(crate) card: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Detach {
    /// Name or number of the guest
    pub(crate) domain: String,
    /// The device, by its name in the guest or its number; a card by its address too
    pub(crate) device: String,
    /// Take it away even if the guest uses it or does not let it go
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct DeviceList {
    /// Names or numbers of guests; all without any
    pub(crate) domains: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Shutdown {
    /// Names or numbers
    #[arg(required_unless_present = "all")]
    pub(crate) domains: Vec<String>,
    /// All guests
    #[arg(short = 'a', long, conflicts_with = "domains")]
    pub(crate) all: bool,
    /// Wait until they have ended
    #[arg(short = 'w', long)]
    pub(crate) wait: bool,
    /// How many seconds to wait; 0 for ever
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) timeout: u64,
}

#[derive(Args)]
pub(crate) struct Top {
    /// Print once or a few times instead of a live screen
    #[arg(short = 'b', long)]
    pub(crate) batch: bool,
    /// Print one time (means --batch)
    #[arg(long)]
    pub(crate) once: bool,
    /// With --batch: how many times, 0 for ever
    #[arg(short = 'i', long, default_value_t = 1)]
    pub(crate) iterations: u64,
    /// Seconds between two looks
    #[arg(short = 'd', long, default_value_t = 2.0)]
    pub(crate) delay: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quickly(line: &str) -> Option<Cli> {
        let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
        quick(&words).map(|(_, cli)| cli)
    }

    #[test]
    fn the_quick_way_is_for_what_is_right() {
        let Some(Cli {
            json: true,
            command: Command::Create(create),
        }) = quickly("xm create -q a.cfg memory=9 --json")
        else {
            panic!("a right line");
        };
        assert_eq!((create.quiet, create.paused), (true, false));
        let (file, settings) = create.file_and_settings();
        assert_eq!(file, PathBuf::from("a.cfg"));
        assert_eq!(settings, ["memory=9"]);
        for line in [
            "xm",
            "xm --json list",
            "xm create",
            "xm create --help",
            "xm list --bogus",
            "xm destroy",
            "xm destroy --version",
            "xm info",
        ] {
            assert!(quickly(line).is_none(), "{line}");
        }
    }
    #[test]
    fn create_takes_what_scripts_for_xl_say() {
        let file = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
            let cli = Cli::try_parse_from(words).expect(line);
            let Command::Create(create) = cli.command else {
                panic!("{line}");
            };
            create.file_and_settings()
        };
        for line in [
            "xm create -F a.cfg memory=9",
            "xm create -e -d a.cfg memory=9",
            "xm create -f a.cfg memory=9",
            "xm create --defconfig=a.cfg memory=9",
            "xm create memory=9 --defconfig a.cfg -n",
            "xm create -V --dryrun a.cfg memory=9",
            "xm create --ignore-global-affinity-masks -A a.cfg memory=9",
        ] {
            assert_eq!(
                file(line),
                ("a.cfg".into(), vec!["memory=9".to_owned()]),
                "{line}"
            );
        }
        assert_eq!(file("xm create -f a.cfg"), ("a.cfg".into(), Vec::new()));
    }
}
