//! The firmware's information and services (xen/platform.h: `XENPF_FIRMWARE_INFO`,
//! `XENPF_EFI_RUNTIME_CALL`).

use crate::GuestHandle;

abi! {
    abi_consts! { u32:
        XEN_FW_DISK_INFO = 1;
        XEN_FW_DISK_MBR_SIGNATURE = 2;
        XEN_FW_VBEDDC_INFO = 3;
        XEN_FW_EFI_INFO = 4;
        XEN_FW_EFI_VERSION = 0;
        XEN_FW_EFI_CONFIG_TABLE = 1;
        XEN_FW_EFI_VENDOR = 2;
        XEN_FW_EFI_MEM_INFO = 3;
        XEN_FW_EFI_RT_VERSION = 4;
        XEN_FW_EFI_PCI_ROM = 5;
        XEN_FW_EFI_APPLE_PROPERTIES = 6;
        XEN_FW_KBD_SHIFT_FLAGS = 5;
        XEN_EFI_GET_TIME = 1;
        XEN_EFI_SET_TIME = 2;
        XEN_EFI_GET_WAKEUP_TIME = 3;
        XEN_EFI_SET_WAKEUP_TIME = 4;
        XEN_EFI_GET_NEXT_HIGH_MONOTONIC_COUNT = 5;
        XEN_EFI_GET_VARIABLE = 6;
        XEN_EFI_SET_VARIABLE = 7;
        XEN_EFI_GET_NEXT_VARIABLE_NAME = 8;
        XEN_EFI_QUERY_VARIABLE_INFO = 9;
        XEN_EFI_QUERY_CAPSULE_CAPABILITIES = 10;
        XEN_EFI_UPDATE_CAPSULE = 11;
        XEN_EFI_GET_TIME_SET_CLEARS_NS = 0x0000_0001;
        XEN_EFI_GET_WAKEUP_TIME_ENABLED = 0x0000_0001;
        XEN_EFI_GET_WAKEUP_TIME_PENDING = 0x0000_0002;
        XEN_EFI_SET_WAKEUP_TIME_ENABLE = 0x0000_0001;
        XEN_EFI_SET_WAKEUP_TIME_ENABLE_ONLY = 0x0000_0002;
        XEN_EFI_VARIABLE_NON_VOLATILE = 0x0000_0001;
        XEN_EFI_VARIABLE_BOOTSERVICE_ACCESS = 0x0000_0002;
        XEN_EFI_VARIABLE_RUNTIME_ACCESS = 0x0000_0004;
        XEN_EFI_VARINFO_BOOT_SNAPSHOT = 0x0000_0001;
    }

    abi_struct! {
        /// `XENPF_FIRMWARE_INFO`. `u` is one of the `Firmware...` below, by `kind` and `index`; an
        /// EFI version or configuration table fits into a `u32` or a `FirmwareEfiConfig`.
        pub struct XenpfFirmwareInfo = "struct xenpf_firmware_info", 40 {
            pub kind as "type": u32,
            pub index: u32,
            pub u: [u8; 32],
        }

        /// `XEN_FW_DISK_INFO`.
        pub struct FirmwareDiskInfo = "__typeof__(((struct xenpf_firmware_info *)0)->u.disk_info)", 16 {
            pub device: u8,
            pub version: u8,
            pub interface_support: u16,
            pub legacy_max_cylinder: u16,
            pub legacy_max_head: u8,
            pub legacy_sectors_per_track: u8,
            pub edd_params: GuestHandle<u8>,
        }

        /// `XEN_FW_DISK_MBR_SIGNATURE`.
        pub struct FirmwareMbrSignature = "__typeof__(((struct xenpf_firmware_info *)0)->u.disk_mbr_signature)", 8 {
            pub device: u8,
            pub _pad: [u8; 3],
            pub mbr_signature: u32,
        }

        /// `XEN_FW_VBEDDC_INFO`.
        pub struct FirmwareVbeDdcInfo = "__typeof__(((struct xenpf_firmware_info *)0)->u.vbeddc_info)", 16 {
            pub capabilities: u8,
            pub edid_transfer_time: u8,
            pub _pad: [u8; 6],
            pub edid: GuestHandle<u8>,
        }

        /// `XEN_FW_EFI_CONFIG_TABLE`.
        pub struct FirmwareEfiConfig = "__typeof__(((union xenpf_efi_info *)0)->cfg)", 16 {
            pub addr: u64,
            pub nent: u32,
            pub _pad: u32,
        }

        /// `XEN_FW_EFI_VENDOR`.
        pub struct FirmwareEfiVendor = "__typeof__(((union xenpf_efi_info *)0)->vendor)", 16 {
            pub revision: u32,
            pub bufsz: u32,
            pub name: GuestHandle<u16>,
        }

        /// `XEN_FW_EFI_MEM_INFO`.
        pub struct FirmwareEfiMem = "__typeof__(((union xenpf_efi_info *)0)->mem)", 32 {
            pub addr: u64,
            pub size: u64,
            pub attr: u64,
            pub kind as "type": u32,
            pub _pad: u32,
        }

        /// `XEN_FW_EFI_PCI_ROM`.
        pub struct FirmwareEfiPciRom = "__typeof__(((union xenpf_efi_info *)0)->pci_rom)", 24 {
            pub segment: u16,
            pub bus: u8,
            pub devfn: u8,
            pub vendor: u16,
            pub devid: u16,
            pub address: u64,
            pub size: u64,
        }

        /// A time as EFI counts it.
        pub struct XenpfEfiTime = "struct xenpf_efi_time", 16 {
            pub year: u16,
            pub month: u8,
            pub day: u8,
            pub hour: u8,
            pub min: u8,
            pub sec: u8,
            pub _pad0: u8,
            pub ns: u32,
            pub tz: i16,
            pub daylight: u8,
            pub _pad1: u8,
        }

        /// EFI's identifier.
        pub struct XenpfEfiGuid = "struct xenpf_efi_guid", 16 {
            pub data1: u32,
            pub data2: u16,
            pub data3: u16,
            pub data4: [u8; 8],
        }

        /// `XENPF_EFI_RUNTIME_CALL`. `u` is one of the `EfiCall...` below or an `XenpfEfiTime`.
        pub struct XenpfEfiRuntimeCall = "struct xenpf_efi_runtime_call", 56 {
            pub function: u32,
            pub misc: u32,
            pub status: u64,
            pub u: [u8; 40],
        }

        /// `XEN_EFI_GET_TIME`.
        pub struct EfiCallGetTime = "__typeof__(((struct xenpf_efi_runtime_call *)0)->u.get_time)", 24 {
            pub time: XenpfEfiTime,
            pub resolution: u32,
            pub accuracy: u32,
        }

        /// `XEN_EFI_GET_VARIABLE` and `XEN_EFI_SET_VARIABLE`.
        pub struct EfiCallVariable = "__typeof__(((struct xenpf_efi_runtime_call *)0)->u.get_variable)", 40 {
            pub name: GuestHandle<u16>,
            pub size: u64,
            pub data: GuestHandle<u8>,
            pub vendor_guid: XenpfEfiGuid,
        }

        /// `XEN_EFI_GET_NEXT_VARIABLE_NAME`.
        pub struct EfiCallNextVariable = "__typeof__(((struct xenpf_efi_runtime_call *)0)->u.get_next_variable_name)", 32 {
            pub size: u64,
            pub name: GuestHandle<u16>,
            pub vendor_guid: XenpfEfiGuid,
        }

        /// `XEN_EFI_QUERY_VARIABLE_INFO`.
        pub struct EfiCallVariableInfo = "__typeof__(((struct xenpf_efi_runtime_call *)0)->u.query_variable_info)", 32 {
            pub attr: u32,
            pub _pad: u32,
            pub max_store_size: u64,
            pub remain_store_size: u64,
            pub max_size: u64,
        }
    }
}
