//! The model: the probability that the next bit is 1, from what followed in like contexts before.
//!
//! A context is a hash of bytes before and of the place in the instruction. Each context has a
//! table of counters, from which the context and the bits of the byte so far choose. A neural
//! network of one layer mixes the predictions of the counters; the part of the instruction chooses
//! its weights. All arithmetic is of integers: the packer and the first stage must compute the
//! same.
//!
//! The methods are those of the PAQ programs, as "Data Compression Explained" (Matt Mahoney,
//! chapter 4.3) describes them: adaptive counters, logistic mixing, secondary estimation.

use bytemuck::Zeroable;

use crate::insn::{Parser, Part};

/// The probability 1.
pub(crate) const ONE: u32 = 1 << 16;
const HALF: u16 = 1 << 15;

const CONTEXTS: usize = 16;
const SLOTS_LOG: u32 = 16;
/// Each counter gives its own probability, and the one after its history. The match model gives two
/// more.
const INPUTS: usize = 2 * CONTEXTS + 2;
/// Sets of weights: one for each byte of a part of an instruction, and for each byte of an aligned
/// word of data.
const PLACES: usize = 256;
const FIRST_DATA_PLACE: u32 = 0xf0;
/// The bits of the byte so far, behind a 1.
const PARTIAL: usize = 256;

const MATCH_LOG: u32 = 15;
const SHORTEST_MATCH: usize = 4;
const LONGEST_MATCH: usize = 31;

/// Points of the logistic scale that an estimate is interpolated between.
const POINTS: usize = 33;
const FINE_LOG: u32 = 12;

/// The state of the packer or of the first stage.
#[repr(C)]
#[derive(Zeroable)]
pub struct Model {
    /// Counters: probability (bits 16 to 31), history (8 to 15), check of the context (0 to 7).
    slots: [[u32; 1 << SLOTS_LOG]; CONTEXTS],
    /// The probability after each history, by context.
    histories: [[u16; 256]; CONTEXTS],
    /// By [`Model::sets`].
    weights: [[[i32; INPUTS]; 2 * PARTIAL]; 3],
    /// Contexts that were there before.
    known: usize,
    /// ln(p / (1 - p)) by p of 12 bits, in units of 1/256.
    stretched: [i16; 4096],
    coarse: [[u16; POINTS]; 2 * PARTIAL],
    fine: [[u16; POINTS]; 1 << FINE_LOG],
    /// Where five bytes with this hash ended last.
    ends: [u32; 1 << MATCH_LOG],
    /// By the length of the match and the bit that it predicts.
    matches: [u16; 2 * (LONGEST_MATCH + 1)],

    text: usize,
    parser: Parser,
    /// The opcodes of the last four instructions.
    skeleton: u32,
    /// The target of the last CALL.
    last_call: u32,
    /// The last displacement with each base register.
    displacements: [u8; 16],
    /// The last byte at each place of an instruction.
    at_place: [u8; PLACES],
    match_at: usize,
    match_length: usize,
    hashes: [u32; CONTEXTS],
    place: u32,
    is_data: usize,
    /// The bits of this byte so far, behind a 1.
    bits: u32,

    inputs: [i32; INPUTS],
    chosen: [u32; CONTEXTS],
    mixed: [i32; 3],
    point: u16,
    fine_context: u16,
    matched: u8,
}

/// Not inlined, as the first stage is to be small.
#[inline(never)]
fn hash(a: u32, b: u32) -> u32 {
    let mixed = a.wrapping_mul(0x9e37_79b1) ^ b.wrapping_mul(0x85eb_ca6b).rotate_left(15);
    (mixed ^ mixed >> 15).wrapping_mul(0x2c1b_3c6d)
}

/// The byte so many places before the next one.
#[inline(never)]
fn back(before: &[u8], n: usize) -> u32 {
    let at = before.len().wrapping_sub(n);
    u32::from(before.get(at).copied().unwrap_or(0))
}

/// 4096 / (1 + e^(-x / 256)).
fn squash(x: i32) -> i32 {
    const TABLE: [u16; POINTS] = [
        1, 2, 3, 6, 10, 16, 27, 45, 73, 120, 194, 310, 488, 747, 1101, 1546, 2047, 2549, 2994,
        3348, 3607, 3785, 3901, 3975, 4024, 4050, 4068, 4079, 4085, 4089, 4092, 4093, 4094,
    ];
    let x = x.clamp(-2047, 2047) + 2048;
    let (at, part) = ((x >> 7) as usize & 31, x & 127);
    let value = |at: usize| i32::from(TABLE[at]);
    (value(at) * (128 - part) + value(at + 1) * part + 64) >> 7
}

