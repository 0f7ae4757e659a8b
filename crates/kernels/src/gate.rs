//! Gates that let a share of their input through.

use crate::Cpu;
use crate::parts::Parts;

/// Numbers that one thread takes at a time.
const PIECE: usize = 4096;

/// `x = x * sigmoid(gate)`.
///
/// # Panics
/// If the lengths differ.
pub fn sigmoid_gate(cpu: &Cpu, x: &mut [f32], gate: &[f32]) {
    assert_eq!(x.len(), gate.len(), "x and gate have the same length");
    let length = x.len();
    let x = Parts::new(x);
    cpu.pool.for_each(length.div_ceil(PIECE), &|_, piece| {
        let range = piece * PIECE..length.min((piece + 1) * PIECE);
        // SAFETY: the pieces do not overlap.
        let x = unsafe { x.part(range.clone()) };
        for (x, gate) in x.iter_mut().zip(&gate[range]) {
            *x /= 1.0 + (-gate).exp();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{PIECE, sigmoid_gate};
    use crate::{Cpu, CpuOptions};

    #[test]
    fn a_gate_lets_its_share_through() {
        let cpu = Cpu::new(CpuOptions::default()).unwrap();
        let mut x = vec![2.0; PIECE + 3];
        let mut gate = vec![0.0; PIECE + 3];
        gate[PIECE + 1] = -200.0;
        gate[PIECE + 2] = 200.0;
        sigmoid_gate(&cpu, &mut x, &gate);
        assert_eq!(x[PIECE..].iter().map(|x| x.to_bits()).collect::<Vec<_>>(), [1.0_f32, 0.0, 2.0].map(f32::to_bits));
    }
}
