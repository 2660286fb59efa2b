//! Random numbers that are the same on every machine.

/// A splitmix64 generator (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

/// The step of splitmix64.
pub(crate) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of splitmix64: every bit of the result depends on every bit of `z`.
#[inline]
pub(crate) fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// Creates a generator for one purpose: different labels give unrelated sequences.
    pub(crate) fn new(seed: u64, label: &str) -> Self {
        let mut state = mix(seed ^ STEP);
        for byte in label.bytes() {
            state = mix(state.wrapping_add(u64::from(byte)).wrapping_add(STEP));
        }
        Self(state)
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// Returns a number below `end`, or 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    /// Returns one of `items`, which must not be empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}