/// 65536 / (count + 1.5): how far a probability moves after so many bits.
const RATES: [u16; 32] = {
    let mut rates = [0; 32];
    let mut count = 0;
    while count < 32 {
        rates[count] = ((1 << 17) / (2 * count + 3)) as u16;
        count += 1;
    }
    rates
};

/// The history after one more bit. A history is the numbers of zeros (bits 5 to 7) and of ones (2
/// to 4), of which the other one fades when a bit comes, and the last two bits (0 and 1). Zero is
/// none.
fn after(history: u32, bit: bool) -> u32 {
    let (mut zeros, mut ones) = (history >> 5, history >> 2 & 7);
    let (same, other) = if bit {
        (&mut ones, &mut zeros)
    } else {
        (&mut zeros, &mut ones)
    };
    *same = 7.min(*same + 1);
    if *other > 2 {
        *other = (*other + 2) / 2;
    }
    zeros << 5 | ones << 2 | (history << 1 | u32::from(bit)) & 3
}

fn toward(value: &mut u16, bit: bool, shift: u32) {
    let target = if bit { 0xffff } else { 0 };
    *value = (i32::from(*value) + ((target - i32::from(*value)) >> shift)) as u16;
}

impl Model {
    /// Makes ready for bytes of which the first `text` are code. All of the model is zero before.
    pub(crate) fn start(&mut self, text: usize) {
        self.text = text;
        self.bits = 1;
        let mut next = 0;
        for x in -2047..=2047 {
            let end = squash(x) as usize;
            while next <= end {
                self.stretched[next & 4095] = x as i16;
                next += 1;
            }
        }
        while next < self.stretched.len() {
            self.stretched[next] = 2047;
            next += 1;
        }
        let estimates = self.coarse.iter_mut().chain(&mut self.fine);
        for estimate in estimates {
            for (point, value) in (-16..).zip(estimate) {
                *value = (squash(point * 128) * 16) as u16;
            }
        }
        self.weights
            .as_flattened_mut()
            .as_flattened_mut()
            .fill(19660);
        self.matches.fill(HALF);
        for histories in &mut self.histories {
            for (history, p) in (0u32..).zip(histories) {
                let (zeros, ones) = (history >> 5, history >> 2 & 7);
                *p = ((ones * 2 + 1) * 65535 / (2 * (zeros + ones) + 2)) as u16;
            }
        }
    }

    /// Chooses the contexts of the byte that follows `before`.
    pub(crate) fn byte(&mut self, before: &[u8]) {
        let at = before.len();
        let back = |n: usize| back(before, n);
        let word = |n: usize| back(n) | back(n + 1) << 8 | back(n + 2) << 16 | back(n + 3) << 24;
        let (last, before_last) = (word(1), word(5));
        if at != 0 && at <= self.text {
            self.step(back(1) as u8, last);
        }
        let insn = self.parser;
        self.is_data = usize::from(at >= self.text);
        let contexts = if at < self.text {
            let place = insn.place();
            self.place = place;
            let code = insn.opcode;
            let [a, b, c] = insn.last;
            let behind = place ^ hash(a, 1);
            let skeleton = self.skeleton & 0xff_ffff;
            let before_here = u32::from(self.at_place[place as usize & (PLACES - 1)]);
            let base = insn.base();
            let displacement = u32::from(self.displacements[base & 15]) | (base as u32) << 8;
            let operand = match insn.index {
                0 => 0,
                index => last & u32::MAX >> (32 - 8 * u32::from(index.min(4))),
            };
            [
                (place, 0),
                (back(1), place),
                (last & 0xffff, place),
                (last & 0xff_ffff, 0),
                (last >> 8 & 0xffff, place),
                (code ^ u32::from(insn.sib) << 24, place),
                (code, behind),
                (code ^ hash(b, 7), behind),
                (code ^ hash(b, 7) ^ hash(c, 9), behind),
                (operand, place | 0x1000),
                (operand ^ hash(a, 3), place | 0x2000),
                (self.last_call ^ hash(operand, 5), place | 0x3000),
                (displacement ^ hash(operand, 7), place | 0x4000),
                (before_here ^ hash(code & 0xff, 3), place | 0x5000),
                (skeleton, place ^ code.wrapping_mul(31)),
                (
                    hash(a & 0xff, 5) ^ hash(b & 0xff_00ff, 6),
                    hash(c & 0xff_00ff, 8) ^ place ^ (code & 0x1ff_00ff) << 7,
                ),
            ]
        } else {
            let column = at as u32 & 7;
            self.place = FIRST_DATA_PLACE | column;
            let column = column | 0x7000;
            [
                (0, column),
                (back(1), 0x777),
                (last & 0xffff, 0x777),
                (last & 0xff_ffff, 0x777),
                (last, 0x777),
                (last, before_last & 0xffff),
                (last & 0xdfdf_dfdf, 0x333),
                (last >> 8 & 0xffff, 0x999),
                (last >> 8, 0x313),
                (back(4), column),
                (back(8) | back(1) << 8, column),
                (back(8) | back(7) << 8 | back(1) << 16, column),
                (back(8) | back(16) << 8, column),
                (back(16) | back(1) << 8, column),
                (back(24) | back(1) << 8, column),
                (back(24) | back(48) << 8, column),
            ]
        };
        for ((n, hashed), (a, b)) in (0..).zip(&mut self.hashes).zip(contexts) {
            *hashed = hash(a.wrapping_add(n * 0x0123_4567), b);
        }
        self.find_match(before, hash(last, back(5)));
    }

