//! The tile registers: their shapes, and what we do with them, in assembler since the compiler does not offer their
//! instructions yet. Registers hold nothing from one call to the next but their shapes, and sums of int8 until they are
//! stored.
//!
//! | register | holds |
//! |---|---|
//! | 0 to 3 | sums, `[columns][16]` of 32 bits: both panels' of the first tile, then of the second |
//! | 4, 5 | activations, `[columns][words]`, of the first and the second tile |
//! | 6, 7 | weights, `[words][16]` of 32 bits, of the first and the second panel |
//!
//! Where a row ends with less than a unit, there is only one tile, and 5 and 7 hold what is left at its end. Of int8,
//! there are two blocks of 32 columns, and 0, 4 and 6 hold the first one's, 1, 5 and 7 the second one's.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

use super::super::Ahead;
use crate::layout::LANES;

/// Words of a row that one product takes at most.
pub(super) const WORDS: usize = 16;
/// Bytes of a panel that one product takes.
pub(super) const UNIT_BYTES: usize = 4 * LANES * WORDS;

/// Asks for as many bytes, `ahead` behind a panel.
macro_rules! ask {
    ($w:literal) => {
        ask!($w "0" "64" "128" "192" "256" "320" "384" "448" "512" "576" "640" "704" "768" "832" "896" "960")
    };
    ($w:literal $($at:literal)*) => {
        concat!($("prefetcht1 [{", $w, "} + {ahead}*1 + ", $at, "]\n"),*)
    };
}

/// `arch_prctl`: asks the kernel to let this process use a feature that enlarges a thread's saved state.
const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
/// The feature: data of tile registers.
const XFEATURE_XTILEDATA: libc::c_long = 18;
/// Bits of `cpuid` leaf 7, register edx: BF16 products, tiles, int8 products.
const CPUID_AMX: u32 = 1 << 22 | 1 << 24 | 1 << 25;

/// Whether the processor has tiles with BF16 and int8 products and the operating system lets this process use them.
/// The first call asks for it.
pub(crate) fn is_permitted() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        if __cpuid_count(7, 0).edx & CPUID_AMX != CPUID_AMX {
            return false;
        }
        // SAFETY: the call takes two numbers and touches no memory of ours; a kernel that does not know it says so.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
    })
}

/// The operand of `ldtilecfg`.
///
/// | offset | |
/// |---|---|
/// | 0 | palette, 1 |
/// | 1 | row to go on from after a fault, 0 |
/// | 16 | u16 \[16\]: bytes in a row of each register |
/// | 48 | u8 \[16\]: rows of each register |
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Tile registers with a shape, until it is dropped.
pub(super) struct Tiles(());

impl Tiles {
    /// Shapes the registers for `columns` columns and for rows that end with `rest` words behind whole products.
    ///
    /// # Safety
    /// [`is_permitted`] has said yes.
    pub(super) unsafe fn new(columns: usize, rest: usize) -> Self {
        assert!((1..=LANES).contains(&columns) && rest < WORDS, "a register's size");
        let (columns, words, rest) = (columns as u8, WORDS as u8, rest as u8);
        let mut shapes = Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shapes.row_bytes[..8].fill(64);
        shapes.rows[..8].copy_from_slice(&[columns, columns, columns, columns, columns, columns, words, words]);
        if rest > 0 {
            shapes.row_bytes[5] = 4 * u16::from(rest);
            shapes.rows[7] = rest;
        }
        // SAFETY: the caller's promise.
        unsafe { Self::shaped(&shapes) }
    }

    /// Shapes the registers for `columns` columns of int8.
    ///
    /// # Safety
    /// [`is_permitted`] has said yes.
    pub(super) unsafe fn int8(columns: usize) -> Self {
        assert!((1..=LANES).contains(&columns), "a register's size");
        let columns = columns as u8;
        let mut shapes = Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shapes.row_bytes[..8].copy_from_slice(&[64, 64, 64, 64, 32, 32, 64, 64]);
        shapes.rows[..8].copy_from_slice(&[columns, columns, columns, columns, columns, columns, 8, 8]);
        // SAFETY: the caller's promise.
        unsafe { Self::shaped(&shapes) }
    }

