//! A guest's configuration, typed. Clients send it to the daemon as JSON, and the daemon's journal
//! keeps it.

use crate::diag::Diagnostic;
use crate::{Affinity, DiskSpec, Uuid, VifSpec};
use serde::{Deserialize, Serialize};

/// The most virtual CPUs that the public ABI allows a hardware-virtualized guest (`HVM_MAX_VCPUS`).
pub const MAX_VCPUS: u32 = 128;

/// Largest memory: 16 TiB, a bound that four-level page tables allow.
pub const MAX_MIB: u32 = 1 << 24;

/// A configuration that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    pub config: DomainConfig,
    pub warnings: Vec<Diagnostic>,
}

/// The action that follows when a domain has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Destroy,
    Restart,
    RenameRestart,
    Preserve,
    CoredumpDestroy,
    CoredumpRestart,
    SoftReset,
}

impl Action {
    pub const ALL: [Self; 7] = [
        Self::Destroy,
        Self::Restart,
        Self::RenameRestart,
        Self::Preserve,
        Self::CoredumpDestroy,
        Self::CoredumpRestart,
        Self::SoftReset,
    ];

    /// The word in a configuration file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Destroy => "destroy",
            Self::Restart => "restart",
            Self::RenameRestart => "rename-restart",
            Self::Preserve => "preserve",
            Self::CoredumpDestroy => "coredump-destroy",
            Self::CoredumpRestart => "coredump-restart",
            Self::SoftReset => "soft-reset",
        }
    }
}

/// The action for each way to end; the defaults are xl's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actions {
    pub poweroff: Action,
    pub reboot: Action,
    pub crash: Action,
    pub watchdog: Action,
    pub soft_reset: Action,
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            poweroff: Action::Destroy,
            reboot: Action::Restart,
            crash: Action::Destroy,
            watchdog: Action::Destroy,
            soft_reset: Action::SoftReset,
        }
    }
}

/// The guest's view of the time stamp counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TscMode {
    #[default]
    Default,
    AlwaysEmulate,
    Native,
    NativeParavirt,
}

/// The choice of a kernel from GRUB's menu on the guest's disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootloader {
    /// The menu entry's title, id or place; GRUB's own default if absent.
    #[serde(default)]
    pub entry: Option<String>,
}

/// One guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainConfig {
    pub name: String,
    /// The UUID; chosen by the daemon when absent.
    #[serde(default)]
    pub uuid: Option<Uuid>,
    pub memory_mib: u32,
    /// The limit of memory, at least `memory_mib`.
    pub maxmem_mib: u32,
    /// The vcpus that are online at boot, at most `max_vcpus`.
    pub vcpus: u32,
    pub max_vcpus: u32,
    #[serde(default)]
    pub affinity: Option<Affinity>,
    /// The CPUs that the vcpus prefer (soft affinity).
    #[serde(default)]
    pub soft_affinity: Option<Affinity>,
    #[serde(default)]
    pub cpu_weight: Option<u32>,
    #[serde(default)]
    pub cap: Option<u32>,
    /// The path of the kernel; empty if the boot loader finds it.
    #[serde(default)]
    pub kernel: String,
    #[serde(default)]
    pub ramdisk: Option<String>,
    /// If present, kernel and ramdisk come from the guest's first disk.
    #[serde(default)]
    pub bootloader: Option<Bootloader>,
    /// The kernel's whole command line; with a boot loader, the part that is appended to the menu
    /// entry's.
    #[serde(default)]
    pub cmdline: String,
    #[serde(default)]
    pub actions: Actions,
    #[serde(default)]
    pub disks: Vec<DiskSpec>,
    #[serde(default)]
    pub vifs: Vec<VifSpec>,
    #[serde(default)]
    pub localtime: bool,
    #[serde(default)]
    pub rtc_timeoffset: i32,
    #[serde(default)]
    pub tsc_mode: TscMode,
    #[serde(default = "default_grant_frames")]
    pub max_grant_frames: u32,
    #[serde(default = "default_maptrack_frames")]
    pub max_maptrack_frames: u32,
    #[serde(default = "default_grant_version")]
    pub max_grant_version: u32,
    #[serde(default = "default_event_channels")]
    pub max_event_channels: u32,
    /// Whether to use nested paging (true) or shadow paging (false); by default nested paging if
    /// the machine has it.
    #[serde(default)]
    pub hap: Option<bool>,
    /// The size of the shadow pool in MiB; computed from vcpus and memory by default.
    #[serde(default)]
    pub shadow_memory_mib: Option<u32>,
    #[serde(default)]
    pub nomigrate: bool,
}

// The defaults of xl 4.17.
pub(crate) fn default_grant_frames() -> u32 {
    64
}
pub(crate) fn default_maptrack_frames() -> u32 {
    1024
}
pub(crate) fn default_grant_version() -> u32 {
    2
}
pub(crate) fn default_event_channels() -> u32 {
    1023
}

impl DomainConfig {
    /// Checks a configuration that did not come from a file for the properties that parsing
    /// guarantees.
    ///
    /// # Errors
    /// A `String` that names the first value that is out of range or contradicts another.
    pub fn check(&self) -> Result<(), String> {
        crate::check_name(&self.name)?;
        let checks = [
            (
                self.vcpus >= 1 && self.vcpus <= self.max_vcpus,
                "vcpus must be from 1 to max_vcpus",
            ),
            (self.max_vcpus <= MAX_VCPUS, "max_vcpus must be 128 at most"),
            (
                self.memory_mib >= 1 && self.memory_mib <= self.maxmem_mib,
                "memory_mib must be from 1 to maxmem_mib",
            ),
            (self.maxmem_mib <= MAX_MIB, "maxmem_mib is too much"),
            (
                self.kernel.starts_with('/') || self.bootloader.is_some(),
                "kernel must be an absolute path",
            ),
            (!self.cmdline.contains('\0'), "cmdline contains a NUL"),
        ];
        match checks.into_iter().find(|(good, _)| !good) {
            Some((_, wrong)) => Err(wrong.to_owned()),
            None => Ok(()),
        }
    }
}
