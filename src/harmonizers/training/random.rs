//! Random numbers for training that depend on the seed and the sample's number alone.

use crate::diffusion::Philox;

pub struct Random {
    philox: Philox,
    counter: [u32; 4],
    words: [u32; 4],
    left: usize,
}

impl Random {
    /// The stream of numbers for `sample` under `seed`; streams don't overlap.
    pub fn new(seed: u64, sample: u64) -> Self {
        let counter = [0, 0, sample as u32, (sample >> 32) as u32];
        Self { philox: Philox::new(seed), counter, words: [0; 4], left: 0 }
    }

    fn word(&mut self) -> u32 {
        if self.left == 0 {
            self.words = self.philox.words(self.counter);
            self.counter[0] += 1;
            self.left = 4;
        }
        self.left -= 1;
        self.words[self.left]
    }

    /// Uniform in `from..to`.
    pub fn uniform(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * f64::from(self.word()) / 4_294_967_296.0
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform(0.0, 1.0) < probability
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(0.0, 1.0)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(0.0, 1.0)).cos()
    }

    /// Uniform in `0..n`; `n` is at least 1.
    pub fn index(&mut self, n: usize) -> usize {
        ((u64::from(self.word()) * n as u64) >> 32) as usize
    }
}
