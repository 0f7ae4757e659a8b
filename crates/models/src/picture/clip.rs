//! Clips: animations and lists of frames, as the video that Qwen3-VL reads.
//!
//! Which frames of an animation are looked at, and the times that the prompt names, are those of transformers'
//! `Qwen3VLVideoProcessor`: two a second, at least four and at most [`FRAMES_MAX`], spread evenly; a pair of frames
//! stands at the mean of its two times.

use std::io::{BufReader, Cursor};

use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder as _, Frame, Frames, ImageError, ImageFormat, Limits};

use super::{FILE_BYTES_MAX, FRAMES, PIXELS_MAX, Patches, Picture, PixelLimits, SIDE_MAX, refused};
use crate::Result;

/// Frames of a clip that are looked at.
pub const FRAMES_MAX: usize = 768;
/// As few as the reference looks at, where there are so many.
const FRAMES_MIN: usize = 4;
/// Frames of an animation.
const ANIMATION_FRAMES_MAX: usize = 10_000;
/// Pixels of all frames of an animation together: a few seconds of decoding.
const ANIMATION_PIXELS_MAX: u64 = 1 << 29;
/// Frames that are looked at in each second.
const PER_SECOND: f64 = 2.0;
/// An animation that names no delay is shown ten times a second, as browsers do.
const DELAY_S: f64 = 0.1;

/// What the tower reads, and when each pair of frames was.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// The patches of all pairs.
    pub patches: Patches,
    /// Seconds since the beginning, one for each pair.
    pub seconds: Vec<f64>,
}

/// How many pixels the frames of a clip have together, as published with Qwen3-VL: at most 12,288 tokens.
pub const CLIP_PIXELS: PixelLimits = PixelLimits { fewest: 4096, most: 25_165_824 };

/// Whether the file shows more than one picture. A file that cannot be read shows none.
#[must_use]
pub fn is_animated(bytes: &[u8]) -> bool {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Gif) => frames_of(bytes).is_ok_and(|frames| frames.take(2).filter(Result::is_ok).count() == 2),
        Ok(ImageFormat::WebP) => WebPDecoder::new(Cursor::new(bytes)).is_ok_and(|decoder| decoder.has_animation()),
        Ok(ImageFormat::Png) => {
            PngDecoder::new(BufReader::new(Cursor::new(bytes))).is_ok_and(|decoder| decoder.is_apng().unwrap_or(false))
        }
        Ok(_) | Err(_) => false,
    }
}

/// The clip of an animated GIF, WebP or PNG.
///
/// # Errors
/// [`crate::Error::Picture`] for what is none of these, too large, too long, or broken.
pub fn animation(bytes: &[u8], limits: PixelLimits) -> Result<Clip> {
    // Decoded twice, so that never more than the chosen frames are held.
    let mut starts = Vec::new();
    let (mut now, mut size) = (0.0, (0, 0));
    for frame in frames_of(bytes)? {
        let frame = frame?;
        size = frame.buffer().dimensions();
        starts.push(now);
        now += delay(&frame);
        let pixels = starts.len() as u64 * u64::from(size.0) * u64::from(size.1);
        if starts.len() > ANIMATION_FRAMES_MAX || pixels > ANIMATION_PIXELS_MAX {
            let (frames, (width, height)) = (starts.len(), size);
            let allowed = format!("{ANIMATION_FRAMES_MAX} frames and {ANIMATION_PIXELS_MAX} pixels are allowed");
            return Err(refused(format!("it has {frames} frames or more of {width} x {height} pixels; {allowed}")));
        }
    }
    let chosen = spread(starts.len(), now);
    let (height, width) = super::resized_frames(chosen.len(), size.1 as usize, size.0 as usize, limits)?;
    let mut frames = Vec::with_capacity(chosen.len());
    for (index, frame) in frames_of(bytes)?.enumerate() {
        if chosen.contains(&index) {
            frames.push(super::resize(&picture(&frame?), height, width));
        }
    }
    let times: Vec<f64> = chosen.iter().map(|&index| starts[index]).collect();
    Ok(Clip { patches: super::frame_patches(&frames)?, seconds: pairs(&times) })
}

