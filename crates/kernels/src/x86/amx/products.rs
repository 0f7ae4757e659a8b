//! BF16 panels times tiles of activations.

use super::super::Ahead;
use super::super::avx512::pack;
use super::tiles::{self, Few, Four, Tiles};
use crate::activations::{TILE, Tile};
use crate::layout::{BLOCK, LANES};
use crate::parts::Parts;
use crate::scalar;

/// Activations `[units][columns][16 words]`. What is left behind whole units follows as `[columns][words]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn pack(x: &[f32], columns: usize, rows: &[u32], out: &mut [u32]) {
    let stride = rows.len();
    let (units, rest_out) = out.split_at_mut(columns / BLOCK * LANES * stride);
    let rest_words = rest_out.len() / stride;
    for (c, row) in rows.iter().enumerate() {
        let (whole, rest) = x[*row as usize * columns..][..columns].as_chunks::<BLOCK>();
        for (x, out) in whole.iter().zip(units.as_chunks_mut::<LANES>().0.chunks_exact_mut(stride)) {
            out[c] = pack::bf16_words(x);
        }
        scalar::pack_bf16(rest, rest.len(), &[0], &mut rest_out[c * rest_words..][..rest_words]);
    }
}

/// The numbers of one panel for the columns of one tile, where [`pack`] would write them.
///
/// # Safety
/// Nobody else packs this panel of this tile at the same time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn place(values: &[[f32; LANES]], panel: usize, out: &Parts<'_, u32>, start: usize) {
    const PANEL_WORDS: usize = LANES / 2;
    let stride = values.len();
    for (c, values) in values.iter().enumerate() {
        let at = start + panel / 2 * LANES * stride + c * LANES + panel % 2 * PANEL_WORDS;
        // SAFETY: the caller's promise; half a unit of a column is one panel's.
        let place = unsafe { out.part(at..at + PANEL_WORDS) };
        place.copy_from_slice(&pack::bf16_half(values));
    }
}

/// One or two panels and one tile.
///
/// # Safety
/// The processor has AMX, and [`tiles::is_permitted`] has said yes.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn bf16<const P: usize>(panels: &[u8], tile: Tile<'_>, out: &mut [[f32; LANES]]) {
    let mut outs = out.chunks_exact_mut(tile.stride);
    let outs: [&mut [[f32; LANES]]; P] = std::array::from_fn(|_| outs.next().expect("every panel has outputs"));
    // SAFETY: the caller's promise.
    unsafe { one_tile(panels, tile, outs) };
}

/// One or two panels and many tiles.
///
/// # Safety
/// As for [`bf16`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn wide(panels: &[u8], words: usize, all: &[u32], out: &mut [[f32; LANES]]) {
    let (size, columns) = (4 * LANES * words, all.len() / words);
    if panels.len() == size {
        for (tile, out) in all.chunks(TILE * words).zip(out.chunks_mut(TILE)) {
            // SAFETY: the caller's promise.
            unsafe { one_tile(panels, Tile { words: tile, stride: tile.len() / words, next: Some(panels) }, [out]) };
        }
        return;
    }
    assert!(panels.len() == 2 * size && out.len() == 2 * columns && all.len() == columns * words, "shapes fit");
    let (first, second) = out.split_at_mut(columns);
    // The registers of four products are all there are: what is left behind whole units finds none.
    let in_fours = if words.is_multiple_of(tiles::WORDS) { columns / (2 * TILE) * 2 * TILE } else { 0 };
    if in_fours > 0 {
        // SAFETY: the caller's promise.
        let registers = unsafe { Tiles::new(TILE, 0) };
        let two_tiles = all[..in_fours * words].chunks_exact(2 * TILE * words);
        let outs = first.chunks_exact_mut(2 * TILE).zip(second.chunks_exact_mut(2 * TILE));
        for (x, (first, second)) in two_tiles.zip(outs) {
            let call = Four {
                x: [x.as_ptr(), x[TILE * words..].as_ptr()],
                w: [panels.as_ptr(), panels[size..].as_ptr()],
                units: words / tiles::WORDS,
                out: Four::outs(first, second),
                out_row: 4 * LANES,
            };
            // SAFETY: both tiles have `units` units of sixteen columns, each panel as many of sixteen rows, and each
            // output has two tiles of sums.
            unsafe { registers.four::<false>(call) };
        }
    }
    let rest = all[in_fours * words..].chunks(TILE * words);
    let outs = first[in_fours..].chunks_mut(TILE).zip(second[in_fours..].chunks_mut(TILE));
    for (tile, (first, second)) in rest.zip(outs) {
        // SAFETY: the caller's promise.
        unsafe {
            one_tile(panels, Tile { words: tile, stride: tile.len() / words, next: Some(panels) }, [first, second])
        };
    }
}

/// # Safety
/// As for [`bf16`].
#[target_feature(enable = "avx512f")]
unsafe fn one_tile<const P: usize>(panels: &[u8], tile: Tile<'_>, out: [&mut [[f32; LANES]]; P]) {
    let (columns, words) = (tile.stride, tile.words.len() / tile.stride);
    let size = 4 * LANES * words;
    assert!(panels.len() == P * size && tile.words.len() == columns * words, "shapes fit");
    assert!(out.iter().all(|out| out.len() == columns), "there is an output for every column");
    let (units, rest) = (words / tiles::WORDS, words % tiles::WORDS);
    // SAFETY: the caller's promise.
    let registers = unsafe { Tiles::new(columns, rest) };
    let panels: [&[u8]; P] = std::array::from_fn(|p| &panels[p * size..][..size]);
    let (w, ahead) = (panels.map(<[u8]>::as_ptr), Ahead::of(panels, tile.next));
    let out = out.map(|out| out.as_mut_ptr().cast());
    let call = Few { x: tile.words.as_ptr(), columns, w, ahead, units, rest, out };
    // SAFETY: `x` has `columns` rows of `words` words, each panel `words` rows of 64 bytes, each output `columns`.
    unsafe { registers.few(call) };
}
