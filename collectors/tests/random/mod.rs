//! What tests that damage things share: damages that are the same in every run.

use std::env;

/// Numbers that are the same in every run (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// From `HOLDFAST_TEST_SEED`.
    pub(crate) fn from_env() -> Self {
        Self(from_env("HOLDFAST_TEST_SEED"))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// The number in a variable of the environment, 1 without it.
pub(crate) fn from_env(name: &str) -> u64 {
    let number = env::var(name).ok();
    number.map_or(1, |number| number.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