    /// # Safety
    /// [`is_permitted`] has said yes.
    unsafe fn shaped(shapes: &Shapes) -> Self {
        // SAFETY: the operand is 64 bytes as the table above describes them, and the caller may use tiles.
        unsafe { asm!("ldtilecfg [{}]", in(reg) std::ptr::from_ref(shapes), options(nostack, readonly)) };
        Self(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: whoever made this may use tiles.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// What one call of [`Tiles::four`] reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Four {
    /// Two tiles, `[units][16 columns][16 words]`.
    pub(super) x: [*const u32; 2],
    /// Two panels, `[units * 16][16]` words.
    pub(super) w: [*const u8; 2],
    pub(super) units: usize,
    /// The sums `[16 columns][16]` of both panels and the first tile, then of both and the second.
    pub(super) out: [*mut f32; 4],
    /// Bytes from the sums of a column to those of the next.
    pub(super) out_row: usize,
}

impl Four {
    /// Where sums belong that stand one behind the other for all columns of each panel.
    pub(super) fn outs(first: &mut [[f32; LANES]], second: &mut [[f32; LANES]]) -> [*mut f32; 4] {
        let [first, second] = [first, second].map(|out| out.as_flattened_mut().split_at_mut(LANES * LANES));
        [first.0, second.0, first.1, second.1].map(<[f32]>::as_mut_ptr)
    }
}

/// What one call of [`Tiles::two`] reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Two {
    /// A tile, `[units][columns][16 words]`.
    pub(super) x: *const u32,
    pub(super) columns: usize,
    /// Two panels, which may be the same, `[units * 16][16]` words.
    pub(super) w: [*const u8; 2],
    /// How far behind them that lies what is asked for meanwhile; it wraps.
    pub(super) distance: usize,
    pub(super) units: usize,
    /// The sums `[columns][16]` of each panel.
    pub(super) out: [*mut f32; 2],
    /// Bytes from the sums of a column to those of the next.
    pub(super) out_row: usize,
}

/// What one call of [`Tiles::few`] reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Few<const P: usize> {
    /// Activations `[units][columns][16]`, two numbers a word, and `[columns][rest]`.
    pub(super) x: *const u32,
    pub(super) columns: usize,
    /// The panels, `[units * 16 + rest][16]` words each.
    pub(super) w: [*const u8; P],
    /// What is asked for meanwhile.
    pub(super) ahead: Ahead<P>,
    /// Whole products, and words that are left behind them.
    pub(super) units: usize,
    pub(super) rest: usize,
    /// The sums `[columns][16]` of each panel.
    pub(super) out: [*mut f32; P],
}

/// What one call of [`Tiles::block`] reads.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Where the sums of a column begin, `[16]`.
    pub(super) start: *const i32,
    /// Activations, `[columns][32]`, signed.
    pub(super) x: *const u32,
    /// A panel's, `[8][16][4]`, signed.
    pub(super) w: *const u8,
}

impl Tiles {
    /// Makes the sums of a block of int8, of the second one of two or the first.
    ///
    /// # Safety
    /// The pointers are good for their shapes, and the registers were shaped for int8.
    #[inline]
    pub(super) unsafe fn block<const SECOND: bool>(&self, call: Block) {
        macro_rules! body {
            ($sums:tt $x:tt $w:tt) => {
                // SAFETY: the caller's promise; the registers have shapes as long as `self` lives.
                unsafe { asm!(
                    concat!("tileloadd ", $sums, ", [{start} + {no_row}*1]"),
                    concat!("tileloadd ", $x, ", [{x} + {x_row}*1]"),
                    concat!("tileloadd ", $w, ", [{w} + {row}*1]"),
                    concat!("tdpbssd ", $sums, ", ", $x, ", ", $w),
                    start = in(reg) call.start, x = in(reg) call.x, w = in(reg) call.w,
                    no_row = in(reg) 0_usize, x_row = in(reg) 32_usize, row = in(reg) 64_usize,
                    out($sums) _, out($x) _, out($w) _,
                    options(nostack, readonly),
                ) }
            };
        }
        if SECOND { body!("tmm1" "tmm5" "tmm7") } else { body!("tmm0" "tmm4" "tmm6") }
    }

