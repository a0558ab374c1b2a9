//! A guest that loads roots at frames of its choice, so that the cache is full of shadows which
//! look alike: what one load, or one change of the guest's memory, looks at stays as little as in
//! an empty cache.

use crate::shadow::cache::path::top;
use crate::shadow::cache::{Allowance, Cache, View};
use crate::testing::{Flat, OWNER, Random, frames, zeroed};

/// No step looks at more.
const MOST: u64 = 4000;
/// All of them, on average.
const USUAL: u64 = 64;
/// Frames of the machine, and of them the cache's.
const MACHINE: u64 = 4096;
const PAGES: usize = 3000;

/// Frames that a hash which the guest knows could confuse.
struct Family {
    kind: u64,
    start: u64,
    stride: u64,
}

impl Family {
    fn gfn(&self, n: u64, random: &mut Random) -> u64 {
        match self.kind {
            0 => self.start + n,
            1 => (self.start + n * self.stride) & 0xff_ffff_ffff,
            // The high bits only, the low bits only.
            2 => random.below(1 << 12) << 28,
            3 => random.below(1 << 12),
            _ => {
                // One bucket of a Fibonacci hash.
                let bucket = |gfn: u64| gfn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & 0x3ff;
                let mut gfn = random.below(1 << 36);
                while bucket(gfn) != 7 {
                    gfn += 1;
                }
                gfn
            }
        }
    }
}

/// Runs `loads` loads of one guest, by a seed.
pub(crate) fn run(seed: u64, loads: u64) {
    let mut random = Random(seed);
    let frames = frames(MACHINE);
    let guest = Flat(zeroed(frames, 0));
    let secret = [random.next(), random.next()];
    let mut cache = Cache::new(frames, OWNER, PAGES, secret).unwrap();
    let mut view = View::new(frames, OWNER).unwrap();
    let family = Family {
        kind: random.below(5),
        start: random.below(1 << 28),
        stride: 1 << random.below(24),
    };
    let mut last = 0;
    for n in 0..loads {
        let gfn = family.gfn(n, &mut random);
        let shape = random.below(4) as u16;
        cache.activate_root(&mut view, Some(&top(shape, gfn << 12)), &guest);
        if random.below(16) == 0 {
            let mut left = Allowance::for_changes();
            let before = random.below(n + 1);
            let changed = family.gfn(before, &mut random);
            if !cache.page_changed(changed, &mut left) {
                cache.reset();
            }
        }
        let steps = cache.counts().steps;
        assert!(steps - last < MOST, "load {n} looks at {}", steps - last);
        last = steps;
    }
    assert!(last <= loads * USUAL, "{loads} loads look at {last}");
}