    /// Takes the next byte of an instruction, the last one of `last`.
    fn step(&mut self, byte: u8, last: u32) {
        let insn = self.parser;
        self.parser.step(byte);
        self.at_place[insn.place() as usize & (PLACES - 1)] = byte;
        match (insn.part, insn.index) {
            (Part::Relative, 3) if insn.opcode as u8 == 0xe8 => self.last_call = last,
            (Part::Displacement, 0) => self.displacements[insn.base() & 15] = byte,
            _ => {}
        }
        if self.parser.place() == 0 {
            let [done, ..] = self.parser.last;
            self.skeleton = self.skeleton << 8 | (done ^ done >> 17 & 0x80) & 0xff;
        }
    }

    /// The latest place where the same bytes were, while they go on being the same.
    fn find_match(&mut self, before: &[u8], hash: u32) {
        let at = before.len();
        if self.match_length > 0 && before.get(self.match_at) == before.last() {
            self.match_at += 1;
            self.match_length = LONGEST_MATCH.min(self.match_length + 1);
        } else {
            self.match_length = 0;
        }
        let end = &mut self.ends[(hash >> (32 - MATCH_LOG)) as usize];
        if self.match_length == 0 {
            self.match_at = *end as usize;
            let found = before.get(..self.match_at).unwrap_or(&[]);
            let same = |(a, b): &(&u8, &u8)| a == b;
            let pairs = found.iter().rev().zip(before.iter().rev());
            let length = pairs.take(LONGEST_MATCH).take_while(same).count();
            if length >= SHORTEST_MATCH {
                self.match_length = length;
            }
        }
        *end = at as u32;
    }

    /// The probability that the next bit is 1: between 0 and [`ONE`], neither of them.
    pub(crate) fn predict(&mut self, before: &[u8]) -> u32 {
        let stretched = |p: u32| i32::from(self.stretched[p as usize & 4095]);
        let mut inputs = self.inputs.chunks_exact_mut(2);
        let mut known = 0;
        let slots = self
            .slots
            .iter_mut()
            .zip(&self.hashes)
            .zip(&mut self.chosen)
            .zip(&self.histories);
        for ((((slots, context), chosen), histories), input) in slots.zip(inputs.by_ref()) {
            let hashed = hash(*context, self.bits);
            *chosen = hashed >> (32 - SLOTS_LOG);
            let slot = &mut slots[*chosen as usize & ((1 << SLOTS_LOG) - 1)];
            let check = hashed & 0xff;
            if *slot & 0xff != check {
                *slot = u32::from(HALF) << 16 | check;
            }
            let history = *slot >> 8 & 0xff;
            known += usize::from(history != 0);
            let predictions = match history {
                0 => (0, 0),
                _ => (
                    stretched(*slot >> 20),
                    stretched(u32::from(histories[history as usize]) >> 4),
                ),
            };
            if let [a, b] = input {
                (*a, *b) = predictions;
            }
        }
        self.known = known;
        self.matched = 0;
        let mut input = (0, 0);
        if self.match_length > 0 {
            let next = u32::from(before.get(self.match_at).copied().unwrap_or(0)) | 0x100;
            let left = self.bits.leading_zeros() - 23;
            if next >> left == self.bits {
                let bit = next >> (left - 1) & 1;
                self.matched = (self.match_length as u8) << 1 | bit as u8;
                let p = u32::from(self.matches[usize::from(self.matched) & 63]) >> 4;
                input = (stretched(p), (p as i32 - 2048) * 2);
            } else {
                self.match_length = 0;
            }
        }
        let [.., a, b] = &mut self.inputs;
        (*a, *b) = input;
        self.mix()
    }

