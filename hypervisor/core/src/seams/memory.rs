//! Memory: reference-counted frames, a domain's guest-physical space, and the linear space of the
//! vcpu that makes a call.

use core::fmt;
use core::sync::atomic::AtomicU32;

use oxen_types::paging::GuestPage;
use oxen_types::{DomainId, Errno, Gaddr, Gfn, Mfn, PAGE_SIZE, Result, Vaddr};

/// A frame's contents as words that a guest may change at any moment.
pub type PageWords = [AtomicU32; PAGE_SIZE / 4];

/// The frame table: owner and reference count of each frame, and access to its bytes.
///
/// A frame goes back to the heap when its last reference goes; those that are dom0's own by
/// identity (gfn = mfn) stay set aside for it instead.
pub trait FrameSource: Send + Sync {
    /// One zeroed frame, owned by `owner` (not counted as its RAM), with one reference.
    fn alloc(&'static self, owner: DomainId) -> Option<PageRef>;
    /// Takes one more reference. False, and nothing changed, if the frame is free, is not RAM, or
    /// has as many references as can be counted.
    fn get(&self, mfn: Mfn) -> bool;
    /// Gives one reference back.
    fn put(&self, mfn: Mfn);
    /// The domain that a frame belongs to, if it belongs to one.
    fn owner(&self, mfn: Mfn) -> Option<DomainId>;
    /// The frame's contents. Only for a frame that the caller holds a reference to.
    fn words(&self, mfn: Mfn) -> &'static PageWords;
    /// Copies bytes out of a frame that the caller holds a reference to. What lies past the frame's
    /// end is not touched.
    fn read(&self, mfn: Mfn, offset: usize, into: &mut [u8]);
    /// Copies bytes into a frame; bounds as for [`FrameSource::read`].
    fn write(&self, mfn: Mfn, offset: usize, from: &[u8]);
    /// Copies between two frames, `len` bytes clipped to both frames' ends.
    fn copy(&self, dst: Mfn, dst_offset: usize, src: Mfn, src_offset: usize, len: usize);
    /// Notes that a frame was just written past its owner's page tables: log-dirty mode asks for
    /// it. Only for a frame that the caller holds a reference to, and always after the write.
    fn mark_written(&self, mfn: Mfn);
    /// Frames in use that a domain owns: its RAM, whoever holds it, and what was made for it.
    fn held_by(&self, owner: DomainId) -> u64;
    /// Whether, since the last call, the last frame of some domain has been freed.
    fn take_emptied(&self) -> bool;
    /// The machine's memory in frames.
    fn stats(&self) -> MemoryStats;
    /// Whether there is more free memory than is kept back for claimants other than `who`.
    fn has_room(&self, who: Claimant) -> bool;
}

/// On whose behalf the hypervisor's own memory is taken. Each leaves some for those after it: the
/// privileged, and what must not fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claimant {
    /// An unprivileged domain.
    Guest,
    /// dom0, or the hypervisor itself.
    Privileged,
}

/// The machine's memory in frames (for sysctl physinfo and leak checks).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Frames of RAM in all.
    pub total_frames: u64,
    /// Frames that nobody has.
    pub free_frames: u64,
    /// Those of them that are kept for domains that claimed them.
    pub claimed_frames: u64,
    /// The highest frame of RAM.
    pub max_frame: u64,
    /// Bytes that live allocations hold in the hypervisor's own heap.
    pub heap_used: u64,
    /// Frames that the heap has taken, in use or at hand.
    pub heap_frames: u64,
}

/// One reference to a frame: while it lives the frame is not reused.
pub struct PageRef {
    mfn: Mfn,
    words: &'static PageWords,
    source: &'static dyn FrameSource,
}

impl PageRef {
    /// Takes over a reference that the caller already counted in `source`.
    pub fn adopt(source: &'static dyn FrameSource, mfn: Mfn) -> Self {
        Self {
            mfn,
            words: source.words(mfn),
            source,
        }
    }

    /// Counts a new reference to `mfn`, if it can be had.
    pub fn take(source: &'static dyn FrameSource, mfn: Mfn) -> Option<Self> {
        source.get(mfn).then(|| Self::adopt(source, mfn))
    }

