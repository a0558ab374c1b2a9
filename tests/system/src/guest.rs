//! Guests of a [`Lab`]: configurations are written in dom0 as a user would.

use std::fmt::Write;

use anyhow::{Result, ensure};

use crate::lab::{Lab, patient};

/// The line that the stock guest's first process prints when all is up.
pub const LINUX_READY: &str = "OXEN-GUEST-READY";

/// A configuration in the making.
pub struct Guest {
    name: String,
    text: String,
}

impl Guest {
    /// A guest of our own kernel that runs one of its tests, and is kept when it has ended.
    pub fn test(name: &str, arguments: &str) -> Self {
        Self::new(name, "/boot/test-guest", 32)
            .set("cmdline", &format!("\"{arguments}\""))
            .ends("preserve")
    }

    /// The stock kernel with the example's ramdisk.
    pub fn linux(name: &str) -> Self {
        Self::new(name, "/boot/vmlinuz", 192)
            .set("ramdisk", "\"/boot/guest.cpio.gz\"")
            .set("cmdline", "\"console=hvc0\"")
    }

    fn new(name: &str, kernel: &str, mib: u32) -> Self {
        let text =
            format!("name = \"{name}\"\ntype = \"pvh\"\nkernel = \"{kernel}\"\nmemory = {mib}\n");
        Self {
            name: name.to_owned(),
            text,
        }
    }

    /// One line, instead of one with the same key; the value as it stands in the file.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        let same = format!("{key} = ");
        self.text = self
            .text
            .split_inclusive('\n')
            .filter(|line| !line.starts_with(&same))
            .collect();
        let _ = writeln!(self.text, "{key} = {value}");
        self
    }

    /// Sets the action at every kind of end of the guest.
    pub fn ends(self, action: &str) -> Self {
        ["on_poweroff", "on_reboot", "on_crash", "on_watchdog"]
            .iter()
            .fold(self, |guest, key| guest.set(key, &format!("\"{action}\"")))
    }

    /// Writes the file; returns its path in dom0.
    pub fn write(&self, lab: &mut Lab) -> Result<String> {
        let path = format!("/etc/xen/{}.cfg", self.name);
        let lines = self.text.replace('\\', "\\\\").replace('\n', "\\n");
        lab.sh(&format!("printf '%b' '{lines}' > {path}"))?;
        Ok(path)
    }

    /// Writes the file and creates the guest; returns its name.
    pub fn create(&self, lab: &mut Lab) -> Result<String> {
        let path = self.write(lab)?;
        lab.sh_in(&format!("xm create -q {path}"), 60)?;
        Ok(self.name.clone())
    }
}

impl Lab {
    /// Waits for text on a guest's console; returns nothing, but fails with the end of that
    /// console.
    pub fn guest_says(&mut self, name: &str, pattern: &str, seconds: u64) -> Result<()> {
        let limit = patient(seconds);
        let command = format!("xm console --expect '{pattern}' --timeout {limit} {name}");
        self.sh_in(&command, seconds + 30).map(drop)
    }

    /// Runs a command at the prompt of a stock guest; its output. It must succeed.
    pub fn in_guest(&mut self, name: &str, command: &str, seconds: u64) -> Result<String> {
        let typed = format!("{{ {command}; }} 2>&1; echo \"<status $?>\"\\n");
        let quoted = typed.replace('\'', r"'\''");
        let limit = patient(seconds);
        let script = format!(
            "xm console --send '{quoted}' --expect '<status [0-9]+>' --timeout {limit} -v {name}"
        );
        let output = self.sh_in(&script, seconds + 30)?;
        ensure!(
            output.contains("<status 0>"),
            "in {name}, {command:?} printed:\n{output}"
        );
        Ok(output)
    }

    /// The whole log of a guest's console.
    pub fn guest_log(&mut self, name: &str) -> Result<String> {
        self.sh(&format!("cat /var/log/xen/console/guest-{name}.log"))
    }

    /// A guest that answers what is typed does so.
    pub fn answers(&mut self, name: &str, word: &str) -> Result<()> {
        let command =
            format!("xm console --send '{word}\\n' --expect 'pong {word} at' --timeout 20 {name}");
        self.sh_in(&command, 60).map(drop)
    }

    /// Waits until a guest that is kept has ended; returns the reason's word.
    pub fn end_of(&mut self, name: &str, seconds: u64) -> Result<String> {
        let command = format!("xm --json list {name} | grep -q '\"shutdown_reason\": \"'");
        self.until(&command, seconds)?;
        let domain = self.domain(name)?;
        let reason = domain
            .as_ref()
            .and_then(|it| it["shutdown_reason"].as_str());
        Ok(reason.unwrap_or("none").to_owned())
    }

    /// Ends a guest, and waits until nothing of it is left.
    pub fn destroy(&mut self, name: &str) -> Result<()> {
        self.sh_in(&format!("xm destroy {name}"), 60)?;
        ensure!(self.domain(name)?.is_none(), "{name} is still listed");
        Ok(())
    }
}
