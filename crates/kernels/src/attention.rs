//! Causal attention over a cache of blocks: two products with a softmax between them, never the whole score matrix.
//!
//! Up to sixteen queries that share a key/value head (the heads of a group, and neighbouring rows) are one tile; where
//! there is a kernel for it ([`Causal`]), a prompt's are up to 32. A block of 64 keys is one step: scores,
//! online softmax, weights times values. Eight blocks are a chunk, gathered on its own and then merged into the
//! total, in order; chunks begin at fixed positions. So a row's result does not depend on who computes which chunk:
//! several threads may share one long sequence, and a prompt may be cut anywhere.

use std::ops::Range;

use crate::activations::{I16_WORDS, Kind, TILE, Tile};
use crate::kv::{KV_BLOCK_TOKENS, KvCache, KvFormat, Panels, Span};
use crate::layout::{BLOCK, LANES, Q8_PAIR};
use crate::parts::Parts;
use crate::scalar::Weights;
use crate::table::Causal;
use crate::{Cpu, Scratch};

/// Keys that are gathered before they are merged into the total.
const CHUNK: usize = 8 * KV_BLOCK_TOKENS;

/// The most queries that a [`Causal`] takes.
pub(crate) const QUERIES: usize = 2 * TILE;

/// What a [`Causal`] reads and writes: some columns and a block of keys and values.
pub(crate) struct Block<'a> {
    /// A packed tile of all columns, or, if they are more than one has, two full ones, where what lies behind `columns`
    /// is of no importance.
    pub(crate) queries: &'a [u32],
    pub(crate) columns: usize,
    /// Panels of keys, from panel `first_panel` of the block on.
    pub(crate) keys: Panels<'a>,
    pub(crate) first_panel: usize,
    /// Of each column a bit for every key of the block that it sees.
    pub(crate) seen: [u64; QUERIES],
    /// Panels of values, of which `steps` times 32 tokens matter.
    pub(crate) values: Panels<'a>,
    pub(crate) steps: usize,
    /// The scales of all tokens' values, of int8 only.
    pub(crate) scales: &'a [[u8; 4]],
    /// The keys, from the same panel on, and the values that are read next, if these are read but once.
    pub(crate) next: Option<(&'a [u8], &'a [u8])>,
    /// Of each column the largest score so far and the sum of weights.
    pub(crate) largest: &'a mut [f32],
    pub(crate) total: &'a mut [f32],
    /// What was gathered, `[columns, padded]`.
    pub(crate) gathered: &'a mut [f32],
    pub(crate) padded: usize,
    /// Working memory: `[panels][columns]` scores, and packed weights.
    pub(crate) scores: &'a mut [[f32; LANES]],
    pub(crate) weights: &'a mut [u32],
}

