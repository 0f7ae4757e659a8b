//! Scales that fit numbers to small integers, by the sum of `importance · error²`.
//!
//! Candidates are looked at [`LANES`] at a time: each has its own sums, in the order of the numbers, so they are the
//! same on every processor and as if there were one.

/// Candidates on each side of the plain scale, a tenth of a step apart: beyond a whole step nothing was found in
/// normally distributed weights.
const SIDE: i32 = 9;
/// Candidates for a scale with a minimum: ranges from one step less than the integers have to one more.
const STEPS: i32 = 20;

/// Candidates side by side.
pub(super) const LANES: usize = 8;

/// A number of each candidate.
pub(super) type Lanes = [f32; LANES];

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
#[inline(always)]
pub(super) fn nearest(number: f32, scale: f32, low: i32, high: i32) -> f32 {
    let exact = if scale == 0.0 { 0.0 } else { number / scale };
    // Clamped first: the quotient of a tiny scale may be infinite.
    (exact.clamp(low as f32, high as f32) + ROUNDING) - ROUNDING
}

/// The scale for integers from `-half` to `half - 1`, as `stored` will keep it. Its sign is such that the largest
/// number may take the end that reaches further.
#[inline(always)]
pub(super) fn fit_scale(numbers: &[f32], importance: &[f32], half: i32, stored: impl Fn(f32) -> f32) -> f32 {
    // Every step with both signs.
    const CANDIDATES: usize = 2 * (2 * SIDE as usize + 1);
    let largest =
        numbers.iter().copied().fold(0.0_f32, |most, number| if number.abs() > most.abs() { number } else { most });
    if largest == 0.0 {
        return 0.0;
    }
    let range = [-half, half - 1];
    let plain = stored(-largest / half as f32);
    let mut best = (errors(numbers, importance, [plain; LANES], range)[0], plain);
    let candidate = |index: usize| {
        let scale = -largest / (half as f32 + 0.1 * (index as i32 / 2 - SIDE) as f32);
        if index.is_multiple_of(2) { scale } else { -scale }
    };
    for first in (0..CANDIDATES).step_by(LANES) {
        let scales = std::array::from_fn(|lane| candidate((first + lane).min(CANDIDATES - 1)));
        let refined = least_squares(numbers, importance, scales, range).map(&stored);
        for (error, refined) in errors(numbers, importance, refined, range).into_iter().zip(refined) {
            if error < best.0 {
                best = (error, refined);
            }
        }
    }
    best.1
}

/// Sum of `importance · error²` of numbers that become `scale · q`, for each scale.
#[inline(always)]
pub(super) fn errors(numbers: &[f32], importance: &[f32], scales: Lanes, [low, high]: [i32; 2]) -> Lanes {
    let mut sums = [0.0; LANES];
    for (&number, &weight) in numbers.iter().zip(importance) {
        for (sum, &scale) in sums.iter_mut().zip(&scales) {
            let off = number - scale * nearest(number, scale, low, high);
            *sum += weight * off * off;
        }
    }
    sums
}

/// The best scale for the integers that each scale makes.
#[inline(always)]
fn least_squares(numbers: &[f32], importance: &[f32], scales: Lanes, [low, high]: [i32; 2]) -> Lanes {
    let (mut products, mut squares) = ([0.0; LANES], [0.0; LANES]);
    for (&number, &weight) in numbers.iter().zip(importance) {
        for (lane, &scale) in scales.iter().enumerate() {
            let q = nearest(number, scale, low, high);
            products[lane] += weight * number * q;
            squares[lane] += weight * q * q;
        }
    }
    std::array::from_fn(|lane| if squares[lane] > 0.0 { products[lane] / squares[lane] } else { scales[lane] })
}

/// Scale and minimum for integers from 0 to 15.
#[inline(always)]
pub(super) fn fit_with_minimum(numbers: &[f32], importance: &[f32]) -> Pair {
    let lowest = numbers.iter().copied().fold(0.0_f32, f32::min);
    let highest = numbers.iter().copied().fold(lowest, f32::max);
    if highest <= lowest {
        // All alike and not above zero: the minimum alone says it.
        return Pair { scale: 0.0, minimum: -lowest };
    }
    let range = highest - lowest;
    let mut best = (f32::INFINITY, Pair { scale: range / 15.0, minimum: -lowest });
    for first in (0..=STEPS).step_by(LANES) {
        let step = |lane: usize| (first + lane as i32).min(STEPS);
        let scales = std::array::from_fn(|lane| range / (14.0 + 0.1 * step(lane) as f32));
        let fitted = least_squares_with_minimum(numbers, importance, scales, -lowest);
        // Where nothing fits, the numbers of nobody: they are not looked at.
        let [scales, minima] = [|pair: Pair| pair.scale, |pair: Pair| pair.minimum]
            .map(|of| fitted.map(|pair| of(pair.unwrap_or_default())));
        let errors = errors_with_minimum(numbers, importance, scales, minima);
        for (pair, error) in fitted.into_iter().zip(errors) {
            if let Some(pair) = pair
                && error < best.0
            {
                best = (error, pair);
            }
        }
    }
    best.1
}

/// Sum of `importance · error²` of numbers that become `scale · q − minimum`, `q` from 0 to 15, for each scale and its
/// minimum.
#[inline(always)]
pub(super) fn errors_with_minimum(numbers: &[f32], importance: &[f32], scales: Lanes, minima: Lanes) -> Lanes {
    let mut sums = [0.0; LANES];
    for (&number, &weight) in numbers.iter().zip(importance) {
        for (sum, (&scale, &minimum)) in sums.iter_mut().zip(scales.iter().zip(&minima)) {
            let off = number - (scale * nearest(number + minimum, scale, 0, 15) - minimum);
            *sum += weight * off * off;
        }
    }
    sums
}

/// The best pair for the integers that each scale makes with a minimum.
#[inline(always)]
fn least_squares_with_minimum(
    numbers: &[f32],
    importance: &[f32],
    scales: Lanes,
    minimum: f32,
) -> [Option<Pair>; LANES] {
    let (mut weights, mut n_sum) = (0.0_f32, 0.0);
    let (mut q_sum, mut qq, mut nq) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for (&number, &weight) in numbers.iter().zip(importance) {
        weights += weight;
        n_sum += weight * number;
        for (lane, &scale) in scales.iter().enumerate() {
            let q = nearest(number + minimum, scale, 0, 15);
            q_sum[lane] += weight * q;
            qq[lane] += weight * q * q;
            nq[lane] += weight * number * q;
        }
    }
    std::array::from_fn(|lane| {
        let (q_sum, qq, nq) = (q_sum[lane], qq[lane], nq[lane]);
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
    })
}
