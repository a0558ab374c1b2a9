use super::*;
use crate::bits::CR0_PE;
use std::collections::BTreeMap;

#[derive(Default)]
struct Mem(BTreeMap<u64, u64>);

impl PhysRead for Mem {
    fn read_u64(&self, at: Gaddr) -> Option<u64> {
        assert_eq!(at.raw() & 7, 0);
        (at.raw() < 1 << 30).then(|| self.0.get(&at.raw()).copied().unwrap_or(0))
    }
}

impl Mem {
    fn put32(&mut self, at: u64, value: u32) {
        let quad = self.0.entry(at & !7).or_default();
        let shift = (at & 4) * 8;
        *quad = *quad & !(0xffff_ffff << shift) | u64::from(value) << shift;
    }
}

pub(crate) mod model;

const LIMITS: Limits = Limits {
    phys_bits: 40,
    pages_1g: true,
};
const RWU: u64 = PRESENT | WRITABLE | USER;

fn long() -> (Mem, Paging) {
    let mut m = Mem::default();
    m.0.insert(0x1000, 0x2000 | RWU);
    m.0.insert(0x2000, 0x3000 | RWU);
    m.0.insert(0x2008, 0x4000_0000 | RWU | LARGE);
    m.0.insert(0x3000, 0x4000 | RWU);
    m.0.insert(0x3008, 0x20_0000 | PRESENT | WRITABLE | LARGE);
    m.0.insert(0x4000, 0x7000 | RWU);
    m.0.insert(0x4008, 0x8000 | PRESENT);
    m.0.insert(0x4010, 0x9000 | RWU | NX);
    let p = Paging {
        cr0: CR0_PE | CR0_PG | CR0_WP,
        cr3: 0x1000,
        cr4: CR4_PAE,
        efer: EFER_LMA | EFER_NX,
        ac: false,
        limits: LIMITS,
    };
    (m, p)
}

fn gpa(r: Result<Translation, WalkError>) -> u64 {
    r.unwrap().gpa.raw()
}

fn code(r: Result<Translation, WalkError>) -> u32 {
    let Err(WalkError::Fault { code }) = r else {
        panic!("{r:?}")
    };
    code
}

#[test]
fn four_levels_and_their_large_pages() {
    let (m, p) = long();
    let at = |va| walk(&m, &p, Vaddr::new(va), Access::READ);
    assert_eq!(
        at(0x123),
        Ok(Translation {
            gpa: Gaddr::new(0x7123),
            left_in_page: 0xedd
        })
    );
    assert_eq!(gpa(at(0x20_1234)), 0x20_1234);
    assert_eq!(at(0x20_0000).unwrap().left_in_page, 0x20_0000);
    assert_eq!(gpa(at(0x4123_4567)), 0x4123_4567);
    assert_eq!(at(1 << 47), Err(WalkError::NotCanonical));
    assert_eq!(code(at(0x5000)), 0);
    assert_eq!(
        code(walk(
            &m,
            &p,
            Vaddr::new(!0xfff),
            Access::WRITE | Access::USER
        )),
        6
    );
}

#[test]
fn rights() {
    let (m, mut p) = long();
    let go = |p: &Paging, va, a| walk(&m, p, Vaddr::new(va), a);
    assert_eq!(code(go(&p, 0x1000, Access::WRITE)), 3);
    assert_eq!(code(go(&p, 0x1000, Access::USER)), 5);
    assert_eq!(code(go(&p, 0x2000, Access::FETCH)), 0x11);
    p.cr0 &= !CR0_WP;
    assert!(go(&p, 0x1000, Access::WRITE).is_ok());
    p.cr4 |= CR4_SMEP | CR4_SMAP;
    assert_eq!(code(go(&p, 0, Access::FETCH)), 0x11);
    assert_eq!(code(go(&p, 0, Access::READ)), 1);
    assert!(go(&p, 0, Access::USER | Access::FETCH).is_ok());
    p.ac = true;
    assert!(go(&p, 0, Access::READ).is_ok());
    p.efer &= !EFER_NX;
    assert_eq!(code(go(&p, 0x2000, Access::USER)), 0xd);
}

#[test]
fn tables_outside_of_ram() {
    let (mut m, p) = long();
    m.0.insert(0x1000, 0x12_3456_7000 | RWU);
    assert_eq!(
        walk(&m, &p, Vaddr::new(0), Access::READ),
        Err(WalkError::BadTable(Gaddr::new(0x12_3456_7000)))
    );
}

#[test]
fn no_paging_wraps_at_four_gigabytes() {
    let p = Paging {
        cr0: CR0_PE,
        ..Default::default()
    };
    assert_eq!(
        gpa(walk(
            &Mem::default(),
            &p,
            Vaddr::new(1 << 32 | 5),
            Access::WRITE
        )),
        5
    );
}

#[test]
fn two_levels() {
    let mut m = Mem::default();
    m.put32(0x1004, 0x2000 | RWU as u32);
    m.put32(0x200c, 0x5000 | RWU as u32);
    m.put32(0x1008, 0x1040_0000 | 1 << 13 | (RWU | LARGE) as u32);
    let mut p = Paging {
        cr0: CR0_PG,
        cr3: 0x1000,
        cr4: CR4_PSE,
        limits: LIMITS,
        ..Default::default()
    };
    assert_eq!(
        gpa(walk(&m, &p, Vaddr::new(0x40_3abc), Access::READ)),
        0x5abc
    );
    assert_eq!(
        gpa(walk(&m, &p, Vaddr::new(0x80_0001), Access::READ)),
        0x1_1040_0001
    );
    assert_eq!(code(walk(&m, &p, Vaddr::new(0x40_0000), Access::READ)), 0);
    p.cr4 = 0;
    m.put32(0x1008, 0x2000 | (RWU | LARGE) as u32);
    assert_eq!(
        gpa(walk(&m, &p, Vaddr::new(0x80_3001), Access::READ)),
        0x5001
    );
}

#[test]
fn pae_has_no_rights_at_the_top() {
    let mut m = Mem::default();
    m.0.insert(0x1028, 0x2000 | PRESENT);
    m.0.insert(0x2000, 0x60_0000 | RWU | LARGE);
    let p = Paging {
        cr0: CR0_PG | CR0_WP,
        cr3: 0x1020,
        cr4: CR4_PAE,
        limits: Limits {
            phys_bits: 36,
            pages_1g: true,
        },
        ..Default::default()
    };
    let r = walk(
        &m,
        &p,
        Vaddr::new(0x4012_3456),
        Access::WRITE | Access::USER,
    );
    assert_eq!(gpa(r), 0x72_3456);
}