    /// Stores the sums `[columns][16]` of a block, which [`Self::block`] made.
    ///
    /// # Safety
    /// There is room for the sums of all columns, and the registers were shaped for int8.
    #[inline]
    pub(super) unsafe fn store<const SECOND: bool>(&self, out: *mut i32) {
        macro_rules! body {
            ($sums:literal) => {
                // SAFETY: the caller's promise; the registers have shapes as long as `self` lives.
                unsafe { asm!(
                    concat!("tilestored [{out} + {row}*1], ", $sums),
                    out = in(reg) out, row = in(reg) 64_usize,
                    options(nostack),
                ) }
            };
        }
        if SECOND { body!("tmm1") } else { body!("tmm0") }
    }

    /// Sums over whole rows of two panels and two tiles; `ADDS` to what is there.
    ///
    /// # Safety
    /// The pointers are good for their shapes, and the registers were shaped for sixteen columns and nothing left.
    #[inline]
    pub(super) unsafe fn four<const ADDS: bool>(&self, call: Four) {
        macro_rules! body {
            ($($begin:literal)*) => {
                // SAFETY: the caller's promise; the registers have shapes as long as `self` lives.
                unsafe { asm!(
                    $($begin,)*
                    "2:",
                    "tileloadd tmm4, [{x0} + {row}*1]",
                    "tileloadd tmm6, [{w0} + {row}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{w1} + {row}*1]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{x1} + {row}*1]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {x0}, 1024",
                    "add {x1}, 1024",
                    "add {w0}, 1024",
                    "add {w1}, 1024",
                    "dec {units}",
                    "jnz 2b",
                    "tilestored [{out0} + {out_row}*1], tmm0",
                    "tilestored [{out1} + {out_row}*1], tmm1",
                    "tilestored [{out2} + {out_row}*1], tmm2",
                    "tilestored [{out3} + {out_row}*1], tmm3",
                    x0 = inout(reg) call.x[0] => _, x1 = inout(reg) call.x[1] => _,
                    w0 = inout(reg) call.w[0] => _, w1 = inout(reg) call.w[1] => _,
                    units = inout(reg) call.units => _,
                    out0 = in(reg) call.out[0], out1 = in(reg) call.out[1],
                    out2 = in(reg) call.out[2], out3 = in(reg) call.out[3],
                    row = in(reg) 64_usize, out_row = in(reg) call.out_row,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _,
                    out("tmm6") _, out("tmm7") _,
                    options(nostack),
                ) }
            };
        }
        if ADDS {
            body!(
                "tileloadd tmm0, [{out0} + {out_row}*1]"
                "tileloadd tmm1, [{out1} + {out_row}*1]"
                "tileloadd tmm2, [{out2} + {out_row}*1]"
                "tileloadd tmm3, [{out3} + {out_row}*1]"
            );
        } else {
            body!("tilezero tmm0" "tilezero tmm1" "tilezero tmm2" "tilezero tmm3");
        }
    }