impl Block<'_> {
    /// # Panics
    /// If the shapes are not those of one block of keys and values in BF16 and of queries in f32.
    #[inline]
    pub(crate) fn assert_is_f32_on_bf16(&self) {
        let (keys, values, columns, word_bytes) = (self.keys, self.values, self.columns, 4 * LANES);
        let panels = KV_BLOCK_TOKENS / LANES;
        assert!((1..=TILE).contains(&columns) && self.first_panel + keys.count <= panels, "keys of one block");
        assert_eq!(self.queries.len() * word_bytes, 2 * columns * keys.size, "a key has the numbers of a query");
        assert!(values.size == 2 * LANES * KV_BLOCK_TOKENS && self.steps * BLOCK <= KV_BLOCK_TOKENS, "one block");
        assert!(self.scores.len() >= panels * columns, "every panel has scores");
        assert!(self.weights.len() >= columns * KV_BLOCK_TOKENS, "every column has weights");
        assert!(self.gathered.len() >= columns * self.padded && self.padded >= values.count * LANES, "shapes fit");
    }

    /// Fails unless this is at most a tile of queries in sixteen bits past one block of keys and values in int8, with
    /// weights of sixteen bits, two of them a word: what kernels read and write without a look.
    pub(crate) fn assert_is_i16_on_int8(&self) {
        let (keys, values, columns, panels) = (self.keys, self.values, self.columns, KV_BLOCK_TOKENS / LANES);
        assert!((1..=TILE).contains(&columns) && self.first_panel + keys.count <= panels, "keys of one block");
        assert!(values.size == Q8_PAIR && self.scales.len() == KV_BLOCK_TOKENS, "values of one block");
        assert!(self.queries.len().is_multiple_of(columns * I16_WORDS), "whole blocks of all columns");
        assert!(self.queries.len() <= columns * I16_WORDS * (keys.size / Q8_PAIR) * 2, "a key has a query's blocks");
        assert!(self.scores.len() >= panels * columns, "every panel has scores");
        assert!(self.weights.len() >= columns * KV_BLOCK_TOKENS / 2, "every column has weights");
        assert!(self.gathered.len() >= columns * self.padded && self.padded >= values.count * LANES, "shapes fit");
    }

    /// What everything before is multiplied by where `highest` is the largest score of a column with this block. Most
    /// blocks hold no larger score than those before, and the first of all is compared with none.
    #[inline]
    pub(crate) fn factor(&self, column: usize, highest: f32) -> f32 {
        match self.largest[column] {
            largest if largest >= highest => 1.0,
            f32::NEG_INFINITY => 0.0,
            largest => (largest - highest).exp(),
        }
    }
}

/// What stays the same for all layers of a model.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; query head `h` uses key/value head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub head_dim: usize,
    /// What scores are multiplied with, as a rule `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// How many keys a query sees, its own included; `None` for all before it.
    pub window: Option<usize>,
}

/// Attention of the rows of a step over their own sequences, whose keys and values [`crate::kv_write`] has written.
///
/// Shapes: `q` and `out` `[n, heads, head_dim]`. A row at position `p` sees the keys `j <= p`, with a window only those
/// with `p - window < j`. Rows that belong to no span are left as they are.
///
/// Error: all in f32 with an F32 cache. With a BF16 cache queries and softmax weights are rounded to BF16 where the
/// processor multiplies them. With an Int8 cache both are rounded to sixteen bits on AVX-512 and to eight elsewhere,
/// with a scale for 32 numbers of a query and 64 or 32 weights.
///
/// # Panics
/// If the lengths do not fit, a span has too few blocks, or a block is not one of the cache's.
pub fn attention(
    cpu: &Cpu,
    cache: &KvCache,
    shape: &AttentionShape,
    q: &[f32],
    spans: &[Span<'_>],
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let d = shape.heads * shape.head_dim;
    assert!(d > 0 && q.len().is_multiple_of(d), "q is [n, {}, {}]", shape.heads, shape.head_dim);
    assert_eq!(q.len(), out.len(), "the output is as long as q");
    assert!(shape.heads.is_multiple_of(shape.kv_heads), "every key/value head serves as many query heads");
    assert_eq!((shape.kv_heads, shape.head_dim), (cache.kv_heads, cache.head_dim), "the cache has the model's shape");
    for span in spans {
        span.assert_fits(q.len() / d, cache);
    }
    let call = Call::new(cpu, cache, shape, q, spans);
    let tiles: usize = spans.iter().map(|span| call.tiles(span)).sum();
    let chunks = spans.iter().map(|span| span.end().div_ceil(CHUNK)).max().unwrap_or(0);
    let out = Parts::new(out);
    // With few tiles, threads would be idle: then they share the chunks of each tile.
    let is_shared = chunks > 1 && cpu.threads() > 1 && tiles < 2 * cpu.threads();
    let partials = if is_shared { tiles * chunks * call.state_len() } else { 0 };
    let needed = partials + cpu.threads() * call.workspace_len();
    scratch.floats.resize(needed);
    let (partials, workspaces) = scratch.floats[..needed].split_at_mut(partials);
    let workspaces = Parts::new(workspaces);
    let workspace = |thread: usize| {
        let size = call.workspace_len();
        // SAFETY: every thread has its own workspace.
        call.workspace(unsafe { workspaces.part(thread * size..(thread + 1) * size) })
    };
    if is_shared {
        let size = call.state_len();
        let states = Parts::new(partials);
        cpu.pool.for_each(tiles * chunks, &|thread, index| {
            let (tile, chunk) = (call.tile(index / chunks), index % chunks);
            // SAFETY: every index has its own state.
            let state = unsafe { states.part(index * size..(index + 1) * size) };
            let following = (index + 1 < tiles * chunks).then(|| call.tile((index + 1) / chunks));
            let mut workspace = workspace(thread);
            call.pack_queries(&tile, &mut workspace);
            call.gather(&tile, chunk, following.as_ref(), &mut workspace, state);
        });
        cpu.pool.for_each(tiles, &|thread, index| {
            let (tile, workspace) = (call.tile(index), workspace(thread));
            call.clear(&tile, workspace.total);
            for chunk in 0..chunks {
                let at = (index * chunks + chunk) * size;
                // SAFETY: the first region has ended, and a tile's states are read by one thread.
                let state = unsafe { states.part(at..at + size) };
                call.merge(&tile, state, workspace.total);
            }
            call.finish(&tile, workspace.total, &out);
        });
    } else {
        // The last tiles see the most keys; they go first, so that no thread ends with a long one.
        cpu.pool.for_each(tiles, &|thread, index| {
            let (tile, mut workspace) = (call.tile(tiles - 1 - index), workspace(thread));
            let following = (index + 1 < tiles).then(|| call.tile(tiles - 2 - index));
            call.whole(&tile, following.as_ref(), &mut workspace);
            call.finish(&tile, workspace.total, &out);
        });
    }
}

/// Queries that share a key/value head.
struct QueryTile<'a> {
    span: &'a Span<'a>,
    /// First row within the span, and number of rows.
    row: usize,
    rows: usize,
    /// First query head and number of heads.
    head: usize,
    heads: usize,
}

