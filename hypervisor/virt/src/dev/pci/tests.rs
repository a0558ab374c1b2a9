//! The steps of a domain's PCI code, against a machine like a small PC.

use std::vec::Vec;

use super::fake::{Function, HOST_ADDRESS, Machine};
use super::regs::{COMMAND, HEADER_TYPE, ROM};
use oxen_types::{EcamRegion, Maddr};

use super::*;
use crate::dev::message::{Delivery, Destination, Message};

const NIC: Sbdf = Sbdf::new(0, 0, 3, 0);
const DISK: Sbdf = Sbdf::new(0, 0, 4, 1);
const ECAM: u64 = 0xb000_0000;

/// BAR 0: 128 KiB of registers. BAR 2, 64 bits wide: MSI-X table at 0, pending bits at 0x800.
fn nic() -> Function {
    let mut nic = Function::new(0)
        .bar(0, 0, 0x2_0000, 0xfe00_0000)
        .bar(1, 1, 0x20, 0xc000)
        .bar(2, 0xc, 0x4000, 0x8_0000_0000)
        .rom(0x1_0000, 0xfd00_0000)
        .with_msi(0x50, 0x186)
        .with_msix(0x70, 5, 2, 0x802);
    nic.set(COMMAND, 2, 7);
    nic
}

/// One 4 KiB BAR and plain 32-bit MSI.
fn disk() -> Function {
    Function::new(0)
        .bar(5, 0, 0x1000, 0xfe02_0000)
        .with_msi(0x80, 0)
}

fn new() -> (Vpci, Machine) {
    let mut bridge = Function::new(0x80);
    bridge.set(HEADER_TYPE, 1, 0x80);
    let mut machine = Machine::with([(NIC, nic()), (DISK.function_0(), bridge), (DISK, disk())]);
    let mut vpci = Vpci::new(&[EcamRegion {
        base: Maddr::new(ECAM),
        segment: 0,
        first_bus: 0,
        last_bus: 1,
    }]);
    let found = scan(0, 0..=1, &mut machine);
    assert_eq!(found, [NIC, DISK.function_0(), DISK]);
    for sbdf in found {
        vpci.add(sbdf, &mut machine);
    }
    (vpci, machine)
}

fn at(sbdf: Sbdf, reg: u16) -> u64 {
    ECAM + (u64::from(sbdf.bdf) << 12) + u64::from(reg)
}

fn read(v: &mut Vpci, m: &mut Machine, sbdf: Sbdf, reg: u16, size: u8) -> u32 {
    v.mmio_read(at(sbdf, reg), size, m).unwrap() as u32
}

fn write(v: &mut Vpci, m: &mut Machine, sbdf: Sbdf, reg: u16, size: u8, value: u32) {
    assert!(v.mmio_write(at(sbdf, reg), size, u64::from(value), m));
    m.check_messages();
}

