//! Commands of xl (4.17, and suspend of later ones) that xm does not have, so that a user who types
//! one learns this, and is not offered a command that only sounds alike.

use clap::error::{ContextKind, ContextValue, ErrorKind};

const NOT_YET: [&str; 61] = [
    // Saving and moving.
    "save",
    "restore",
    "suspend",
    "migrate",
    "migrate-receive",
    "remus",
    // Dumps and configurations.
    "dump-core",
    "config-update",
    // Schedulers and pools.
    "sched-credit",
    "sched-credit2",
    "sched-rtds",
    "cpupool-create",
    "cpupool-list",
    "cpupool-destroy",
    "cpupool-rename",
    "cpupool-cpu-add",
    "cpupool-cpu-remove",
    "cpupool-migrate",
    "cpupool-numa-split",
    // Devices.
    "pci-attach",
    "pci-detach",
    "pci-list",
    "pci-assignable-add",
    "pci-assignable-remove",
    "pci-assignable-list",
    "usbctrl-attach",
    "usbctrl-detach",
    "usbdev-attach",
    "usbdev-detach",
    "usb-list",
    "vtpm-attach",
    "vtpm-detach",
    "vtpm-list",
    "vkb-attach",
    "vkb-detach",
    "vkb-list",
    "vdispl-attach",
    "vdispl-detach",
    "vdispl-list",
    "vsnd-attach",
    "vsnd-detach",
    "vsnd-list",
    "channel-list",
    // Device models.
    "vncviewer",
    "button-press",
    "qemu-monitor-command",
    // The hypervisor.
    "claims",
    "sharing",
    "set-parameters",
    "psr-hwinfo",
    "psr-cmt-attach",
    "psr-cmt-detach",
    "psr-cmt-show",
    "psr-cat-set",
    "psr-cat-show",
    "psr-mba-set",
    "psr-mba-show",
    "getenforce",
    "setenforce",
    "loadpolicy",
    // Others.
    "vm-list",
];

/// Prints the error of a command line, and ends the program.
pub(crate) fn exit(error: &clap::Error) -> ! {
    match not_yet(error) {
        Some(text) => {
            eprintln!("xm: {text}");
            std::process::exit(2)
        }
        None => error.exit(),
    }
}

fn not_yet(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(word)) = error
        .get(ContextKind::InvalidSubcommand)
        .filter(|_| error.kind() == ErrorKind::InvalidSubcommand)
    else {
        return None;
    };
    let known = NOT_YET.contains(&word.as_str()) || word == "devd";
    known.then(|| format!("xl's {word} is not there yet"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    #[test]
    fn what_xl_has_is_not_taken_for_a_typing_error() {
        let said = |word: &str| {
            let error = Cli::command().try_get_matches_from(["xm", word, "1"]);
            not_yet(&error.expect_err("no such command"))
        };
        for word in NOT_YET {
            assert_eq!(said(word), Some(format!("xl's {word} is not there yet")));
        }
        assert_eq!(said("frobnicate"), None);
        assert_eq!(said("lits"), None);
    }
}
