//! Operations on the machine's devices and interrupts (xen/physdev.h).

use crate::GuestHandle;

abi! {
    abi_consts! { u32:
        PHYSDEVOP_EOI = 12;
        PHYSDEVOP_PIRQ_EOI_GMFN_V1 = 17;
        PHYSDEVOP_PIRQ_EOI_GMFN_V2 = 28;
        PHYSDEVOP_IRQ_STATUS_QUERY = 5;
        PHYSDEVOP_SET_IOPL = 6;
        PHYSDEVOP_SET_IOBITMAP = 7;
        PHYSDEVOP_APIC_READ = 8;
        PHYSDEVOP_APIC_WRITE = 9;
        PHYSDEVOP_ALLOC_IRQ_VECTOR = 10;
        PHYSDEVOP_FREE_IRQ_VECTOR = 11;
        PHYSDEVOP_MAP_PIRQ = 13;
        PHYSDEVOP_UNMAP_PIRQ = 14;
        PHYSDEVOP_MANAGE_PCI_ADD = 15;
        PHYSDEVOP_MANAGE_PCI_REMOVE = 16;
        PHYSDEVOP_RESTORE_MSI = 19;
        PHYSDEVOP_MANAGE_PCI_ADD_EXT = 20;
        PHYSDEVOP_SETUP_GSI = 21;
        PHYSDEVOP_GET_FREE_PIRQ = 23;
        PHYSDEVOP_PCI_MMCFG_RESERVED = 24;
        PHYSDEVOP_PCI_DEVICE_ADD = 25;
        PHYSDEVOP_PCI_DEVICE_REMOVE = 26;
        PHYSDEVOP_RESTORE_MSI_EXT = 27;
        PHYSDEVOP_PREPARE_MSIX = 30;
        PHYSDEVOP_RELEASE_MSIX = 31;
        PHYSDEVOP_DBGP_OP = 29;
        PHYSDEVOP_IRQ_UNMASK_NOTIFY = 4;
        PHYSDEVOP_PIRQ_EOI_GMFN = 28;
        XENIRQSTAT_NEEDS_EOI = 1 << 0;
        XENIRQSTAT_SHARED = 1 << 1;
        MAP_PIRQ_TYPE_MSI = 0x0;
        MAP_PIRQ_TYPE_GSI = 0x1;
        MAP_PIRQ_TYPE_UNKNOWN = 0x2;
        MAP_PIRQ_TYPE_MSI_SEG = 0x3;
        MAP_PIRQ_TYPE_MULTI_MSI = 0x4;
        XEN_PCI_MMCFG_RESERVED = 0x1;
        XEN_PCI_DEV_EXTFN = 0x1;
        XEN_PCI_DEV_VIRTFN = 0x2;
        XEN_PCI_DEV_PXM = 0x4;
    }

    abi_consts! { u8:
        PHYSDEVOP_DBGP_RESET_PREPARE = 1;
        PHYSDEVOP_DBGP_RESET_DONE = 2;
        PHYSDEVOP_DBGP_BUS_UNKNOWN = 0;
        PHYSDEVOP_DBGP_BUS_PCI = 1;
    }

    abi_struct! {
        /// `PHYSDEVOP_EOI`.
        pub struct PhysdevEoi = "struct physdev_eoi", 4 {
            pub irq: u32,
        }

        /// `PHYSDEVOP_PIRQ_EOI_GMFN_V1` and `..._V2`.
        pub struct PhysdevPirqEoiGmfn = "struct physdev_pirq_eoi_gmfn", 8 {
            pub gmfn: u64,
        }

        /// `PHYSDEVOP_IRQ_STATUS_QUERY`.
        pub struct PhysdevIrqStatusQuery = "struct physdev_irq_status_query", 8 {
            pub irq: u32,
            pub flags: u32,
        }

        /// `PHYSDEVOP_SET_IOPL`.
        pub struct PhysdevSetIopl = "struct physdev_set_iopl", 4 {
            pub iopl: u32,
        }

        /// `PHYSDEVOP_SET_IOBITMAP`.
        pub struct PhysdevSetIobitmap = "struct physdev_set_iobitmap", 16 {
            pub bitmap: GuestHandle<u8>,
            pub nr_ports: u32,
            pub _pad: u32,
        }

        /// `PHYSDEVOP_APIC_READ` and `PHYSDEVOP_APIC_WRITE`.
        pub struct PhysdevApic = "struct physdev_apic", 16 {
            pub apic_physbase: u64,
            pub reg: u32,
            pub value: u32,
        }

        /// `PHYSDEVOP_ALLOC_IRQ_VECTOR` and `PHYSDEVOP_FREE_IRQ_VECTOR`.
        pub struct PhysdevIrq = "struct physdev_irq", 8 {
            pub irq: u32,
            pub vector: u32,
        }

        /// `PHYSDEVOP_MAP_PIRQ`.
        pub struct PhysdevMapPirq = "struct physdev_map_pirq", 40 {
            pub domid: u16,
            pub _pad0: u16,
            pub kind as "type": i32,
            pub index: i32,
            pub pirq: i32,
            pub bus: i32,
            pub devfn: i32,
            pub entry_nr: i32,
            pub _pad1: u32,
            pub table_base: u64,
        }

        /// `PHYSDEVOP_UNMAP_PIRQ`.
        pub struct PhysdevUnmapPirq = "struct physdev_unmap_pirq", 8 {
            pub domid: u16,
            pub _pad: u16,
            pub pirq: i32,
        }

        /// `PHYSDEVOP_MANAGE_PCI_ADD` and `PHYSDEVOP_MANAGE_PCI_REMOVE`.
        pub struct PhysdevManagePci = "struct physdev_manage_pci", 2 {
            pub bus: u8,
            pub devfn: u8,
        }

        /// `PHYSDEVOP_RESTORE_MSI`.
        pub struct PhysdevRestoreMsi = "struct physdev_restore_msi", 2 {
            pub bus: u8,
            pub devfn: u8,
        }

        /// `PHYSDEVOP_MANAGE_PCI_ADD_EXT`.
        pub struct PhysdevManagePciExt = "struct physdev_manage_pci_ext", 16 {
            pub bus: u8,
            pub devfn: u8,
            pub _pad0: u16,
            pub is_extfn: u32,
            pub is_virtfn: u32,
            pub physfn_bus as "physfn.bus": u8,
            pub physfn_devfn as "physfn.devfn": u8,
            pub _pad1: u16,
        }

        /// `PHYSDEVOP_SETUP_GSI`.
        pub struct PhysdevSetupGsi = "struct physdev_setup_gsi", 8 {
            pub gsi: i32,
            pub triggering: u8,
            pub polarity: u8,
            pub _pad: u16,
        }

        /// `PHYSDEVOP_GET_FREE_PIRQ`.
        pub struct PhysdevGetFreePirq = "struct physdev_get_free_pirq", 8 {
            pub kind as "type": i32,
            pub pirq: u32,
        }

        /// `PHYSDEVOP_PCI_MMCFG_RESERVED`.
        pub struct PhysdevPciMmcfgReserved = "struct physdev_pci_mmcfg_reserved", 16 {
            pub address: u64,
            pub segment: u16,
            pub start_bus: u8,
            pub end_bus: u8,
            pub flags: u32,
        }

        /// `PHYSDEVOP_PCI_DEVICE_ADD`; optional words follow.
        pub struct PhysdevPciDeviceAdd = "struct physdev_pci_device_add", 12 {
            pub seg: u16,
            pub bus: u8,
            pub devfn: u8,
            pub flags: u32,
            pub physfn_bus as "physfn.bus": u8,
            pub physfn_devfn as "physfn.devfn": u8,
            pub _pad: u16,
        }

        /// A PCI function: `PHYSDEVOP_PCI_DEVICE_REMOVE`, `..._RESTORE_MSI_EXT`, `..._PREPARE_MSIX`
        /// and `..._RELEASE_MSIX`.
        pub struct PhysdevPciDevice = "struct physdev_pci_device", 4 {
            pub seg: u16,
            pub bus: u8,
            pub devfn: u8,
        }

        /// `PHYSDEVOP_DBGP_OP`.
        pub struct PhysdevDbgpOp = "struct physdev_dbgp_op", 6 {
            pub op: u8,
            pub bus: u8,
            pub pci as "u.pci": PhysdevPciDevice,
        }
    }
}