fn pages(range: core::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

fn mapped(m: &Machine) -> Vec<u64> {
    m.mapped.iter().copied().collect()
}

fn nic_pages() -> Vec<u64> {
    [pages(0xfe000..0xfe020), pages(0x80_0001..0x80_0004)].concat()
}

#[test]
fn decoding_at_boot_is_mapped_but_for_the_table() {
    let (v, m) = new();
    assert_eq!(mapped(&m), nic_pages());
    assert!(v.claims(0x8_0000_0fff));
    assert!(!v.claims(0x8_0000_1000));
    assert_eq!(m.at(NIC).get(COMMAND, 2), 7, "restored after sizing");
    assert_eq!(m.at(NIC).get(0x18, 4), 0xc);
}

#[test]
fn ports_select_registers() {
    let (mut v, mut m) = new();
    let cf8 = 0x8000_0000 | u32::from(NIC.bdf) << 8;
    assert_eq!(v.port_read(0xcfc, 4, &mut m), Some(u32::MAX), "not enabled");
    assert!(v.port_write(0xcf8, 4, cf8, &mut m));
    assert_eq!(v.port_read(0xcf8, 4, &mut m), Some(cf8));
    assert_eq!(v.port_read(0xcfc, 4, &mut m), Some(0x1234_8086));
    assert_eq!(v.port_read(0xcfe, 2, &mut m), Some(0x1234));
    assert_eq!(v.port_read(0xcff, 1, &mut m), Some(0x12));
    assert_eq!(v.port_read(0xcfd, 2, &mut m), Some(0xffff), "unaligned");
    assert_eq!(v.port_read(0xcf8, 2, &mut m), None);
    assert_eq!(v.port_read(0xcf9, 1, &mut m), None);
    assert!(!v.port_write(0xcf9, 1, 6, &mut m));
    assert!(!v.port_write(0xd00, 4, 6, &mut m));
    v.port_write(0xcf8, 4, 0x8000_0000, &mut m);
    assert_eq!(v.port_read(0xcfc, 4, &mut m), Some(u32::MAX), "no device");
}

#[test]
fn eight_bytes_of_mmcfg_are_two_fours() {
    let (mut v, mut m) = new();
    assert_eq!(
        v.mmio_read(at(NIC, 0), 8, &mut m),
        Some(0x0010_0007_1234_8086)
    );
    assert_eq!(v.mmio_read(at(NIC, 4), 8, &mut m), Some(u64::MAX));
    assert_eq!(v.mmio_read(at(NIC, 0xffc), 8, &mut m), Some(u64::MAX));
    assert_eq!(v.mmio_read(ECAM - 1, 1, &mut m), None);
}

#[test]
fn toggling_decode_unmaps_and_maps() {
    let (mut v, mut m) = new();
    write(&mut v, &mut m, NIC, COMMAND, 2, 5);
    assert_eq!(mapped(&m), [0; 0]);
    assert!(!v.claims(0x8_0000_0000), "nothing to trap");
    m.mapped.insert(0x80_0000);
    write(&mut v, &mut m, NIC, COMMAND, 1, 7);
    assert_eq!(mapped(&m), nic_pages(), "the table's page is taken back");
    assert_eq!(m.at(NIC).get(COMMAND, 2), 7);
}

#[test]
fn sizing_and_moving_a_bar() {
    let (mut v, mut m) = new();
    write(&mut v, &mut m, NIC, COMMAND, 2, 5);
    for (reg, mask) in [
        (0x10, 0xfffe_0000u32),
        (0x18, 0xffff_c00c),
        (0x1c, u32::MAX),
    ] {
        let old = read(&mut v, &mut m, NIC, reg, 4);
        write(&mut v, &mut m, NIC, reg, 4, u32::MAX);
        assert_eq!(read(&mut v, &mut m, NIC, reg, 4), mask);
        write(&mut v, &mut m, NIC, reg, 4, old);
        assert_eq!(read(&mut v, &mut m, NIC, reg, 4), old);
    }
    write(&mut v, &mut m, NIC, 0x18, 4, 0x4000);
    write(&mut v, &mut m, NIC, 0x1c, 4, 9);
    write(&mut v, &mut m, NIC, COMMAND, 2, 7);
    assert!(m.mapped.contains(&0x90_0005) && !m.mapped.contains(&0x90_0004));
    assert!(v.claims(0x9_0000_4000) && !v.claims(0x8_0000_0000));
}

#[test]
fn a_decoding_bar_moves_with_its_pages() {
    let (mut v, mut m) = new();
    write(&mut v, &mut m, NIC, 0x10, 4, u32::MAX);
    assert_eq!(
        mapped(&m),
        pages(0x80_0001..0x80_0004),
        "a size is no place"
    );
    write(&mut v, &mut m, NIC, 0x10, 4, 0xfe00_0000);
    assert_eq!(mapped(&m), nic_pages());
    write(&mut v, &mut m, NIC, 0x12, 2, 0xfe04);
    assert!(m.mapped.contains(&0xfe040) && !m.mapped.contains(&0xfe000));
}

#[test]
fn after_an_unseen_reset_the_restored_bars_reach_the_device() {
    let (mut v, mut m) = new();
    m.functions.get_mut(&NIC).unwrap().reset();
    assert_eq!(read(&mut v, &mut m, NIC, 0x10, 4), 0);
    assert_eq!(read(&mut v, &mut m, NIC, COMMAND, 2), 0);
    write(&mut v, &mut m, NIC, 0x10, 4, 0xfe00_0000);
    write(&mut v, &mut m, NIC, COMMAND, 2, 7);
    assert_eq!(m.at(NIC).get(0x10, 4), 0xfe00_0000);
    assert_eq!(m.at(NIC).get(COMMAND, 2), 7);
    assert_eq!(mapped(&m), nic_pages());
}

#[test]
fn the_rom_is_mapped_while_enabled() {
    let (mut v, mut m) = new();
    assert!(!m.mapped.contains(&0xfd000));
    write(&mut v, &mut m, NIC, ROM, 4, 0xfd00_0001);
    assert!(m.mapped.contains(&0xfd000) && m.mapped.contains(&0xfd00f));
    write(&mut v, &mut m, NIC, ROM, 4, 0xfd00_0000);
    assert!(!m.mapped.contains(&0xfd000));
}

#[test]
fn a_shared_page_stays_until_the_last_user_goes() {
    let (mut v, mut m) = new();
    write(&mut v, &mut m, DISK, 0x24, 4, 0xfe00_1000);
    write(&mut v, &mut m, DISK, COMMAND, 2, 2);
    write(&mut v, &mut m, NIC, COMMAND, 2, 0);
    assert_eq!(mapped(&m), [0xfe001]);
    write(&mut v, &mut m, DISK, COMMAND, 2, 0);
    assert_eq!(mapped(&m), [0; 0]);
}

#[test]
fn a_bar_moved_onto_a_trapped_page_gets_it_when_the_trap_goes() {
    let (mut v, mut m) = new();
    write(&mut v, &mut m, NIC, COMMAND, 2, 0);
    write(&mut v, &mut m, NIC, 0x18, 4, 0xf000_0000);
    write(&mut v, &mut m, NIC, 0x1c, 4, 0);
    write(&mut v, &mut m, NIC, COMMAND, 2, 2);
    write(&mut v, &mut m, DISK, 0x24, 4, 0xf000_0000);
    write(&mut v, &mut m, DISK, COMMAND, 2, 2);
    assert!(!m.mapped.contains(&0xf0000), "the table's trap comes first");
    write(&mut v, &mut m, NIC, COMMAND, 2, 0);
    assert_eq!(mapped(&m), [0xf0000]);
}

#[test]
fn decoding_without_restored_bars_maps_nothing() {
    let (mut v, mut m) = new();
    write(&mut v, &mut m, NIC, COMMAND, 2, 0);
    m.functions.get_mut(&NIC).unwrap().reset();
    write(&mut v, &mut m, NIC, COMMAND, 2, 2);
    assert_eq!(mapped(&m), [0; 0], "the hardware has no addresses now");
}

#[test]
fn configuration_space_is_never_mapped() {
    let (mut v, mut m) = new();
    write(&mut v, &mut m, NIC, 0x10, 4, ECAM as u32 + 0x1e_0000);
    write(&mut v, &mut m, NIC, 0x18, 4, ECAM as u32 + 0x1f_e000);
    write(&mut v, &mut m, NIC, 0x1c, 4, 0);
    let region = (ECAM >> 12)..(ECAM >> 12) + 0x200;
    assert!(m.mapped.iter().all(|page| !region.contains(page)));
}

#[test]
fn a_refused_place_is_left_out() {
    let (mut v, mut m) = new();
    m.refused.insert(0x1000);
    write(&mut v, &mut m, NIC, 0x10, 4, 0x100_0000);
    assert_eq!(mapped(&m), pages(0x80_0001..0x80_0004));
    write(&mut v, &mut m, NIC, COMMAND, 2, 0);
    assert_eq!(mapped(&m), [0; 0]);
}

fn target(vector: u8) -> Option<Message> {
    Some(Message {
        dest: Destination::narrow(4, false),
        delivery: Delivery::Fixed,
        vector,
        level: false,
    })
}

#[test]
fn msi_binds_the_domains_message_and_programs_the_hosts() {
    let (mut v, mut m) = new();
    write(&mut v, &mut m, DISK, 0x84, 4, 0xfee0_4000);
    write(&mut v, &mut m, DISK, 0x88, 2, 0x41);
    assert_eq!(m.at(DISK).get(0x84, 4), 0);
    write(&mut v, &mut m, DISK, 0x82, 2, 1);
    assert_eq!(m.targets(), [target(0x41)]);
    assert_eq!(u64::from(m.at(DISK).get(0x84, 4)), HOST_ADDRESS);
    assert_eq!(m.at(DISK).get(0x82, 2) & 1, 1);
    assert_eq!(read(&mut v, &mut m, DISK, 0x84, 4), 0xfee0_4000);
    assert_eq!(read(&mut v, &mut m, DISK, 0x88, 2), 0x41);
    assert_eq!(read(&mut v, &mut m, DISK, 0x80, 4), 0x0001_0005);
    write(&mut v, &mut m, DISK, 0x88, 2, 0x52);
    assert_eq!(m.targets(), [target(0x52)]);
    write(&mut v, &mut m, DISK, 0x84, 4, 0x1000);
    assert_eq!(m.targets(), [None], "not an interrupt address");
    write(&mut v, &mut m, DISK, 0x82, 2, 0);
    assert!(m.vectors.is_empty());
    assert_eq!(m.at(DISK).get(0x82, 2) & 1, 0);
}

#[test]
fn multiple_messages_count_in_the_low_bits() {
    let (mut v, mut m) = new();
    assert_eq!(read(&mut v, &mut m, NIC, 0x52, 2), 0x186);
    write(&mut v, &mut m, NIC, 0x54, 4, 0xfee0_4000);
    write(&mut v, &mut m, NIC, 0x58, 4, 0);
    write(&mut v, &mut m, NIC, 0x5c, 2, 0x47);
    write(&mut v, &mut m, NIC, 0x60, 4, 2);
    write(&mut v, &mut m, NIC, 0x52, 2, 0x21);
    assert_eq!(m.targets(), [0x44, 0x45, 0x46, 0x47].map(target));
    assert_eq!(m.at(NIC).get(0x60, 4), 2);
    assert_eq!(read(&mut v, &mut m, NIC, 0x52, 2), 0x1a7);
    write(&mut v, &mut m, NIC, 0x52, 2, 0x71);
    assert_eq!(m.targets().len(), 8, "never more than we offer");
    assert_eq!(read(&mut v, &mut m, NIC, 0x52, 2), 0x1b7);
    write(&mut v, &mut m, NIC, 0x52, 2, 0);
    m.exhausted = true;
    write(&mut v, &mut m, NIC, 0x52, 2, 1);
    assert_eq!(read(&mut v, &mut m, NIC, 0x52, 2) & 1, 0);
}

const TABLE: u64 = 0x8_0000_0000;

fn table(v: &mut Vpci, m: &mut Machine, offset: u64, value: u32) {
    assert!(v.mmio_write(TABLE + offset, 4, u64::from(value), m));
    m.check_messages();
}

fn entry(v: &mut Vpci, m: &mut Machine, n: u64, vector: u32) {
    table(v, m, 16 * n, 0xfee0_4000);
    table(v, m, 16 * n + 4, 0);
    table(v, m, 16 * n + 8, vector);
    table(v, m, 16 * n + 12, 0);
}

#[test]
fn msix_entries_live_while_enabled_and_unmasked() {
    let (mut v, mut m) = new();
    assert_eq!(read(&mut v, &mut m, NIC, 0x72, 2), 4);
    write(&mut v, &mut m, NIC, 0x72, 2, 0xc000);
    entry(&mut v, &mut m, 1, 0x61);
    entry(&mut v, &mut m, 4, 0x62);
    write(&mut v, &mut m, NIC, 0x72, 2, 0x8000);
    assert_eq!(m.at(NIC).get(0x72, 2), 0x8004);
    assert_eq!(m.targets(), [target(0x61), target(0x62)]);
    assert_eq!(u64::from(m.word(TABLE + 16)), HOST_ADDRESS);
    assert_eq!((m.word(TABLE + 28), m.word(TABLE + 12)), (0, 1));
    assert_eq!(v.mmio_read(TABLE + 16, 8, &mut m), Some(0xfee0_4000));
    assert_eq!(v.mmio_read(TABLE + 24, 4, &mut m), Some(0x61));
    table(&mut v, &mut m, 28, 1);
    assert_eq!(m.word(TABLE + 28), 1);
    assert_eq!(v.mmio_read(TABLE + 24, 8, &mut m), Some(1 << 32 | 0x61));
    table(&mut v, &mut m, 24, 0x71);
    assert_eq!(m.targets()[0], target(0x71));
    write(&mut v, &mut m, NIC, 0x72, 2, 0);
    assert!(m.vectors.is_empty());
    assert_eq!(m.at(NIC).get(0x72, 2), 4);
}

#[test]
fn msix_is_restored_after_an_unseen_reset() {
    let (mut v, mut m) = new();
    write(&mut v, &mut m, NIC, 0x72, 2, 0x8000);
    entry(&mut v, &mut m, 0, 0x61);
    m.functions.get_mut(&NIC).unwrap().reset();
    m.memory.clear();
    for (reg, value) in [(0x10, 0xfe00_0000), (0x18, 0xc), (0x1c, 8), (COMMAND, 7)] {
        write(&mut v, &mut m, NIC, reg, 4, value);
    }
    write(&mut v, &mut m, NIC, 0x72, 2, 0xc000);
    entry(&mut v, &mut m, 0, 0x61);
    write(&mut v, &mut m, NIC, 0x72, 2, 0x8000);
    assert_eq!(u64::from(m.word(TABLE)), HOST_ADDRESS);
    assert_eq!(m.word(TABLE + 12), 0);
    assert_eq!(m.at(NIC).get(0x72, 2), 0x8004);
    assert_eq!(m.targets(), [target(0x61)]);
}

#[test]
fn decoding_late_programs_the_table_then() {
    let (mut v, mut m) = new();
    write(&mut v, &mut m, NIC, 0x72, 2, 0x8000);
    entry(&mut v, &mut m, 0, 0x61);
    write(&mut v, &mut m, NIC, COMMAND, 2, 0);
    m.memory.clear();
    assert_eq!(v.mmio_read(TABLE, 4, &mut m), None);
    write(&mut v, &mut m, NIC, COMMAND, 2, 7);
    assert_eq!(u64::from(m.word(TABLE)), HOST_ADDRESS);
    assert_eq!(m.word(TABLE + 12), 0);
}

#[test]
fn beside_the_table_the_device_answers() {
    let (mut v, mut m) = new();
    m.forwarded.clear();
    v.mmio_write(TABLE + 0x900, 4, 77, &mut m);
    assert_eq!(v.mmio_read(TABLE + 0x900, 4, &mut m), Some(77));
    assert_eq!(v.mmio_read(TABLE + 0x800, 8, &mut m), Some(0));
    assert_eq!(m.forwarded.len(), 3);
    m.forwarded.clear();
    assert_eq!(v.mmio_read(TABLE + 1, 4, &mut m), Some(u64::MAX));
    assert_eq!(v.mmio_read(TABLE, 2, &mut m), Some(u64::MAX));
    v.mmio_write(TABLE + 0x4e, 4, u64::MAX, &mut m);
    assert_eq!(m.forwarded, []);
    v.mmio_read(TABLE + 0x901, 4, &mut m);
    assert_eq!(m.forwarded.len(), 4, "byte by byte");
    m.forwarded.clear();
    v.mmio_read(TABLE + 0xffe, 4, &mut m);
    assert_eq!(m.forwarded.len(), 2, "not past the page");
}

#[test]
fn untracked_capabilities_are_hidden() {
    let mut function = Function::new(0);
    function.cap(0x40, 0x01);
    function.cap(0x50, 0x14);
    function.cap(0x60, 0x10);
    function.set(0x54, 4, 0x1234_5678);
    function.set(0x100, 4, 0x1401_0001);
    function.set(0x140, 4, 0x1501_0010);
    function.set(0x148, 4, 0xdead_beef);
    function.set(0x150, 4, 0x0001_0003);
    function.allow(0x148, 4, u32::MAX);
    let mut m = Machine::with([(NIC, function)]);
    let mut v = Vpci::new(&new().0.regions);
    v.add(NIC, &mut m);
    assert_eq!(read(&mut v, &mut m, NIC, 0x40, 2), 0x6001);
    assert_eq!(read(&mut v, &mut m, NIC, 0x60, 2), 0x0010);
    assert_eq!(read(&mut v, &mut m, NIC, 0x140, 4), 0x1500_0000);
    assert_eq!(read(&mut v, &mut m, NIC, 0x148, 4), 0);
    write(&mut v, &mut m, NIC, 0x148, 4, 0);
    assert_eq!(m.at(NIC).get(0x148, 4), 0xdead_beef);
    assert_eq!(read(&mut v, &mut m, NIC, 0x150, 4), 0x0001_0003);
}

#[test]
fn a_table_outside_of_its_bar_is_hidden_and_silenced() {
    let mut function = Function::new(0)
        .bar(0, 0, 0x1000, 0xfe00_0000)
        .with_msix(0x90, 64, 0xff0, 0);
    function.set(0x92, 2, 0x803f);
    let mut m = Machine::with([(NIC, function)]);
    let mut v = Vpci::new(&new().0.regions);
    v.add(NIC, &mut m);
    assert_eq!(read(&mut v, &mut m, NIC, 0x34, 1), 0);
    assert_eq!(m.at(NIC).get(0x92, 2), 63);
    write(&mut v, &mut m, NIC, 0x92, 2, 0x8000);
    assert_eq!(m.at(NIC).get(0x92, 2), 63);
}

#[test]
fn restricted_functions() {
    let mut m = Machine::with([(NIC, nic()), (DISK.function_0(), Function::new(0))]);
    let mut v = Vpci::new(&new().0.regions);
    v.restrict(NIC, Restriction::Hidden);
    v.restrict(DISK.function_0(), Restriction::ReadOnly);
    v.add(NIC, &mut m);
    assert_eq!(read(&mut v, &mut m, NIC, 0, 4), u32::MAX);
    assert_eq!(read(&mut v, &mut m, DISK.function_0(), 0, 4), 0x1234_8086);
    write(&mut v, &mut m, DISK.function_0(), COMMAND, 2, 7);
    write(&mut v, &mut m, NIC, COMMAND, 2, 0);
    assert_eq!(m.at(DISK.function_0()).get(COMMAND, 2), 0);
    assert_eq!(m.at(NIC).get(COMMAND, 2), 7);
    assert!(m.mapped.is_empty());
}

#[test]
fn hot_plug_is_seen_at_first_touch_and_removal_gives_back() {
    let (mut v, mut m) = new();
    let late = Sbdf::new(0, 1, 0, 0);
    assert_eq!(read(&mut v, &mut m, late, 0, 4), u32::MAX);
    m.functions.insert(late, disk());
    write(&mut v, &mut m, late, 0x84, 4, 0xfee0_4000);
    write(&mut v, &mut m, late, 0x88, 2, 0x41);
    write(&mut v, &mut m, late, 0x82, 2, 1);
    write(&mut v, &mut m, late, COMMAND, 2, 2);
    assert_eq!(m.targets(), [target(0x41)]);
    assert!(m.mapped.contains(&0xfe020));
    v.remove(late, &mut m);
    assert!(m.vectors.is_empty() && !m.mapped.contains(&0xfe020));
    m.functions.remove(&late);
    assert_eq!(read(&mut v, &mut m, late, 0, 4), u32::MAX);
}

#[test]
fn bridges_keep_their_windows() {
    let mut bridge = Function::new(1).bar(0, 0, 0x1000, 0xfe00_0000);
    bridge.allow(0x18, 4, u32::MAX);
    bridge.allow(0x20, 4, u32::MAX);
    let mut m = Machine::with([(NIC, bridge)]);
    let mut v = Vpci::new(&new().0.regions);
    v.add(NIC, &mut m);
    write(&mut v, &mut m, NIC, 0x18, 4, 0x0003_0201);
    write(&mut v, &mut m, NIC, 0x20, 4, 0xfdf0_fd00);
    assert_eq!(m.at(NIC).get(0x18, 4), 0x0003_0201);
    assert_eq!(m.at(NIC).get(0x20, 4), 0xfdf0_fd00);
    write(&mut v, &mut m, NIC, COMMAND, 2, 2);
    assert_eq!(mapped(&m), [0xfe000]);
}
