//! A vcpu's shadow, and when it is flushed.

use oxen_mm::FrameTable;
use oxen_mm::shadow::{Page, Shadow};
use oxen_types::DomainId;
use oxen_virt::shadow::Fill;
use oxen_virt::{ShadowRoots, VcpuBackend};

/// Tables of a domain's vcpus, in pages, and what one of them has at least and at most. A page of tables is good
/// for 2 MiB of small pages in use at once.
const POOL: usize = 4096;
const LEAST: usize = 64;
const MOST: usize = 1024;

/// PG and WP; PSE, PAE, PGE, SMEP and SMAP; LMA and NXE: what decides how a translation comes about.
const CR0_MODE: u64 = 1 << 31 | 1 << 16;
const CR4_MODE: u64 = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 20 | 1 << 21;
const EFER_MODE: u64 = 1 << 10 | 1 << 11;

pub struct VcpuShadow {
    pub tables: Shadow,
    /// What it was filled under: the mode, and CR3.
    mode: [u64; 3],
    cr3: u64,
}

impl VcpuShadow {
    pub fn new(frames: &'static FrameTable, domain: DomainId, vcpus: usize) -> Option<Self> {
        let pages = (POOL / vcpus.max(1)).clamp(LEAST, MOST);
        Some(Self {
            tables: Shadow::new(frames, domain, pages)?,
            mode: [0; 3],
            cr3: 0,
        })
    }

    pub fn roots(&self) -> ShadowRoots {
        let roots = self.tables.roots();
        ShadowRoots {
            long: roots.long,
            pae: roots.pae,
        }
    }

    pub fn fill(&mut self, fill: &Fill, backend: &mut dyn VcpuBackend) {
        let page = Page {
            mfn: fill.mfn,
            level: if fill.large { 2 } else { 1 },
            user: fill.user,
            write: fill.write,
            exec: fill.exec,
            cached: fill.cached,
            global: fill.global,
        };
        if self.tables.fill(fill.linear, page, fill.shift) {
            backend.flush_tlb();
        }
    }

    /// Flushes what another mode or address space, however it came about, makes invalid.
    pub fn follow(&mut self, backend: &mut dyn VcpuBackend) {
        let state = backend.execution();
        let mode = [
            state.cr0 & CR0_MODE,
            state.cr4 & CR4_MODE,
            state.efer & EFER_MODE,
        ];
        if mode != self.mode {
            self.tables.flush();
        } else if state.cr3 != self.cr3 {
            self.tables.flush_local();
        } else {
            return;
        }
        (self.mode, self.cr3) = (mode, state.cr3);
        backend.flush_tlb();
    }
}