    /// Another reference to the same frame, if one more can be counted.
    pub fn try_clone(&self) -> Option<Self> {
        Self::take(self.source, self.mfn)
    }

    /// Gives the reference to the caller, who must `put` it.
    pub fn into_mfn(self) -> Mfn {
        let mfn = self.mfn;
        core::mem::forget(self);
        mfn
    }

    /// The frame's number.
    pub fn mfn(&self) -> Mfn {
        self.mfn
    }

    /// The domain that the frame belongs to.
    pub fn owner(&self) -> Option<DomainId> {
        self.source.owner(self.mfn)
    }

    /// The frame's contents.
    pub fn words(&self) -> &PageWords {
        self.words
    }

    /// The 32-bit word at a byte offset (rounded down to a word; wraps within the page). Who
    /// changes it does so through [`PageRef::update`], or calls [`PageRef::mark_written`]
    /// afterwards.
    pub fn word(&self, offset: usize) -> &AtomicU32 {
        &self.words[(offset / 4) % (PAGE_SIZE / 4)]
    }

    /// Changes one word, and notes that the frame was written.
    pub fn update<R>(&self, offset: usize, change: impl FnOnce(&AtomicU32) -> R) -> R {
        let result = change(self.word(offset));
        self.mark_written();
        result
    }

    /// Notes that the frame was written: log-dirty mode asks for it.
    pub fn mark_written(&self) {
        self.source.mark_written(self.mfn);
    }

    /// Copies bytes out of the frame; what passes its end is not touched.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        self.source.read(self.mfn, offset, into);
    }

    /// Copies bytes into the frame; what passes its end is dropped.
    pub fn write(&self, offset: usize, from: &[u8]) {
        self.source.write(self.mfn, offset, from);
        self.mark_written();
    }

    /// Copies `len` bytes out of another frame, clipped to both frames' ends.
    pub fn copy_from(&self, offset: usize, src: &PageRef, src_offset: usize, len: usize) {
        self.source.copy(self.mfn, offset, src.mfn, src_offset, len);
        self.mark_written();
    }
}

impl Drop for PageRef {
    fn drop(&mut self) {
        self.source.put(self.mfn);
    }
}

impl fmt::Debug for PageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageRef({:?})", self.mfn)
    }
}

/// Why a frame stands at a gfn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapKind {
    /// The domain's own RAM.
    Ram,
    /// A frame of the hypervisor that it shares with the domain (shared_info, grant table, ...).
    Xen,
    /// Another domain's RAM, mapped by a privileged domain.
    Foreign,
    /// Another domain's (or its own) frame, mapped through a grant.
    Grant {
        /// Whether the granter lets it be written.
        writable: bool,
    },
    /// Device memory: no frame reference behind it.
    Mmio,
}

/// A frame that was put at a place, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapped {
    /// The place.
    pub gfn: Gfn,
    /// The frame.
    pub mfn: Mfn,
    /// Why it stands there.
    pub kind: MapKind,
}

/// An entry of a p2m.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct P2mEntry {
    /// The frame.
    pub mfn: Mfn,
    /// Why it stands there.
    pub kind: MapKind,
}

/// The most pages whose translations are flushed together.
pub const FLUSHED_TOGETHER: usize = 64;

/// Takes the result of each item of a list, in the order of the list.
pub type Report<'a> = dyn FnMut(Result<()>) + 'a;

/// The result of a list of one item.
fn one(list: impl FnOnce(&mut Report<'_>)) -> Result<()> {
    let mut result = Ok(());
    list(&mut |done| result = done);
    result
}

/// A guest's access of guest-physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// The reason of a nested page fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// The entry allows the access: the translation that faulted is out of date.
    Spurious,
    /// Nothing is mapped there: the place for emulated devices.
    Absent,
    /// The entry forbids the access: a write of what is read-only, or an instruction fetch from
    /// what is no RAM. Log-dirty mode and the rule for large pages forbid accesses of RAM for a
    /// while.
    Forbidden(MapKind),
    /// The address is beyond the width of guest-physical addresses.
    OutOfRange,
}

