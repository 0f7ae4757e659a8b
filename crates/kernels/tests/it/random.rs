//! Numbers that look random and are the same in every run.

use std::num::NonZeroUsize;

use kernels::{Cpu, CpuOptions, Isa};

/// A SplitMix64 sequence.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Between -1 and 1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

pub(crate) fn cpu(isa: Isa, threads: usize) -> Cpu {
    let threads = NonZeroUsize::new(threads).unwrap();
    Cpu::new(CpuOptions { isa: Some(isa), threads, is_pinned: false }).unwrap()
}

/// Every instruction set of this machine, alone and with three threads.
pub(crate) fn cpus() -> Vec<Cpu> {
    Isa::available().flat_map(|isa| [cpu(isa, 1), cpu(isa, 3)]).collect()
}

/// Fails with the worst element if the rms of the difference exceeds `tolerance` times the rms of what is expected.
pub(crate) fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let difference = |i: usize| (f64::from(found[i]) - expected[i]).abs();
    let squares: f64 = (0..found.len()).map(|i| difference(i).powi(2)).sum();
    let scale: f64 = expected.iter().map(|x| x * x).sum();
    let worst = (0..found.len()).max_by(|a, b| difference(*a).total_cmp(&difference(*b)));
    let Some(worst) = worst else { return };
    assert!(
        squares.sqrt() <= tolerance * scale.sqrt() + 1e-9,
        "{what}: relative {:.2e} above {tolerance:.0e}; worst at {worst}: {} instead of {}",
        (squares / scale).sqrt(),
        found[worst],
        expected[worst],
    );
}
