//! Pictures: from the bytes of a file to the patches that a vision tower reads.
//!
//! Sizes and order are those of transformers' `Qwen2VLImageProcessor` with the settings of Qwen3-VL; the resampling is
//! that of PIL (bicubic with `a = -0.5`, antialiased, in fixed point), bit for bit.

mod clip;
mod resample;

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder as _, ImageReader, Limits};

use crate::{Error, Result};

pub use clip::{CLIP_PIXELS, Clip, FRAMES_MAX, animation, is_animated, listed};

/// Bytes of an encoded picture.
pub const FILE_BYTES_MAX: usize = 32 << 20;
/// Pixels along one side.
pub const SIDE_MAX: u32 = 20_000;
/// Pixels of a picture: 400 MB decoded, which is what one request may cost.
pub const PIXELS_MAX: u64 = 100 << 20;
/// Beyond this ratio of its sides a picture is refused, as the reference does.
pub const RATIO_MAX: usize = 200;
/// Pixels of a patch along each side.
pub const PATCH: usize = 16;
/// Patches of a token along each side.
pub const MERGE: usize = 2;
/// Frames of a patch; a still picture repeats its frame.
pub const FRAMES: usize = 2;
/// Numbers of a patch: channels, frames, rows, columns.
pub const PATCH_NUMBERS: usize = 3 * FRAMES * PATCH * PATCH;

/// A decoded picture: red, green and blue, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`.
    pub pixels: Vec<u8>,
}

/// How many pixels a resized picture has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelLimits {
    /// At least so many.
    pub fewest: usize,
    /// At most so many.
    pub most: usize,
}

impl Default for PixelLimits {
    /// As published with Qwen3-VL: 64 to 16,384 tokens.
    fn default() -> Self {
        Self { fewest: 65_536, most: 16_777_216 }
    }
}

/// What the tower reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Patches {
    /// Frame pairs, rows and columns of patches.
    pub grid: [usize; 3],
    /// `[patches, PATCH_NUMBERS]`, the four patches of a token one after the other.
    pub values: Vec<f32>,
}

impl Patches {
    /// Tokens of all frames.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.grid.iter().product::<usize>() / (MERGE * MERGE)
    }
}

/// Decodes PNG, JPEG, WebP or GIF (its first frame), turned upright as its metadata says. Transparency is dropped.
///
/// # Errors
/// [`Error::Picture`] for what is none of these, too large, or broken.
pub fn decode(bytes: &[u8]) -> Result<Picture> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(refused(format!("it has {} bytes, {FILE_BYTES_MAX} allowed", bytes.len())));
    }
    if bytes.is_empty() {
        return Err(refused("it is empty"));
    }
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|why| refused(why.to_string()))?;
    if reader.format().is_none() {
        return Err(refused("it is neither PNG, JPEG, WebP nor GIF"));
    }
    let mut decoder = reader.into_decoder().map_err(|why| refused(why.to_string()))?;
    check_size(decoder.dimensions())?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(8 * PIXELS_MAX);
    decoder.set_limits(limits).map_err(|why| refused(why.to_string()))?;
    let orientation = decoder.orientation().map_err(|why| refused(why.to_string()))?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|why| refused(why.to_string()))?;
    image.apply_orientation(orientation);
    let image = image.into_rgb8();
    Ok(Picture { width: image.width() as usize, height: image.height() as usize, pixels: image.into_raw() })
}

/// What a header promises is refused before anything is made of it.
fn check_size((width, height): (u32, u32)) -> Result<()> {
    if width == 0 || height == 0 || width > SIDE_MAX || height > SIDE_MAX {
        return Err(refused(format!("it is {width} x {height} pixels, allowed are 1 to {SIDE_MAX} a side")));
    }
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        return Err(refused(format!("it is {width} x {height} pixels, {PIXELS_MAX} allowed together")));
    }
    Ok(())
}

fn refused(why: impl Into<String>) -> Error {
    Error::Picture { why: why.into() }
}

/// The size (height, width) to which a picture is resized: whole tokens, within the limits, of nearly the same shape.
///
/// # Errors
/// [`Error::Picture`] if one side is more than [`RATIO_MAX`] times the other.
pub fn resized(height: usize, width: usize, limits: PixelLimits) -> Result<(usize, usize)> {
    within(1.0, 1.0, height, width, limits)
}