    /// Sums over whole rows of two panels and one tile; `ADDS` to what is there. Of a panel that stands for both, the
    /// first sums are right.
    ///
    /// # Safety
    /// The pointers are good for their shapes, and the registers were shaped for the columns and nothing left.
    #[inline]
    pub(super) unsafe fn two<const ADDS: bool>(&self, call: Two) {
        macro_rules! body {
            ($($begin:literal)*) => {
                // SAFETY: the caller's promise; the registers have shapes as long as `self` lives.
                unsafe { asm!(
                    $($begin,)*
                    "2:",
                    "tileloadd tmm4, [{x} + {row}*1]",
                    "tileloadd tmm6, [{w0} + {row}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    ask!("w0"),
                    "tileloadd tmm7, [{w1} + {row}*1]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    ask!("w1"),
                    "add {x}, {unit}",
                    "add {w0}, 1024",
                    "add {w1}, 1024",
                    "dec {units}",
                    "jnz 2b",
                    "tilestored [{out1} + {out_row}*1], tmm1",
                    "tilestored [{out0} + {out_row}*1], tmm0",
                    x = inout(reg) call.x => _, unit = in(reg) 64 * call.columns,
                    w0 = inout(reg) call.w[0] => _, w1 = inout(reg) call.w[1] => _,
                    ahead = in(reg) call.distance, units = inout(reg) call.units => _,
                    out0 = in(reg) call.out[0], out1 = in(reg) call.out[1],
                    row = in(reg) 64_usize, out_row = in(reg) call.out_row,
                    out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                ) }
            };
        }
        if ADDS {
            body!("tileloadd tmm0, [{out0} + {out_row}*1]" "tileloadd tmm1, [{out1} + {out_row}*1]");
        } else {
            body!("tilezero tmm0" "tilezero tmm1");
        }
    }

    /// Sums over whole rows of one or two panels and one tile, which may have fewer columns and something left at the
    /// end of a row.
    ///
    /// # Safety
    /// The pointers are good for the shape, `units` and `rest`.
    #[inline]
    pub(super) unsafe fn few<const P: usize>(&self, call: Few<P>) {
        // With one panel the second register repeats the first, and its sums go where the first ones overwrite them.
        let (last_w, last_out) = (call.w[P - 1], call.out[P - 1]);
        let turn = call.units.saturating_sub(call.ahead.end / UNIT_BYTES);
        // SAFETY: the caller's promise; the registers have shapes as long as `self` lives.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "test {units}, {units}",
                "jz 3f",
                "2:",
                "cmp {units}, {turn}",
                "jne 5f",
                "add {ahead}, {skip}",
                "5:",
                "tileloadd tmm4, [{x} + {row}*1]",
                "tileloadd tmm6, [{w0} + {row}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                ask!("w0"),
                "cmp {out0}, {out1}",
                "je 6f",
                "tileloadd tmm6, [{w1} + {row}*1]",
                "tdpbf16ps tmm1, tmm4, tmm6",
                ask!("w1"),
                "add {w1}, 1024",
                "add {w0}, 1024",
                "add {x}, {unit}",
                "dec {units}",
                "jnz 2b",
                "jmp 3f",
                "6:",
                "add {w1}, 1024",
                "add {w0}, 1024",
                "add {x}, {unit}",
                "dec {units}",
                "jnz 2b",
                "3:",
                "test {rest}, {rest}",
                "jz 4f",
                "shl {rest}, 2",
                "tileloadd tmm5, [{x} + {rest}*1]",
                "tileloadd tmm7, [{w0} + {row}*1]",
                "tdpbf16ps tmm0, tmm5, tmm7",
                "tileloadd tmm7, [{w1} + {row}*1]",
                "tdpbf16ps tmm1, tmm5, tmm7",
                "4:",
                "tilestored [{out1} + {row}*1], tmm1",
                "tilestored [{out0} + {row}*1], tmm0",
                x = inout(reg) call.x => _, unit = in(reg) 64 * call.columns,
                w0 = inout(reg) call.w[0] => _, w1 = inout(reg) last_w => _,
                ahead = inout(reg) call.ahead.distance => _, turn = in(reg) turn, skip = in(reg) call.ahead.skip,
                units = inout(reg) call.units => _, rest = inout(reg) call.rest => _,
                out0 = in(reg) call.out[0], out1 = in(reg) last_out, row = in(reg) 64_usize,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}
