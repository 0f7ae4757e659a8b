use kernels::{HeadNorm, Rope, add, head_norm_rope, rms_norm, scale_add, softmax, swiglu};

use crate::random::{Random, assert_close, cpus};

/// f32 rounding of a handful of operations.
const EXACT: f64 = 1e-6;

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn normalised(x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter().zip(weight).map(|(x, weight)| x * weight / (mean + eps).sqrt()).collect()
}

#[test]
fn rms_norm_is_what_the_formula_says() {
    let mut random = Random(1);
    for cpu in cpus() {
        for (n, d) in [(1, 1), (3, 7), (2, 64), (5, 1023), (40, 1024)] {
            let (x, weight) = (random.floats(n * d), random.floats(d));
            let mut out = vec![0.0; n * d];
            rms_norm(&cpu, &x, &weight, 1e-6, &mut out);
            let expected: Vec<f64> = x.chunks(d).flat_map(|x| normalised(&wide(x), &wide(&weight), 1e-6)).collect();
            assert_close(&out, &expected, EXACT, &format!("{cpu:?} [{n}, {d}]"));
        }
    }
}

#[test]
fn heads_are_normalised_then_rotated() {
    let mut random = Random(2);
    for cpu in cpus() {
        for (n, heads, d, half, has_norm) in
            [(1, 2, 8, 4, true), (3, 5, 33, 7, true), (70, 4, 128, 64, true), (2, 1, 16, 8, false)]
        {
            let x = random.floats(n * heads * d);
            let (cos, sin) = (random.floats(n * half), random.floats(n * half));
            let weight = random.floats(d);
            let mut expected = Vec::new();
            for (row, x) in x.chunks(heads * d).enumerate() {
                for head in x.chunks(d) {
                    let mut head = wide(head);
                    if has_norm {
                        head = normalised(&head, &wide(&weight), 1e-5);
                    }
                    for i in 0..half {
                        let (cos, sin) = (f64::from(cos[row * half + i]), f64::from(sin[row * half + i]));
                        (head[i], head[i + half]) =
                            (head[i] * cos - head[i + half] * sin, head[i + half] * cos + head[i] * sin);
                    }
                    expected.extend(head);
                }
            }
            let norm = has_norm.then_some(HeadNorm { weight: &weight, eps: 1e-5 });
            let mut found = x;
            head_norm_rope(&cpu, &mut found, heads, d, norm, Rope { cos: &cos, sin: &sin, half });
            assert_close(&found, &expected, EXACT, &format!("{cpu:?} [{n}, {heads}, {d}]"));
        }
    }
}

#[test]
fn swiglu_is_what_the_formula_says() {
    let mut random = Random(3);
    for cpu in cpus() {
        for n in [1, 5, 16, 33, 40_000] {
            let mut gate: Vec<f32> = random.floats(n).iter().map(|x| x * 20.0).collect();
            gate[0] = -200.0;
            let up = random.floats(n);
            let expected: Vec<f64> =
                wide(&gate).iter().zip(&up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * f64::from(*up)).collect();
            swiglu(&cpu, &mut gate, &up);
            assert_close(&gate, &expected, EXACT, &format!("{cpu:?} {n}"));
        }
    }
}

#[test]
fn sums_and_softmax() {
    let mut x = [1.0, 2.0];
    add(&mut x, &[0.5, 1.0]);
    scale_add(&mut x, 2.0, &[1.0, -1.0]);
    assert_close(&x, &[3.5, 1.0], EXACT, "sums");
    let mut x = [1.0, f32::NEG_INFINITY, 3.0];
    softmax(&mut x);
    let e = 2.0_f64.exp();
    assert_close(&x, &[1.0 / (1.0 + e), 0.0, e / (1.0 + e)], EXACT, "softmax");
}