    fn mix(&mut self) -> u32 {
        let mut sum = 0;
        let sets = self.sets();
        for ((weights, set), mixed) in self.weights.iter().zip(sets).zip(&mut self.mixed) {
            let weights = weights[set].iter().zip(&self.inputs);
            let dot: i64 = weights.map(|(w, x)| i64::from(*w) * i64::from(*x)).sum();
            let dot = (dot >> 18).clamp(-2047, 2047) as i32;
            *mixed = squash(dot);
            sum += dot;
        }
        let stretched = (sum * 21846) >> 16;
        let position = (stretched + 2048) * 32;
        let (point, part) = (position as usize >> 12 & 31, position as u32 & 4095);
        let between = |points: &[u16; POINTS]| {
            (u32::from(points[point]) * (4096 - part) + u32::from(points[point + 1]) * part) >> 12
        };
        let fine = hash(self.hashes[1], self.bits) >> (32 - FINE_LOG);
        self.fine_context = fine as u16;
        self.point = point as u16 + (part >> 11) as u16;
        let coarse = between(&self.coarse[sets[1]]);
        let fine = between(&self.fine[fine as usize]);
        let estimate = (2 * 16 * squash(stretched) as u32 + coarse + fine) >> 2;
        estimate.clamp(32, ONE - 32)
    }

    /// The weights that are in use, of each of the two kinds.
    fn sets(&self) -> [usize; 3] {
        [
            self.place as usize & (PLACES - 1),
            self.bits as usize & (PARTIAL - 1) | (self.is_data * PARTIAL),
            self.known & 31 | self.is_data << 5 | ((self.match_length.min(15) / 4) << 6),
        ]
    }

    /// Learns the bit that was predicted.
    pub(crate) fn update(&mut self, bit: bool) {
        let sets = self.sets();
        let rates = [14, 8, 8];
        for (((weights, set), mixed), rate) in
            self.weights.iter_mut().zip(sets).zip(self.mixed).zip(rates)
        {
            let error = ((i32::from(bit) << 12) - mixed) * rate;
            for (weight, input) in weights[set].iter_mut().zip(self.inputs) {
                *weight += (input * error + 0x8000) >> 16;
            }
        }
        for ((slots, chosen), histories) in self
            .slots
            .iter_mut()
            .zip(self.chosen)
            .zip(&mut self.histories)
        {
            let slot = &mut slots[chosen as usize & ((1 << SLOTS_LOG) - 1)];
            let history = *slot >> 8 & 0xff;
            if history != 0 {
                toward(&mut histories[history as usize], bit, 5);
            }
            let p = (*slot >> 16) as i32;
            let target = if bit { 0xffff } else { 0 };
            let seen = (history >> 5) + (history >> 2 & 7);
            let rate = i32::from(RATES[seen as usize & 31] >> 1);
            let p = (p + (((target - p) * rate) >> 15)) as u32;
            *slot = p << 16 | after(history, bit) << 8 | *slot & 0xff;
        }
        if self.matched != 0 {
            toward(&mut self.matches[usize::from(self.matched) & 63], bit, 6);
        }
        let point = usize::from(self.point).min(POINTS - 1);
        toward(&mut self.coarse[sets[1]][point], bit, 6);
        let fine = usize::from(self.fine_context) & ((1 << FINE_LOG) - 1);
        toward(&mut self.fine[fine][point], bit, 6);
        self.bits = self.bits << 1 | u32::from(bit);
    }

    /// The byte whose eight bits were learned.
    pub(crate) fn finished(&mut self) -> u8 {
        let byte = self.bits as u8;
        self.bits = 1;
        byte
    }
}