/// A domain's guest-physical address space: the p2m, and the RAM accounted to the domain.
///
/// Whatever takes an entry away or lowers its rights has flushed the guest's translations before it
/// returns, and drops the entry's frame reference after that.
pub trait GuestMemory: Send + Sync {
    /// The entry at `gfn`, if there is one.
    fn lookup(&self, gfn: Gfn) -> Option<P2mEntry>;
    /// The reason for which a guest's access of a guest-physical address faulted, as the entries
    /// are now.
    fn fault(&self, at: Gaddr, access: Access) -> FaultKind;

    /// Copies out of guest-physical memory: RAM, grants and shared frames, across pages. -EFAULT if
    /// a page is absent or not memory.
    fn read(&self, from: Gaddr, into: &mut [u8]) -> Result<()>;
    /// The aligned 64-bit word that holds `at`, read at once: an entry of a guest's page tables.
    fn read_word(&self, at: Gaddr) -> Result<u64> {
        let mut bytes = [0; 8];
        self.read(Gaddr::new(at.raw() & !7), &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
    /// The frame at a gfn and the rights to it, for a shadow of the guest's page tables.
    fn mapping(&self, _gfn: Gfn) -> Option<GuestPage> {
        None
    }
    /// Changes an aligned value of 4 or 8 bytes if it is still `old`: an entry of a guest's page
    /// tables. Returns whether it was.
    fn exchange(&self, _at: Gaddr, _size: u8, _old: u64, _new: u64) -> Result<bool> {
        Err(Errno::Fault)
    }
    /// Copies into guest-physical memory; -EFAULT also for pages that the domain may not write.
    fn write(&self, to: Gaddr, from: &[u8]) -> Result<()>;

    /// A reference to the frame at `gfn`, for use past this call. `own_ram`: only the domain's own
    /// RAM will do (what may be granted, or mapped by others); otherwise any frame it sees.
    fn page(&self, gfn: Gfn, own_ram: bool) -> Result<PageRef>;

    /// Backs 2^order aligned gfns with zeroed RAM: -ENOMEM if the machine or the domain's quota has
    /// no more, -EINVAL for an unaligned or out-of-range gfn, -EEXIST if one of them is taken. A
    /// domain with identity memory gets back the frames of those numbers.
    fn populate(&self, gfn: Gfn, order: u32) -> Result<()>;
    /// The same for identity memory at boot, whose frames keep what is in them; -EPERM for other
    /// domains.
    fn populate_kept(&self, gfn: Gfn, order: u32) -> Result<()>;
    /// Moves the domain's own RAM page at `from` to `to`; what stood there is released.
    fn move_ram(&self, from: Gfn, to: Gfn) -> Result<()> {
        one(|report| self.move_all(&mut [(from, to)].into_iter(), report))
    }
    /// The same for several, whose translations are flushed together, up to [`FLUSHED_TOGETHER`] at
    /// a time; reports of each what `move_ram` returns.
    fn move_all(&self, list: &mut dyn Iterator<Item = (Gfn, Gfn)>, report: &mut Report<'_>);
    /// Takes the RAM page at `gfn` away from the domain (decrease_reservation): -ENOENT if nothing
    /// is there, -EINVAL if it is no RAM.
    fn release(&self, gfn: Gfn) -> Result<()> {
        one(|report| self.release_all(0, &mut [gfn].into_iter(), report))
    }
    /// The same for blocks of 2^order pages, flushed together. Of a block that fails, the pages up
    /// to the one at fault are gone.
    fn release_all(
        &self,
        order: u32,
        blocks: &mut dyn Iterator<Item = Gfn>,
        report: &mut Report<'_>,
    );

    /// Puts a frame at `gfn`, taking over the reference. What stood there before is released if it
    /// was RAM, unmapped otherwise; -EBUSY if it was a grant or a device's.
    fn map(&self, gfn: Gfn, page: PageRef, kind: MapKind) -> Result<()> {
        one(|report| self.map_all(kind, &mut [(gfn, page)].into_iter(), report))
    }
    /// The same for several, flushed together.
    fn map_all(
        &self,
        kind: MapKind,
        list: &mut dyn Iterator<Item = (Gfn, PageRef)>,
        report: &mut Report<'_>,
    );
    /// Takes away what `map` put at `gfn`, and drops its reference; -ENOENT unless the frame there
    /// is `mfn` and of that kind.
    fn unmap(&self, gfn: Gfn, mfn: Mfn, kind: MapKind) -> Result<()> {
        one(|report| self.unmap_all(&mut [Mapped { gfn, mfn, kind }].into_iter(), report))
    }
    /// The same for several, flushed together; reports of each what `unmap` returns.
    fn unmap_all(&self, list: &mut dyn Iterator<Item = Mapped>, report: &mut Report<'_>);

    /// Maps device memory (for a domain that may have it).
    fn map_mmio(&self, gfn: Gfn, mfn: Mfn, count: u64) -> Result<()>;
    /// Unmaps device memory.
    fn unmap_mmio(&self, gfn: Gfn, count: u64) -> Result<()>;

    /// The frames of RAM that the domain holds.
    fn ram_frames(&self) -> u64;
    /// The frames of RAM that the domain may hold.
    fn max_frames(&self) -> u64;
    /// Sets [`GuestMemory::max_frames`].
    fn set_max_frames(&self, frames: u64);
    /// The pages that are set aside for the domain's nested page tables, in use or not.
    fn pool(&self) -> u64;
    /// Brings [`GuestMemory::pool`] nearer to a number, by a step. Returns whether it is reached.
    ///
    /// # Errors
    /// `NoMem` if free memory does not suffice, or if more pages are in use.
    fn set_pool(&self, pages: u64) -> Result<bool>;
    /// Keeps free memory for the domain until it has `pages` in all; 0 gives up what is left of the
    /// claim.
    /// -ENOMEM if there is not so much, -EINVAL if there is a claim already, or nothing to be
    /// claimed.
    fn claim(&self, pages: u64) -> Result<()>;
    /// Frames of free memory that are kept for the domain.
    fn claimed(&self) -> u64;
    /// The highest gfn at which anything ever stood; 0 if nothing did.
    fn max_gfn(&self) -> Gfn;

    /// Makes all vcpus forget their cached translations.
    fn flush(&self);

    /// Whether log-dirty mode is on.
    fn logs_writes(&self) -> bool;
    /// Switches log-dirty mode for the memory from `from` on, as far as one step goes: from now on
    /// writes to it are noticed (and it counts as clean), or not. Where to go on; `None` when all
    /// is done. The flag of [`GuestMemory::logs_writes`] changes with the first step on, and with
    /// the last off.
    fn log_writes(&self, on: bool, from: Gfn) -> Option<Gfn>;
    /// Which of `count` gfns from `first` on were written since they were last clean: a bit each is
    /// set, lowest first. `clean` makes them clean. Returns how many were written.
    fn written(&self, first: Gfn, count: u64, bits: &mut [u8], clean: bool) -> u64;
    /// Handles a fault of a write that the p2m forbids. Returns whether log-dirty mode alone
    /// forbade it: then the page counts as written, and may be written from here on.
    fn log_write(&self, gfn: Gfn) -> bool;
    /// Handles a fault of an instruction fetch that the p2m forbids. Returns whether the size of
    /// the mapping alone forbade it: then the page may be executed from here on.
    fn allow_exec(&self, gfn: Gfn) -> bool;
    /// Faults that log-dirty mode took since the counter was last taken to 0.
    fn log_faults(&self, reset: bool) -> u32;

    /// Takes everything away, at most `budget` entries in this call. Returns whether nothing is
    /// left.
    fn teardown(&self, budget: usize) -> bool;
}

/// The linear address space of the vcpu that makes the call, at its current page tables.
pub trait LinearMemory {
    /// Copies out of the space; -EFAULT unless every byte can be read by the guest's kernel.
    fn read(&self, from: Vaddr, into: &mut [u8]) -> Result<()>;
    /// Copies into the space; -EFAULT unless every byte can be written by the guest's kernel.
    fn write(&self, to: Vaddr, from: &[u8]) -> Result<()>;
    /// The guest-physical address behind a linear one.
    fn translate(&self, at: Vaddr) -> Result<Gaddr>;
    /// A name for this space among those of the vcpu's guest: where its page tables begin.
    fn space(&self) -> u64;
}
