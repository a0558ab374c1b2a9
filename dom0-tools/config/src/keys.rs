//! Every key that xl knows, and what becomes of it here.
//!
//! Source of the names: xl.cfg(5) and xl's own reader, of Xen 4.17 and later. A key that we cannot
//! honour is a warning, so that a file written for xl works as far as it can and says where it does
//! not. So is one outside of this table, as xl passes over what it does not know, and generators of
//! files rely on that; but one that is nearly a known key is a slip, and an error.

use crate::suggest;

/// Whether a key is read, ignored or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Honoured.
    Supported,
    /// Means something for a PVH guest, but is not there yet.
    NotYet,
    /// Concerns full emulation (type="hvm") only.
    Hvm,
    /// Concerns classic paravirtual guests (type="pv") only.
    Pv,
    /// Concerns Arm only.
    Arm,
    /// Says how others present or start the guest; nothing to do with us, or long gone.
    Obsolete,
}

impl Status {
    /// The sentence for the warning; None where all is well.
    #[must_use]
    pub fn warning(self) -> Option<&'static str> {
        Some(match self {
            Self::Supported => return None,
            Self::NotYet => "is not supported yet and is ignored",
            Self::Hvm => "concerns type=\"hvm\" only and is ignored",
            Self::Pv => "concerns type=\"pv\" only and is ignored",
            Self::Arm => "concerns Arm machines only and is ignored",
            Self::Obsolete => "has no meaning any more and is ignored",
        })
    }
}

/// The status of `key`; `None` if no version of xl or xm knows the key.
#[must_use]
pub fn status(key: &str) -> Option<Status> {
    TABLE
        .iter()
        .find(|(_, keys)| keys.contains(&key))
        .map(|(status, _)| *status)
}

/// The known key most like `key`.
#[must_use]
pub fn suggestion(key: &str) -> Option<&'static str> {
    suggest::nearest(key, all())
}

/// All known keys.
pub fn all() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|(_, keys)| keys.iter().copied())
}

const TABLE: &[(Status, &[&str])] = &[
    (Status::Supported, SUPPORTED),
    (Status::NotYet, NOT_YET),
    (Status::Hvm, HVM),
    (Status::Pv, PV),
    (Status::Arm, ARM),
    (Status::Obsolete, OBSOLETE),
];

#[rustfmt::skip]
const SUPPORTED: &[&str] = &[
    "bootloader", "bootloader_args", "builder", "cap", "cmdline", "cpu_weight", "cpus", "cpus_soft", "disk", "extra", "hap", "kernel", "localtime",
    "max_event_channels", "max_grant_frames", "max_grant_version", "max_maptrack_frames", "maxmem", "maxvcpus",
    "memory", "name", "nomigrate", "on_crash", "on_poweroff", "on_reboot", "on_soft_reset", "on_watchdog",
    "ramdisk", "root", "rtc_timeoffset", "shadow_memory", "tsc_mode", "type", "uuid", "vcpus", "vif",
];

#[rustfmt::skip]
const NOT_YET: &[&str] = &[
    "acpi", "altp2m", "altp2m_count", "bootloader_restrict", "bootloader_user",
    "channel", "cpuid", "driver_domain", "dtdev", "e820_host", "firmware", "init_seclabel", "iomem",
    "ioports", "irqs", "latency", "llc_colors", "mca_caps", "msr_relaxed", "nestedhvm", "p9", "passthrough", "pci",
    "pci_msitranslate", "pci_permissive", "pci_power_mgmt", "pci_seize", "period", "pool", "pvcalls", "pvshim",
    "pvshim_cmdline", "pvshim_extra", "pvshim_path", "rdm", "rdm_mem_boundary", "seclabel", "slice",
    "usbctrl", "usbdev", "vdispl", "vfb", "virtio", "vkb", "vmtrace_buf_kb", "vnuma", "vpmu", "vsnd", "vtpm",
    "xend_suspend_evtchn_compat", "xenstore_feature_mask", "xenstore_quota",
];

#[rustfmt::skip]
const HVM: &[&str] = &[
    "acpi_firmware", "acpi_laptop_slate", "acpi_s3", "acpi_s4", "altp2mhvm", "apic", "bios", "bios_path_override",
    "boot", "device_model_args", "device_model_args_hvm", "device_model_args_pv", "device_model_override",
    "device_model_stubdomain_override", "device_model_stubdomain_seclabel", "device_model_user",
    "device_model_version", "dm_restrict", "firmware_override", "gfx_passthru", "hdtype", "hpet", "hvm_pirq", "keymap", "mmio_hole",
    "ms_vm_genid", "nographic", "nx", "oos", "opengl", "pae", "sdl", "serial", "smbios", "smbios_firmware",
    "soundhw", "spice", "spice_clipboard_sharing", "spice_image_compression", "spice_streaming_video",
    "spiceagent_mouse", "spicedisable_ticketing", "spicehost", "spicepasswd", "spiceport", "spicetls_port",
    "spiceusbredirection", "spicevdagent", "stdvga", "stubdomain_cmdline", "stubdomain_kernel",
    "stubdomain_memory", "stubdomain_ramdisk", "system_firmware", "timer_mode", "usb", "usbdevice", "usbversion",
    "vendor_device", "vga", "videoram", "viridian", "vkb_device", "vnc", "vncdisplay", "vnclisten", "vncpasswd",
    "vncunused", "vpt_align", "xen_platform_pci", "xen_platform_pci_bar_uc",
];

const PV: &[&str] = &["features", "superpages", "vif2"];

#[rustfmt::skip]
const ARM: &[&str] = &[
    "arm_sci", "device_tree", "gic_version", "nr_spis", "sve", "tee", "trap_unmapped_accesses", "vuart",
];

/// Among them the words of xm and of generators of files, which xl passes over: libvirt's
/// `parallel`, xen-tools' `dhcp`, Ganeti's `cpu_cap`, XTF's `loader`.
#[rustfmt::skip]
const OBSOLETE: &[&str] = &[
    "blkdev_start", "bootargs", "cdrom", "cpu", "cpu_cap", "device_model", "dhcp", "display", "extratime", "gateway",
    "hostname", "iommu", "ip", "loader", "netmask", "nics", "numa_placement", "on_xend_start", "on_xend_stop",
    "parallel", "restart", "vcpu_avail", "vhpt", "vncconsole", "vncviewer", "xauthority",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_stands_twice() {
        let mut keys: Vec<_> = all().collect();
        let total = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), total);
        assert!(total > 150);
    }

    #[test]
    fn each_status_is_reachable() {
        assert_eq!(status("memory"), Some(Status::Supported));
        assert_eq!(status("pci"), Some(Status::NotYet));
        assert_eq!(status("vnc"), Some(Status::Hvm));
        assert_eq!(status("tee"), Some(Status::Arm));
        assert_eq!(status("memry"), None);
        assert_eq!(suggestion("memry"), Some("memory"));
    }
}
