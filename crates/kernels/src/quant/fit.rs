//! Scales that fit numbers to small integers, by the sum of `importance · error²`.

/// Candidates on each side of the plain scale, a tenth of a step apart: beyond a whole step nothing was found in
/// normally distributed weights.
const SIDE: i32 = 9;
/// Candidates for a scale with a minimum: ranges from one step less than the integers have to one more.
const STEPS: i32 = 20;

/// A scale and what is taken off behind it: `number ≈ scale · q − minimum`, neither below zero.
#[derive(Clone, Copy, Default)]
pub(super) struct Pair {
    pub(super) scale: f32,
    pub(super) minimum: f32,
}

/// Added to a number below 2^22 and taken off again, it rounds to the nearest even whole number, on any processor and
/// many at a time: what lies behind the point does not fit beside it. The library's own rounding is a call there.
const ROUNDING: f32 = 12_582_912.0;

/// The whole number in `low..=high` that comes nearest to `number / scale`; for a scale of zero the one nearest to 0.
pub(super) fn nearest(number: f32, scale: f32, low: i32, high: i32) -> f32 {
    let exact = if scale == 0.0 { 0.0 } else { number / scale };
    // Clamped first: the quotient of a tiny scale may be infinite.
    (exact.clamp(low as f32, high as f32) + ROUNDING) - ROUNDING
}

/// The scale for integers from `-half` to `half - 1`, as `stored` will keep it. Its sign is such that the largest
/// number may take the end that reaches further.
pub(super) fn fit_scale(numbers: &[f32], importance: &[f32], half: i32, stored: impl Fn(f32) -> f32) -> f32 {
    let largest =
        numbers.iter().copied().fold(0.0_f32, |most, number| if number.abs() > most.abs() { number } else { most });
    if largest == 0.0 {
        return 0.0;
    }
    let (low, high) = (-half, half - 1);
    let error = |scale: f32| -> f32 {
        let mut sum = 0.0;
        for (&number, &weight) in numbers.iter().zip(importance) {
            let off = number - scale * nearest(number, scale, low, high);
            sum += weight * off * off;
        }
        sum
    };
    let plain = stored(-largest / half as f32);
    let mut best = (error(plain), plain);
    for step in -SIDE..=SIDE {
        let scale = -largest / (half as f32 + 0.1 * step as f32);
        for sign in [1.0, -1.0] {
            let refined = stored(least_squares(numbers, importance, sign * scale, low, high));
            let error = error(refined);
            if error < best.0 {
                best = (error, refined);
            }
        }
    }
    best.1
}

/// The best scale for the integers that `scale` makes.
fn least_squares(numbers: &[f32], importance: &[f32], scale: f32, low: i32, high: i32) -> f32 {
    let (mut products, mut squares) = (0.0, 0.0);
    for (&number, &weight) in numbers.iter().zip(importance) {
        let q = nearest(number, scale, low, high);
        products += weight * number * q;
        squares += weight * q * q;
    }
    if squares > 0.0 { products / squares } else { scale }
}

/// Scale and minimum for integers from 0 to 15.
pub(super) fn fit_with_minimum(numbers: &[f32], importance: &[f32]) -> Pair {
    let lowest = numbers.iter().copied().fold(0.0_f32, f32::min);
    let highest = numbers.iter().copied().fold(lowest, f32::max);
    if highest <= lowest {
        // All alike and not above zero: the minimum alone says it.
        return Pair { scale: 0.0, minimum: -lowest };
    }
    let range = highest - lowest;
    let mut best = (f32::INFINITY, Pair { scale: range / 15.0, minimum: -lowest });
    for step in 0..=STEPS {
        let scale = range / (14.0 + 0.1 * step as f32);
        let Some(pair) = least_squares_with_minimum(numbers, importance, scale, -lowest) else { continue };
        let mut error = 0.0;
        for (&number, &weight) in numbers.iter().zip(importance) {
            let q = nearest(number + pair.minimum, pair.scale, 0, 15);
            let off = number - (pair.scale * q - pair.minimum);
            error += weight * off * off;
        }
        if error < best.0 {
            best = (error, pair);
        }
    }
    best.1
}

/// The best pair for the integers that a pair makes.
fn least_squares_with_minimum(numbers: &[f32], importance: &[f32], scale: f32, minimum: f32) -> Option<Pair> {
    let (mut weights, mut q_sum, mut qq, mut n_sum, mut nq) = (0.0_f32, 0.0, 0.0, 0.0, 0.0);
    for (&number, &weight) in numbers.iter().zip(importance) {
        let q = nearest(number + minimum, scale, 0, 15);
        weights += weight;
        q_sum += weight * q;
        qq += weight * q * q;
        n_sum += weight * number;
        nq += weight * number * q;
    }
    let determinant = weights * qq - q_sum * q_sum;
    if determinant <= 0.0 {
        return None;
    }
    let scale = (weights * nq - n_sum * q_sum) / determinant;
    let minimum = (q_sum * nq - n_sum * qq) / determinant;
    if minimum >= 0.0 {
        return (scale > 0.0).then_some(Pair { scale, minimum });
    }
    // A minimum below zero cannot be kept: the best scale without one.
    (qq > 0.0 && nq > 0.0).then(|| Pair { scale: nq / qq, minimum: 0.0 })
}
