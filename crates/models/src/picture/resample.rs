//! Bicubic resampling as PIL does it on bytes: across, then down, each rounded to bytes, with weights in fixed point.

use super::Picture;

/// Bits behind the point of a weight.
const BITS: u32 = 22;

/// The weights of one output pixel, for input pixels from `first` on.
struct Taps {
    first: usize,
    weights: Vec<i64>,
}

pub(super) fn bicubic(picture: &Picture, height: usize, width: usize) -> Picture {
    let across = if width == picture.width { picture.clone() } else { resample_rows(picture, width) };
    if height == across.height { across } else { resample_columns(&across, height) }
}

fn filter(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let filter_scale = scale.max(1.0);
    let support = 2.0 * filter_scale;
    (0..to)
        .map(|out| {
            let center = (out as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let raw: Vec<f64> = (first..end).map(|i| filter((i as f64 - center + 0.5) / filter_scale)).collect();
            let sum: f64 = raw.iter().sum();
            let fixed = |weight: &f64| (weight / sum * f64::from(1_u32 << BITS)).round() as i64;
            Taps { first, weights: raw.iter().map(fixed).collect() }
        })
        .collect()
}

fn byte(sum: i64) -> u8 {
    ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
}

fn resample_rows(picture: &Picture, width: usize) -> Picture {
    let taps = taps(picture.width, width);
    let mut pixels = Vec::with_capacity(picture.height * width * 3);
    for row in picture.pixels.chunks_exact(picture.width * 3) {
        for Taps { first, weights } in &taps {
            let mut sums = [0_i64; 3];
            for (pixel, weight) in row[first * 3..].chunks_exact(3).zip(weights) {
                sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += i64::from(*value) * weight);
            }
            pixels.extend(sums.map(byte));
        }
    }
    Picture { width, height: picture.height, pixels }
}

fn resample_columns(picture: &Picture, height: usize) -> Picture {
    let row_bytes = picture.width * 3;
    let mut pixels = Vec::with_capacity(height * row_bytes);
    let mut sums = vec![0_i64; row_bytes];
    for Taps { first, weights } in taps(picture.height, height) {
        sums.fill(0);
        for (row, weight) in picture.pixels[first * row_bytes..].chunks_exact(row_bytes).zip(&weights) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += i64::from(*value) * weight);
        }
        pixels.extend(sums.iter().map(|&sum| byte(sum)));
    }
    Picture { width: picture.width, height, pixels }
}