impl QueryTile<'_> {
    fn columns(&self) -> usize {
        self.rows * self.heads
    }

    fn position(&self, column: usize) -> usize {
        self.span.first_position + self.row + column / self.heads
    }

    /// The keys of block `index` that some column sees, counted within the block; at least one.
    fn seen(&self, index: usize, window: Option<usize>) -> Range<usize> {
        self.seen_by(0, index, window).start..self.seen_by(self.columns() - 1, index, window).end
    }

    /// The keys of block `index` that a column sees, counted within the block.
    fn seen_by(&self, column: usize, index: usize, window: Option<usize>) -> Range<usize> {
        let end = self.position(column) + 1;
        let begin = window.map_or(0, |window| end.saturating_sub(window));
        let within = |position: usize| position.saturating_sub(index * KV_BLOCK_TOKENS).min(KV_BLOCK_TOKENS);
        within(begin)..within(end)
    }

    /// Where column `c` begins in `q` and in the output.
    fn at(&self, column: usize, shape: &AttentionShape) -> usize {
        let row = self.span.first_row + self.row + column / self.heads;
        (row * shape.heads + self.head + column % self.heads) * shape.head_dim
    }
}

/// One thread's working memory.
struct Workspace<'a> {
    /// The queries `[columns, head_dim]`, scaled.
    queries: &'a mut [f32],
    query_words: &'a mut [u32],
    /// `[columns, 64]`: scores, then softmax weights.
    scores: &'a mut [f32],
    weight_words: &'a mut [u32],
    /// A chunk's state, and the total.
    part: &'a mut [f32],
    total: &'a mut [f32],
}

/// A call of [`attention`], with what follows from its arguments.
#[derive(Clone, Copy)]
struct Call<'a> {
    cpu: &'a Cpu,
    cache: &'a KvCache,
    shape: &'a AttentionShape,
    q: &'a [f32],
    spans: &'a [Span<'a>],
    kind: Kind,
    /// Query heads of a tile, tiles of a group of heads, rows of a tile, and of a tile of a prompt.
    tile_heads: usize,
    tiles_of_group: usize,
    tile_rows: usize,
    prompt_rows: usize,
    /// The kernel for all of a block at once, and how many columns a tile has room for.
    causal: Option<Causal>,
    columns: usize,
    /// Numbers of a head, rounded up to whole panels.
    padded: usize,
}

