//! Console input: to dom0, or after three Ctrl-A to the debug keys, and back.

use alloc::collections::VecDeque;

use oxen_arch::console;
use oxen_types::CpuId;
use spin::Mutex;

use oxen_vmm::Vmm;

use crate::host::Hw;

const CTRL_A: u8 = 1;
const SWITCH_COUNT: u32 = 3;
/// Bytes that dom0 has not read yet; what is typed beyond them is lost.
const CAPACITY: usize = 4096;

#[derive(PartialEq, Eq, Clone, Copy)]
enum Focus {
    Dom0,
    Hypervisor,
}

struct Input {
    focus: Focus,
    ctrl_a: u32,
    typed: VecDeque<u8>,
}

static INPUT: Mutex<Input> = Mutex::new(Input {
    focus: Focus::Dom0,
    ctrl_a: 0,
    typed: VecDeque::new(),
});

/// Hands what was typed to dom0 or to the debug keys. Each CPU's loop calls this, with no lock
/// held.
pub(crate) fn work(vmm: &Vmm<Hw>, cpu: CpuId) {
    console::release_lines();
    // The UART interrupts the boot CPU.
    if cpu != CpuId(0) {
        return;
    }
    let mut for_dom0 = false;
    while let Some(byte) = console::read_byte() {
        let mut input = INPUT.lock();
        input.ctrl_a = if byte == CTRL_A { input.ctrl_a + 1 } else { 0 };
        if input.ctrl_a == SWITCH_COUNT {
            input.ctrl_a = 0;
            input.focus = if input.focus == Focus::Dom0 {
                Focus::Hypervisor
            } else {
                Focus::Dom0
            };
            let name = if input.focus == Focus::Dom0 {
                "dom0"
            } else {
                "the hypervisor ('h' for help)"
            };
            drop(input);
            log::info!("input goes to {name}");
            continue;
        }
        match input.focus {
            Focus::Dom0 if input.typed.len() < CAPACITY => {
                input.typed.push_back(byte);
                for_dom0 = true;
            }
            Focus::Dom0 => {}
            Focus::Hypervisor => {
                drop(input);
                vmm.run_key(byte);
            }
        }
    }
    if for_dom0 {
        vmm.machine.raise_global_virq(guest_pv_abi::VIRQ_CONSOLE);
    }
}

/// Takes bytes that were typed for dom0. Returns their number.
pub(crate) fn read_for_dom0(into: &mut [u8]) -> usize {
    let mut input = INPUT.lock();
    let len = into.len().min(input.typed.len());
    for (slot, byte) in into.iter_mut().zip(input.typed.drain(..len)) {
        *slot = byte;
    }
    len
}

/// The interrupt line of the console's own UART.
pub(crate) fn gsi() -> Option<u32> {
    let (port, _) = console::serial_ports()?;
    let isa_irq = if port == 0x2f8 || port == 0x2e8 { 3 } else { 4 };
    Some(oxen_arch::acpi::info().isa_to_gsi(isa_irq).0)
}
