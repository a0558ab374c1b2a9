//! Domctl arguments about devices and the rights to them (xen/domctl.h).

use crate::GuestHandle;

abi! {
    abi_consts! { u32:
        XEN_DOMCTL_DEV_PCI = 0;
        XEN_DOMCTL_DEV_DT = 1;
        XEN_DOMCTL_DEV_RDM_RELAXED = 1;
        DPCI_ADD_MAPPING = 1;
        DPCI_REMOVE_MAPPING = 0;
        PT_IRQ_TYPE_PCI = 0;
        PT_IRQ_TYPE_ISA = 1;
        PT_IRQ_TYPE_MSI = 2;
        PT_IRQ_TYPE_MSI_TRANSLATE = 3;
        PT_IRQ_TYPE_SPI = 4;
        XEN_DOMCTL_VMSI_X86_DEST_ID_MASK = 0x0000_00ff;
        XEN_DOMCTL_VMSI_X86_RH_MASK = 0x0000_0100;
        XEN_DOMCTL_VMSI_X86_DM_MASK = 0x0000_0200;
        XEN_DOMCTL_VMSI_X86_DELIV_MASK = 0x0000_7000;
        XEN_DOMCTL_VMSI_X86_TRIG_MASK = 0x0000_8000;
        XEN_DOMCTL_VMSI_X86_UNMASKED = 0x0001_0000;
        XEN_DOMCTL_PSR_CMT_OP_DETACH = 0;
        XEN_DOMCTL_PSR_CMT_OP_ATTACH = 1;
        XEN_DOMCTL_PSR_CMT_OP_QUERY_RMID = 2;
        XEN_DOMCTL_PSR_SET_L3_CBM = 0;
        XEN_DOMCTL_PSR_GET_L3_CBM = 1;
        XEN_DOMCTL_PSR_SET_L3_CODE = 2;
        XEN_DOMCTL_PSR_SET_L3_DATA = 3;
        XEN_DOMCTL_PSR_GET_L3_CODE = 4;
        XEN_DOMCTL_PSR_GET_L3_DATA = 5;
        XEN_DOMCTL_PSR_SET_L2_CBM = 6;
        XEN_DOMCTL_PSR_GET_L2_CBM = 7;
        XEN_DOMCTL_PSR_SET_MBA_THRTL = 8;
        XEN_DOMCTL_PSR_GET_MBA_THRTL = 9;
        XEN_DOMCTL_VUART_OP_INIT = 0;
        XEN_DOMCTL_VUART_TYPE_VPL011 = 0;
    }

    abi_struct! {
        /// `XEN_DOMCTL_IRQ_PERMISSION`.
        pub struct DomctlIrqPermission = "struct xen_domctl_irq_permission", 8 {
            pub pirq: u32,
            pub allow_access: u8,
            pub pad: [u8; 3],
        }

        /// `XEN_DOMCTL_IOMEM_PERMISSION`.
        pub struct DomctlIomemPermission = "struct xen_domctl_iomem_permission", 24 {
            pub first_mfn: u64,
            pub nr_mfns: u64,
            pub allow_access: u8,
            pub _pad: [u8; 7],
        }

        /// `XEN_DOMCTL_IOPORT_PERMISSION`.
        pub struct DomctlIoportPermission = "struct xen_domctl_ioport_permission", 12 {
            pub first_port: u32,
            pub nr_ports: u32,
            pub allow_access: u8,
            pub _pad: [u8; 3],
        }

        /// `XEN_DOMCTL_MEMORY_MAPPING`.
        pub struct DomctlMemoryMapping = "struct xen_domctl_memory_mapping", 32 {
            pub first_gfn: u64,
            pub first_mfn: u64,
            pub nr_mfns: u64,
            pub add_mapping: u32,
            pub padding: u32,
        }

        /// `XEN_DOMCTL_IOPORT_MAPPING`.
        pub struct DomctlIoportMapping = "struct xen_domctl_ioport_mapping", 16 {
            pub first_gport: u32,
            pub first_mport: u32,
            pub nr_ports: u32,
            pub add_mapping: u32,
        }

        /// `XEN_DOMCTL_ASSIGN_DEVICE`, `..._TEST_ASSIGN_DEVICE` and `..._DEASSIGN_DEVICE`.
        /// For a PCI device, `u` holds its segment, bus, device and function as a `u32`.
        pub struct DomctlAssignDevice = "struct xen_domctl_assign_device", 24 {
            pub dev: u32,
            pub flags: u32,
            pub u: [u8; 16],
        }

        /// `XEN_DOMCTL_GET_DEVICE_GROUP`.
        pub struct DomctlGetDeviceGroup = "struct xen_domctl_get_device_group", 24 {
            pub machine_sbdf: u32,
            pub max_sdevs: u32,
            pub num_sdevs: u32,
            pub _pad: u32,
            pub sdev_array: GuestHandle<u32>,
        }

        /// The union member of `DomctlBindPtIrq` for a PCI interrupt line.
        pub struct DomctlBindPtIrqPci = "__typeof__(((struct xen_domctl_bind_pt_irq *)0)->u.pci)", 3 {
            pub bus: u8,
            pub device: u8,
            pub intx: u8,
        }

        /// The union member of `DomctlBindPtIrq` for a message-signalled interrupt.
        pub struct DomctlBindPtIrqMsi = "__typeof__(((struct xen_domctl_bind_pt_irq *)0)->u.msi)", 16 {
            pub gvec: u8,
            pub _pad: [u8; 3],
            pub gflags: u32,
            pub gtable: u64,
        }

        /// `XEN_DOMCTL_BIND_PT_IRQ` and `XEN_DOMCTL_UNBIND_PT_IRQ`.
        pub struct DomctlBindPtIrq = "struct xen_domctl_bind_pt_irq", 24 {
            pub machine_irq: u32,
            pub irq_type: u32,
            pub u: [u8; 16],
        }

        /// `XEN_DOMCTL_PSR_CMT_OP`.
        pub struct DomctlPsrCmtOp = "struct xen_domctl_psr_cmt_op", 8 {
            pub cmd: u32,
            pub data: u32,
        }

        /// `XEN_DOMCTL_PSR_ALLOC`.
        pub struct DomctlPsrAlloc = "struct xen_domctl_psr_alloc", 16 {
            pub cmd: u32,
            pub target: u32,
            pub data: u64,
        }

        /// `XEN_DOMCTL_VUART_OP`.
        pub struct DomctlVuartOp = "struct xen_domctl_vuart_op", 24 {
            pub cmd: u32,
            pub kind as "type": u32,
            pub gfn: u64,
            pub console_domid: u16,
            pub pad: [u8; 2],
            pub evtchn: u32,
        }
    }
}