impl<'a> Call<'a> {
    fn new(cpu: &'a Cpu, cache: &'a KvCache, shape: &'a AttentionShape, q: &'a [f32], spans: &'a [Span<'a>]) -> Self {
        let group = shape.heads / shape.kv_heads;
        let tile_heads = group.min(TILE);
        let causal = (cpu.table.causal)(cache.format, shape.head_dim);
        let plain = match cache.format {
            KvFormat::F32 => Kind::F32,
            KvFormat::Bf16 => cpu.table.bf16_kind,
            KvFormat::Int8 => Kind::I8,
        };
        let (kind, most) = causal.map_or((plain, TILE), |causal| (causal.kind, causal.columns));
        let padded = shape.head_dim.next_multiple_of(LANES);
        let (tile_rows, tiles_of_group) = (TILE / tile_heads, group.div_ceil(TILE));
        let has_prompt = spans.iter().any(|span| span.rows > tile_rows);
        let (columns, prompt_rows) = (if has_prompt { most } else { TILE }, most / TILE * tile_rows);
        Self {
            cpu,
            cache,
            shape,
            q,
            spans,
            kind,
            tile_heads,
            tiles_of_group,
            tile_rows,
            prompt_rows,
            causal,
            columns,
            padded,
        }
    }

    /// Rows of a tile of this span.
    fn rows(&self, span: &Span<'_>) -> usize {
        if span.rows > self.tile_rows { self.prompt_rows } else { self.tile_rows }
    }

    fn tiles(&self, span: &Span<'_>) -> usize {
        span.rows.div_ceil(self.rows(span)) * self.shape.kv_heads * self.tiles_of_group
    }

    /// Tile `index` of all spans; within a span the rows are the outer loop.
    fn tile(&self, mut index: usize) -> QueryTile<'a> {
        for span in self.spans {
            if index >= self.tiles(span) {
                index -= self.tiles(span);
                continue;
            }
            let tiles_of_row = self.shape.kv_heads * self.tiles_of_group;
            let (row, part) = (index / tiles_of_row * self.rows(span), index % tiles_of_row);
            let group = self.shape.heads / self.shape.kv_heads;
            let within = part % self.tiles_of_group * self.tile_heads;
            return QueryTile {
                span,
                row,
                rows: self.rows(span).min(span.rows - row),
                head: part / self.tiles_of_group * group + within,
                heads: self.tile_heads.min(group - within),
            };
        }
        unreachable!("indexes stay below the number of tiles");
    }

    /// A state is the largest score and the sum of weights of each column, then the gathered values
    /// `[columns, padded]`.
    fn state_len(&self) -> usize {
        self.columns * (2 + self.padded)
    }

    fn workspace_len(&self) -> usize {
        let words = self.kind.words(self.shape.head_dim) + self.kind.words(KV_BLOCK_TOKENS);
        self.columns * (self.shape.head_dim + KV_BLOCK_TOKENS + words) + 2 * self.state_len()
    }

    fn workspace<'w>(&self, floats: &'w mut [f32]) -> Workspace<'w> {
        let (queries, rest) = floats.split_at_mut(self.columns * self.shape.head_dim);
        let (scores, rest) = rest.split_at_mut(self.columns * KV_BLOCK_TOKENS);
        let (query_words, rest) = rest.split_at_mut(self.columns * self.kind.words(self.shape.head_dim));
        let (weight_words, rest) = rest.split_at_mut(self.columns * self.kind.words(KV_BLOCK_TOKENS));
        let (part, total) = rest.split_at_mut(self.state_len());
        Workspace {
            queries,
            query_words: as_words(query_words),
            scores,
            weight_words: as_words(weight_words),
            part,
            total,
        }
    }

    /// Nothing seen, for the columns of a tile.
    fn clear(&self, tile: &QueryTile<'_>, state: &mut [f32]) {
        state[..self.columns].fill(f32::NEG_INFINITY);
        state[self.columns..2 * self.columns + tile.columns() * self.padded].fill(0.0);
    }

    /// All chunks of a tile, gathered in `workspace.total`; `following` is computed next.
    fn whole(&self, tile: &QueryTile<'_>, following: Option<&QueryTile<'_>>, workspace: &mut Workspace<'_>) {
        let last = tile.position(tile.columns() - 1);
        self.pack_queries(tile, workspace);
        let (first, last) = (self.first_key(tile) / CHUNK, last / CHUNK);
        // What comes first needs no merging: merged with nothing it would be the same.
        let total = std::mem::take(&mut workspace.total);
        self.gather(tile, first, following, workspace, total);
        for chunk in first + 1..=last {
            let part = std::mem::take(&mut workspace.part);
            self.gather(tile, chunk, following, workspace, part);
            self.merge(tile, part, total);
            workspace.part = part;
        }
        workspace.total = total;
    }

    /// The first key that any column of the tile sees.
    fn first_key(&self, tile: &QueryTile<'_>) -> usize {
        self.shape.window.map_or(0, |window| (tile.position(0) + 1).saturating_sub(window))
    }

    fn pack_queries(&self, tile: &QueryTile<'_>, workspace: &mut Workspace<'_>) {
        let (columns, d) = (tile.columns(), self.shape.head_dim);
        for (column, out) in workspace.queries.chunks_exact_mut(d).take(columns).enumerate() {
            let q = &self.q[tile.at(column, self.shape)..][..d];
            out.iter_mut().zip(q).for_each(|(out, q)| *out = q * self.shape.scale);
        }
        let (words, pack) = (self.kind.words(d), self.cpu.table.pack(self.kind));
        let queries = workspace.queries[..packed_columns(columns) * d].chunks(TILE * d);
        for (queries, out) in queries.zip(workspace.query_words.chunks_mut(TILE * words)) {
            let count = queries.len() / d;
            pack(queries, d, &ROWS[..count], &mut out[..count * words]);
        }
    }

    /// One chunk of a tile, whose queries are packed, gathered in `state`; `following` is computed after the tile.
    fn gather(
        &self,
        tile: &QueryTile<'_>,
        chunk: usize,
        following: Option<&QueryTile<'_>>,
        workspace: &mut Workspace<'_>,
        state: &mut [f32],
    ) {
        self.clear(tile, state);
        let first = self.first_key(tile).max(chunk * CHUNK) / KV_BLOCK_TOKENS;
        let end = (tile.position(tile.columns() - 1) + 1).min((chunk + 1) * CHUNK).div_ceil(KV_BLOCK_TOKENS);
        let last = tile.position(tile.columns() - 1) / KV_BLOCK_TOKENS;
        for index in first..end {
            let next = match following {
                _ if index < last => (tile.span.blocks[index + 1], self.kv_head(tile)),
                Some(tile) => (tile.span.blocks[self.first_key(tile) / KV_BLOCK_TOKENS], self.kv_head(tile)),
                None => (tile.span.blocks[index], self.kv_head(tile)),
            };
            match self.causal {
                Some(causal) => self.whole_block(causal.block, tile, index, next, workspace, state),
                None => self.block(tile, index, next, workspace, state),
            }
        }
    }

    /// The key/value head of a tile.
    fn kv_head(&self, tile: &QueryTile<'_>) -> usize {
        tile.head / (self.shape.heads / self.shape.kv_heads)
    }

    /// One block of 64 keys at once. `next` is the block and the head whose keys and values are read after these.
    fn whole_block(
        &self,
        block: fn(Block<'_>),
        tile: &QueryTile<'_>,
        index: usize,
        (next, next_head): (u32, usize),
        workspace: &mut Workspace<'_>,
        state: &mut [f32],
    ) {
        let (columns, id, kv_head) = (tile.columns(), tile.span.blocks[index], self.kv_head(tile));
        let of_tile = tile.seen(index, self.shape.window);
        let panels = of_tile.start / LANES..of_tile.end.div_ceil(LANES);
        let mut seen = [0; QUERIES];
        for (column, seen) in seen.iter_mut().enumerate().take(columns) {
            let Range { start, end } = tile.seen_by(column, index, self.shape.window);
            *seen = (u64::MAX >> (KV_BLOCK_TOKENS - end.max(1))) & (u64::MAX << start.min(KV_BLOCK_TOKENS - 1));
            if start >= end {
                *seen = 0;
            }
        }
        let (limits, gathered) = state.split_at_mut(2 * self.columns);
        let (largest, total) = limits.split_at_mut(self.columns);
        let steps = of_tile.end.div_ceil(BLOCK);
        let is_int8 = self.cache.format == KvFormat::Int8;
        let packed = packed_columns(columns) * self.kind.words(self.shape.head_dim);
        block(Block {
            queries: &workspace.query_words[..packed],
            columns,
            keys: self.cache.key_panels(id, kv_head, panels.clone()),
            first_panel: panels.start,
            seen,
            values: self.cache.value_panels(id, kv_head, steps * BLOCK),
            steps,
            scales: if is_int8 { self.cache.value_scales(id, kv_head) } else { &[] },
            // What several tiles read lies in a cache already.
            next: (tile.rows == tile.span.rows).then(|| self.cache.panels_from(next, next_head, panels.start)),
            largest,
            total,
            gathered,
            padded: self.padded,
            scores: workspace.scores.as_chunks_mut().0,
            weights: workspace.weight_words,
        });
    }

    /// One block of 64 keys: scores, softmax, values. What no query sees is not read: panels of keys, and the half of
    /// the values behind the last one. Its weights are zero, so this changes no sum. `next` as for
    /// [`Self::whole_block`].
    fn block(
        &self,
        tile: &QueryTile<'_>,
        index: usize,
        (next, next_head): (u32, usize),
        workspace: &mut Workspace<'_>,
        state: &mut [f32],
    ) {
        let (columns, block, kv_head) = (tile.columns(), tile.span.blocks[index], self.kv_head(tile));
        let seen = tile.seen(index, self.shape.window);
        let keys = seen.end.next_multiple_of(BLOCK);
        let seen = seen.start / LANES..seen.end.div_ceil(LANES);
        let words = &workspace.query_words[..columns * self.kind.words(self.shape.head_dim)];
        let scores = &mut workspace.scores;
        let panels = self.cache.key_panels(block, kv_head, seen.clone());
        let (next_keys, next_values) = self.cache.panels_from(next, next_head, seen.start);
        self.panels(panels, Tile { words, stride: columns, next: Some(next_keys) }, |panel, out| {
            for (scores, out) in scores.chunks_exact_mut(keys).zip(out) {
                scores[(seen.start + panel) * LANES..][..LANES].copy_from_slice(out);
            }
        });
        self.hide(tile, index, keys, workspace.scores);
        let mut factors = [0.0; TILE];
        let (limits, gathered) = state.split_at_mut(2 * self.columns);
        let (largest, sums) = limits.split_at_mut(self.columns);
        let rounding = if self.kind == Kind::Bf16 { Weights::Bf16 } else { Weights::Plain };
        for (column, scores) in workspace.scores.chunks_exact_mut(keys).take(columns).enumerate() {
            let softmax = self.cpu.table.softmax_block;
            factors[column] = softmax(scores, &mut largest[column], &mut sums[column], rounding);
            if self.cache.format == KvFormat::Int8 {
                let scales = self.cache.value_scales(block, kv_head);
                scores.iter_mut().zip(scales).for_each(|(score, scale)| *score *= f32::from_le_bytes(*scale));
            }
        }
        let words = &mut workspace.weight_words[..columns * self.kind.words(keys)];
        let scores = &workspace.scores[..columns * keys];
        self.cpu.table.pack(self.kind)(scores, keys, &ROWS[..columns], words);
        let tile = Tile { words, stride: columns, next: Some(next_values) };
        self.panels(self.cache.value_panels(block, kv_head, keys), tile, |panel, out| {
            for ((gathered, out), factor) in gathered.chunks_exact_mut(self.padded).zip(out).zip(factors) {
                let gathered: &mut [f32; LANES] =
                    gathered[panel * LANES..].first_chunk_mut().expect("a head is padded to whole panels");
                // All at once: then they are computed several at a time.
                *gathered = std::array::from_fn(|i| gathered[i] * factor + out[i]);
            }
        });
    }

    /// The products of neighbouring panels and a tile; `each` gets a panel's index and outputs `[columns]`.
    fn panels(&self, panels: Panels<'_>, tile: Tile<'_>, mut each: impl FnMut(usize, &[[f32; LANES]])) {
        let (layout, columns) = (self.cache.format.layout(), tile.stride);
        let kernel = self.cpu.table.tile(layout, self.kind);
        // A pair of panels is read as one piece.
        let pair = (self.cpu.table.pair)(layout, self.kind).filter(|_| panels.used == panels.size);
        let mut out = [[0.0; LANES]; 2 * TILE];
        let mut done = 0;
        while done < panels.count {
            let count = if pair.is_some() { 2.min(panels.count - done) } else { 1 };
            let bytes = &panels.bytes[done * panels.size..][..(count - 1) * panels.size + panels.used];
            let tile = Tile { next: tile.next.map(|next| &next[done * panels.size..]), ..tile };
            pair.filter(|_| count == 2).unwrap_or(kernel)(bytes, tile, &mut out[..count * columns]);
            for (panel, out) in out.chunks_exact(columns).take(count).enumerate() {
                each(done + panel, out);
            }
            done += count;
        }
    }

    /// Sets the scores of keys that a query does not see to minus infinity; `scores` is `[columns, keys]`.
    fn hide(&self, tile: &QueryTile<'_>, index: usize, keys: usize, scores: &mut [f32]) {
        for (column, scores) in scores.chunks_exact_mut(keys).take(tile.columns()).enumerate() {
            let Range { start, end } = tile.seen_by(column, index, self.shape.window);
            if end - start < keys {
                scores[end.min(keys)..].fill(f32::NEG_INFINITY);
                scores[..start.min(keys)].fill(f32::NEG_INFINITY);
            }
        }
    }

    /// Adds what a chunk gathered to the total.
    fn merge(&self, tile: &QueryTile<'_>, part: &[f32], total: &mut [f32]) {
        for column in 0..tile.columns() {
            let highest = total[column].max(part[column]);
            if highest == f32::NEG_INFINITY {
                continue;
            }
            let (old, new) = ((total[column] - highest).exp(), (part[column] - highest).exp());
            total[column] = highest;
            let sum = self.columns + column;
            total[sum] = total[sum] * old + part[sum] * new;
            let at = 2 * self.columns + column * self.padded;
            for (total, part) in total[at..at + self.padded].iter_mut().zip(&part[at..]) {
                *total = *total * old + part * new;
            }
        }
    }

    fn finish(&self, tile: &QueryTile<'_>, total: &[f32], out: &Parts<'_, f32>) {
        for column in 0..tile.columns() {
            let at = tile.at(column, self.shape);
            // SAFETY: tiles have different rows or heads, and each is finished by one thread.
            let out = unsafe { out.part(at..at + self.shape.head_dim) };
            let inverse = 1.0 / total[self.columns + column];
            let gathered = &total[2 * self.columns + column * self.padded..];
            out.iter_mut().zip(gathered).for_each(|(out, gathered)| *out = gathered * inverse);
        }
    }
}

/// How many columns are packed: one tile as it is, or two full ones.
fn packed_columns(columns: usize) -> usize {
    if columns > TILE { QUERIES } else { columns }
}

/// The rows of a workspace, which are packed in order.
const ROWS: [u32; TILE] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// Reuses memory of floats for words: both are four bytes, and any bits are valid for either.
fn as_words(floats: &mut [f32]) -> &mut [u32] {
    // SAFETY: f32 and u32 have the same size and alignment, and every bit pattern is a value of both.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), floats.len()) }
}