/// The clip of a list of pictures, `per_second` of them a second.
///
/// # Errors
/// [`crate::Error::Picture`] if there are too few or too many, they differ in size, or one cannot be read.
pub fn listed(files: &[&[u8]], per_second: f64, limits: PixelLimits) -> Result<Clip> {
    if files.len() > FRAMES_MAX {
        return Err(refused(format!("the video has {} frames, {FRAMES_MAX} allowed", files.len())));
    }
    let mut frames = Vec::with_capacity(files.len());
    let mut first = None;
    for (index, file) in files.iter().enumerate() {
        let picture = super::decode(file)?;
        let size = (picture.height, picture.width);
        let whole = *first.get_or_insert(size);
        if size != whole {
            let text = |(height, width): (usize, usize)| format!("{width} x {height}");
            return Err(refused(format!("frame {index} is {} pixels, the first {}", text(size), text(whole))));
        }
        let (height, width) = super::resized_frames(files.len(), size.0, size.1, limits)?;
        frames.push(super::resize(&picture, height, width));
    }
    if frames.len() < FRAMES {
        return Err(refused(format!("the video has {} frames, at least {FRAMES} are needed", frames.len())));
    }
    let times: Vec<f64> = (0..frames.len()).map(|index| index as f64 / per_second).collect();
    Ok(Clip { patches: super::frame_patches(&frames)?, seconds: pairs(&times) })
}

/// Which of `count` frames of `length_s` seconds are looked at.
fn spread(count: usize, length_s: f64) -> Vec<usize> {
    let wanted = (length_s * PER_SECOND) as usize;
    let wanted = wanted.clamp(FRAMES_MIN, FRAMES_MAX).min(count);
    let step = if wanted > 1 { (count - 1) as f64 / (wanted - 1) as f64 } else { 0.0 };
    (0..wanted).map(|index| (index as f64 * step).round_ties_even() as usize).collect()
}

/// The mean of the times of each pair of frames; the last is repeated if their number is odd.
fn pairs(times: &[f64]) -> Vec<f64> {
    times.chunks(FRAMES).map(|pair| f64::midpoint(pair[0], pair[pair.len() - 1])).collect()
}

fn delay(frame: &Frame) -> f64 {
    let (numerator, denominator) = frame.delay().numer_denom_ms();
    let seconds = f64::from(numerator) / f64::from(denominator.max(1)) / 1000.0;
    if seconds > 0.0 { seconds } else { DELAY_S }
}

/// Transparency is dropped, as it is from a still picture.
fn picture(frame: &Frame) -> Picture {
    let buffer = frame.buffer();
    let pixels = buffer.pixels().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    Picture { width: buffer.width() as usize, height: buffer.height() as usize, pixels }
}

/// The frames of a file, whole canvases each.
fn frames_of(bytes: &[u8]) -> Result<impl Iterator<Item = Result<Frame>>> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(refused(format!("it has {} bytes, {FILE_BYTES_MAX} allowed", bytes.len())));
    }
    let frames = match image::guess_format(bytes) {
        Ok(ImageFormat::Gif) => {
            let mut decoder = GifDecoder::new(Cursor::new(bytes)).map_err(unreadable)?;
            prepare(&mut decoder)?;
            decoder.into_frames()
        }
        Ok(ImageFormat::WebP) => {
            let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(unreadable)?;
            prepare(&mut decoder)?;
            decoder.into_frames()
        }
        Ok(ImageFormat::Png) => {
            let mut decoder = PngDecoder::new(BufReader::new(Cursor::new(bytes))).map_err(unreadable)?;
            prepare(&mut decoder)?;
            decoder.apng().map_err(unreadable)?.into_frames()
        }
        Ok(_) | Err(_) => return Err(refused("as a video it is neither an animated GIF, WebP nor PNG")),
    };
    Ok(checked(frames))
}

fn checked(frames: Frames<'_>) -> impl Iterator<Item = Result<Frame>> {
    // A decoder that failed once may fail for ever.
    let mut failed = false;
    frames.map_while(move |frame| {
        let goes_on = !failed;
        failed |= frame.is_err();
        goes_on.then(|| frame.map_err(unreadable))
    })
}

fn prepare(decoder: &mut impl image::ImageDecoder) -> Result<()> {
    super::check_size(decoder.dimensions())?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(8 * PIXELS_MAX);
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    decoder.set_limits(limits).map_err(unreadable)
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn unreadable(why: ImageError) -> crate::Error {
    refused(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::{pairs, spread};

    #[test]
    fn frames_are_spread_as_the_reference_does() {
        // np.linspace(0, total - 1, n).round() with n = clamp(seconds * 2, 4, 768, total).
        assert_eq!(spread(40, 4.0), [0, 6, 11, 17, 22, 28, 33, 39]);
        assert_eq!(spread(40, 0.5), [0, 13, 26, 39]);
        assert_eq!(spread(3, 10.0), [0, 1, 2]);
        assert_eq!(spread(1, 10.0), [0]);
        assert_eq!(spread(10_000, 1e9).len(), super::FRAMES_MAX);
    }

    #[test]
    fn a_pair_stands_at_the_mean_of_its_times() {
        assert_eq!(pairs(&[0.0, 0.5, 1.0, 1.5]), [0.25, 1.25]);
        assert_eq!(pairs(&[0.0, 1.0, 3.0]), [0.5, 3.0]);
    }
}
