//! Where the tokens of a prompt with pictures stand: in time, row and column.

use crate::picture::MERGE;

/// The positions of a prompt's tokens, and where its pictures lie.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placed {
    /// Time, row and column of each token; for text all three are equal.
    pub positions: Vec<[u32; 3]>,
    /// The position of the token behind the prompt; those after it follow one by one.
    pub next: u32,
    /// The first token of each frame pair of each picture, in order.
    pub starts: Vec<usize>,
}

/// Places the tokens of a prompt. `grids` are the pictures' grids in order; every frame pair is a run of placeholder
/// tokens of its own. `None` if the runs of placeholders are not those of the grids.
///
/// Text advances all three by one; a run that begins at `p` has time `p`, rows and columns counted from `p`, and the
/// text behind it goes on behind the larger of its sides.
#[must_use]
pub fn placed(tokens: &[u32], is_placeholder: impl Fn(u32) -> bool, grids: &[[usize; 3]]) -> Option<Placed> {
    let mut runs =
        grids.iter().flat_map(|&[frames, rows, columns]| std::iter::repeat_n((rows / MERGE, columns / MERGE), frames));
    let mut placed = Placed::default();
    let (mut at, mut next) = (0, 0_u32);
    while at < tokens.len() {
        if !is_placeholder(tokens[at]) {
            placed.positions.push([next; 3]);
            (at, next) = (at + 1, next + 1);
            continue;
        }
        let (rows, columns) = runs.next()?;
        let end = at + rows * columns;
        if end > tokens.len() || !tokens[at..end].iter().all(|&token| is_placeholder(token)) {
            return None;
        }
        placed.starts.push(at);
        for row in 0..rows as u32 {
            placed.positions.extend((0..columns as u32).map(|column| [next, next + row, next + column]));
        }
        (at, next) = (end, next + rows.max(columns) as u32);
    }
    placed.next = next;
    runs.next().is_none().then_some(placed)
}