/// As [`resized`] for the frames of a video, whose pixels count together.
///
/// # Errors
/// As [`resized`], and if there are fewer than [`FRAMES`] frames.
pub fn resized_frames(frames: usize, height: usize, width: usize, limits: PixelLimits) -> Result<(usize, usize)> {
    if frames < FRAMES {
        return Err(refused(format!("the video has {frames} frames, at least {FRAMES} are needed")));
    }
    // The reference first makes the shorter side as long as a token.
    let (unit, shorter) = (PATCH * MERGE, height.min(width));
    let grown =
        |side: usize| if shorter < unit { (side as f64 * (unit as f64 / shorter as f64)) as usize } else { side };
    let pairs = (frames as f64 / FRAMES as f64).round_ties_even();
    within(pairs * FRAMES as f64, frames as f64, grown(height), grown(width), limits)
}

/// `counted` frames decide whether the pixels are too many or too few, `frames` by how much.
fn within(counted: f64, frames: f64, height: usize, width: usize, limits: PixelLimits) -> Result<(usize, usize)> {
    if height.min(width) == 0 || height.max(width) > RATIO_MAX * height.min(width) {
        return Err(refused(format!("its sides are {width} and {height}, a ratio of more than {RATIO_MAX}")));
    }
    let unit = (PATCH * MERGE) as f64;
    let (h, w) = (height as f64, width as f64);
    let nearest = |side: f64| (side / unit).round_ties_even() * unit;
    let whole = counted * nearest(h) * nearest(w);
    let fit: &dyn Fn(f64) -> f64 = if whole > limits.most as f64 {
        let shrink = (frames * h * w / limits.most as f64).sqrt();
        &move |side: f64| ((side / shrink / unit).floor() * unit).max(unit)
    } else if whole < limits.fewest as f64 {
        let grow = (limits.fewest as f64 / (frames * h * w)).sqrt();
        &move |side: f64| (side * grow / unit).ceil() * unit
    } else {
        &nearest
    };
    Ok((fit(h) as usize, fit(w) as usize))
}

/// A picture resized by the reference's filter.
#[must_use]
pub fn resize(picture: &Picture, height: usize, width: usize) -> Picture {
    resample::bicubic(picture, height, width)
}

/// The patches of a still picture.
///
/// # Errors
/// As [`resized`].
pub fn patches(picture: &Picture, limits: PixelLimits) -> Result<Patches> {
    let (height, width) = resized(picture.height, picture.width, limits)?;
    let picture = resize(picture, height, width);
    Ok(cut(&[[&picture, &picture]], height, width))
}

/// The patches of frames of equal size, already resized, two by two; the last is repeated if their number is odd.
///
/// # Errors
/// [`Error::Picture`] if there is no frame, or they differ in size or are not whole tokens.
pub fn frame_patches(frames: &[Picture]) -> Result<Patches> {
    let Some(first) = frames.first() else { return Err(refused("the video has no frame")) };
    let (height, width) = (first.height, first.width);
    let unit = PATCH * MERGE;
    let fits = |frame: &Picture| (frame.height, frame.width) == (height, width);
    if !frames.iter().all(fits) || !height.is_multiple_of(unit) || !width.is_multiple_of(unit) {
        return Err(refused(format!("frames must all have one size, a multiple of {unit}")));
    }
    let pairs: Vec<[&Picture; FRAMES]> = frames.chunks(FRAMES).map(|pair| [&pair[0], &pair[pair.len() - 1]]).collect();
    Ok(cut(&pairs, height, width))
}

/// Block row, block column, row in block, column in block; of each patch channel, frame, row, column.
fn cut(pairs: &[[&Picture; FRAMES]], height: usize, width: usize) -> Patches {
    let (rows, columns) = (height / PATCH, width / PATCH);
    let mut values = Vec::with_capacity(pairs.len() * rows * columns * PATCH_NUMBERS);
    for pair in pairs {
        for (row, column) in in_blocks(rows, columns) {
            for channel in 0..3 {
                for frame in pair {
                    for y in row * PATCH..(row + 1) * PATCH {
                        let start = (y * width + column * PATCH) * 3;
                        let pixels = frame.pixels[start..start + 3 * PATCH].iter().skip(channel).step_by(3);
                        values.extend(pixels.map(|&pixel| (f32::from(pixel) / 255.0 - 0.5) / 0.5));
                    }
                }
            }
        }
    }
    Patches { grid: [pairs.len(), rows, columns], values }
}

/// Rows and columns of the patches of a frame, in the order in which they are stored: the four of a token together.
pub(crate) fn in_blocks(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    let blocks = (0..rows / MERGE).flat_map(move |row| (0..columns / MERGE).map(move |column| (row, column)));
    blocks.flat_map(|(row, column)| {
        (0..MERGE * MERGE).map(move |i| (row * MERGE + i / MERGE, column * MERGE + i % MERGE))
    })
}
