//! The tile registers: their shapes, and what we do with them, in assembler since the compiler does not offer their
//! instructions yet. Registers hold nothing from one call to the next but their shapes.
//!
//! | register | holds |
//! |---|---|
//! | 0, 1 | sums, `[columns][16]` of 32 bits, of the first and the second panel |
//! | 2 | activations, `[columns][words]` |
//! | 3 | weights, `[words][16]` of 32 bits |
//! | 4, 5 | as 2 and 3, for what is left at the end of a row |

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

use crate::layout::LANES;

/// Words of a row that one product takes at most.
pub(super) const WORDS: usize = 16;

/// `arch_prctl`: asks the kernel to let this process use a feature that enlarges a thread's saved state.
const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
/// The feature: data of tile registers.
const XFEATURE_XTILEDATA: libc::c_long = 18;
/// Bits of `cpuid` leaf 7, register edx: BF16 products, tiles.
const CPUID_AMX: u32 = 1 << 22 | 1 << 24;

/// Whether the processor has tiles with BF16 products and the operating system lets this process use them.
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
        shapes.row_bytes[..4].copy_from_slice(&[64, 64, 4 * u16::from(words), 64]);
        shapes.rows[..4].copy_from_slice(&[columns, columns, columns, words]);
        if rest > 0 {
            shapes.row_bytes[4..6].copy_from_slice(&[4 * u16::from(rest), 64]);
            shapes.rows[4..6].copy_from_slice(&[columns, rest]);
        }
        // SAFETY: the operand is 64 bytes as the table above describes them, and the caller may use tiles.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
        Self(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: whoever made this may use tiles.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// What one call of [`Tiles::bf16`] reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Bf16<const P: usize> {
    /// Activations, two numbers a word: a column's first word; the next column begins `stride` bytes further.
    pub(super) x: *const u32,
    pub(super) stride: usize,
    /// The panels, `[units * 16 + rest][16]` words each.
    pub(super) w: [*const u8; P],
    /// Whole products, and words that are left behind them.
    pub(super) units: usize,
    pub(super) rest: usize,
    /// The sums `[columns][16]` of each panel.
    pub(super) out: [*mut f32; P],
}

impl Tiles {
    /// Sums over whole rows of one or two panels.
    ///
    /// # Safety
    /// The pointers are good for the shape, `units` and `rest`.
    #[inline]
    pub(super) unsafe fn bf16<const P: usize>(&self, call: Bf16<P>) {
        // With one panel the second register repeats the first, and its sums go where the first ones overwrite them.
        let (last_w, last_out) = (call.w[P - 1], call.out[P - 1]);
        // SAFETY: the caller's promise; the registers have shapes as long as `self` lives.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "test {units}, {units}",
                "jz 3f",
                "2:",
                "tileloadd tmm2, [{x} + {stride}*1]",
                "tileloadd tmm3, [{w0} + {row}*1]",
                "tdpbf16ps tmm0, tmm2, tmm3",
                "test {second}, {second}",
                "jz 6f",
                "tileloadd tmm3, [{w1} + {row}*1]",
                "tdpbf16ps tmm1, tmm2, tmm3",
                "add {w1}, 1024",
                "6:",
                "add {x}, 64",
                "add {w0}, 1024",
                "dec {units}",
                "jnz 2b",
                "3:",
                "test {rest}, {rest}",
                "jz 4f",
                "tileloadd tmm4, [{x} + {stride}*1]",
                "tileloadd tmm5, [{w0} + {row}*1]",
                "tdpbf16ps tmm0, tmm4, tmm5",
                "tileloadd tmm5, [{w1} + {row}*1]",
                "tdpbf16ps tmm1, tmm4, tmm5",
                "4:",
                "tilestored [{out1} + {row}*1], tmm1",
                "tilestored [{out0} + {row}*1], tmm0",
                x = inout(reg) call.x => _, stride = in(reg) call.stride,
                w0 = inout(reg) call.w[0] => _, w1 = inout(reg) last_w => _,
                units = inout(reg) call.units => _, rest = in(reg) call.rest, second = in(reg) P - 1,
                out0 = in(reg) call.out[0], out1 = in(reg) last_out, row = in(reg) 64_usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _,
                options(nostack),
            );
        }
    }
}
