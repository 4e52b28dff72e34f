//! Random choices of the generators: a thin layer over one seeded stream, so that generators read as descriptions of
//! traffic rather than of random numbers.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp, LogNormal};

use etcbench_storage::seed;

/// One stream of random choices.
pub(super) struct Draw {
    generator: ChaCha8Rng,
}

impl Draw {
    /// Creates the stream for one purpose of a run.
    pub(super) fn new(root: u64, purpose: &str) -> Self {
        Self { generator: seed::generator(root, purpose) }
    }

    /// Creates a stream that depends only on `key`, not on the run's seed: for properties of the simulated network that
    /// are the same in every capture, such as the distance of a server.
    pub(super) fn fixed(key: u64) -> Self {
        Self { generator: ChaCha8Rng::seed_from_u64(key) }
    }

    /// Draws an integer in `low..=high`, with 64 bits so that the width of `usize` does not matter.
    pub(super) fn between(&mut self, low: usize, high: usize) -> usize {
        self.generator.random_range(low as u64..=high as u64) as usize
    }

    /// Draws an index below `count`, which is at least one.
    pub(super) fn below(&mut self, count: usize) -> usize {
        self.between(0, count - 1)
    }

    /// Draws a real number in `low..high`.
    pub(super) fn real(&mut self, low: f64, high: f64) -> f64 {
        self.generator.random_range(low..high)
    }

    /// Returns `true` with the given probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.generator.random_range(0.0..1.0) < probability
    }

    /// Picks one of `choices` with equal probability; `choices` is not empty.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Picks one of `choices` by weight; the weights are positive and need not sum to one.
    pub(super) fn weighted<T: Copy>(&mut self, choices: &[(f64, T)]) -> T {
        let total: f64 = choices.iter().map(|choice| choice.0).sum();
        let mut left = self.real(0.0, total);
        for &(weight, value) in choices {
            if left < weight {
                return value;
            }
            left -= weight;
        }
        choices[choices.len() - 1].1
    }

    /// Draws a log-normal value with the given median; `sigma` is the standard deviation of its logarithm.
    pub(super) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        LogNormal::new(median.ln(), sigma).expect("sigma of a profile is finite").sample(&mut self.generator)
    }

    /// Draws a log-normal integer, clamped to `low..=high`.
    pub(super) fn size(&mut self, median: f64, sigma: f64, low: usize, high: usize) -> usize {
        (self.log_normal(median, sigma) as usize).clamp(low, high)
    }

    /// Draws an exponential waiting time with the given mean.
    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        Exp::new(1.0 / mean).expect("mean of a profile is positive").sample(&mut self.generator)
    }

    /// Draws sixteen random bits.
    pub(super) fn u16(&mut self) -> u16 {
        self.generator.next_u32() as u16
    }

    /// Draws thirty-two random bits.
    pub(super) fn u32(&mut self) -> u32 {
        self.generator.next_u32()
    }

    /// Appends `count` random bytes, like encrypted content.
    pub(super) fn append(&mut self, bytes: &mut Vec<u8>, count: usize) {
        let start = bytes.len();
        bytes.resize(start + count, 0);
        self.generator.fill_bytes(&mut bytes[start..]);
    }

    /// Draws `count` random bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append(&mut bytes, count);
        bytes
    }

    /// Draws a text of `count` characters from `alphabet`.
    pub(super) fn text(&mut self, alphabet: &[u8], count: usize) -> String {
        (0..count).map(|_| char::from(self.pick(alphabet))).collect()
    }

    /// Draws a lower-case word of `count` letters that alternates consonants and vowels.
    pub(super) fn word(&mut self, count: usize) -> String {
        (0..count)
            .map(|place| {
                let letters: &[u8] = if place % 2 == 0 { b"bcdfghklmnprstvw" } else { b"aeiou" };
                char::from(self.pick(letters))
            })
            .collect()
    }
}
