//! What a planner has to know of a model: how many numbers it holds, how many of them a token meets, what a token
//! leaves in the cache.
//!
//! Counts are exact for decoders of the usual shape (grouped queries, SwiGLU, experts with or without a shared one),
//! for compressed keys and values (MLA), and for hybrids with gated linear attention. Draft layers, encoders for
//! pictures and buffers are not counted.

mod config;
mod presets;

#[cfg(test)]
mod tests;

pub use config::from_config;
pub use presets::{PRESETS, preset};

/// The shape of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// What a reader must know, for example that the shape is guessed.
    pub notes: Vec<String>,
    /// Decoder layers.
    pub layers: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Size of the vocabulary.
    pub vocabulary: u64,
    /// Whether the output matrix is the embedding.
    pub tied: bool,
    /// What attention looks like.
    pub attention: Attention,
    /// Layers with gated linear attention instead, if any.
    pub linear: Option<Linear>,
    /// Width of the feed-forward block of dense layers.
    pub intermediate: u64,
    /// Experts, if any.
    pub experts: Option<Experts>,
}

/// Attention of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Attention {
    /// Query heads share key and value heads.
    Grouped {
        /// Query heads.
        heads: u64,
        /// Key and value heads.
        kv_heads: u64,
        /// Numbers in a head.
        head: u64,
        /// Numbers of query and key norms in a layer.
        norms: u64,
        /// Whether the query projection also makes an output gate.
        gate: bool,
        /// Whether projections of queries, keys and values have a bias.
        bias: bool,
    },
    /// Keys and values are one compressed vector (multi-head latent attention).
    Latent {
        /// Query heads.
        heads: u64,
        /// Width of the compressed query, 0 if queries are not compressed.
        query_rank: u64,
        /// Width of the compressed keys and values.
        kv_rank: u64,
        /// Numbers of a key that carry no position.
        plain: u64,
        /// Numbers of a key that carry the position.
        rotary: u64,
        /// Numbers of a value.
        value: u64,
    },
}

/// Gated linear attention (gated `DeltaNet`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Linear {
    /// How many layers have it.
    pub layers: u64,
    /// Key heads and their width.
    pub key: (u64, u64),
    /// Value heads and their width.
    pub value: (u64, u64),
    /// Taps of the convolution.
    pub taps: u64,
}

/// A mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experts {
    /// Experts in a layer.
    pub count: u64,
    /// Experts that a token meets.
    pub per_token: u64,
    /// Width of an expert.
    pub intermediate: u64,
    /// Width of the shared expert, 0 if there is none.
    pub shared: u64,
    /// Whether the shared expert has a gate.
    pub shared_gate: bool,
    /// Layers with experts; the others are dense.
    pub layers: u64,
}

/// Numbers in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// All.
    pub total: u64,
    /// Those that one token meets, embedding and output included.
    pub active: u64,
    /// Embedding and output matrix.
    pub embedding: u64,
    /// Routed experts.
    pub routed: u64,
    /// Attention of all layers.
    pub attention: u64,
}

impl Model {
    /// Counts the numbers.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        let h = self.hidden;
        let embedding = self.vocabulary * h * if self.tied { 1 } else { 2 };
        let linear_layers = self.linear.map_or(0, |linear| linear.layers);
        let attention = (self.layers - linear_layers) * self.full_attention()
            + self.linear.map_or(0, |one| one.layers * one.size(h));
        let sparse = self.experts.map_or(0, |experts| experts.layers);
        let dense = (self.layers - sparse) * 3 * h * self.intermediate;
        let one = |experts: Experts| 3 * h * experts.intermediate;
        let routed = self.experts.map_or(0, |experts| experts.layers * experts.count * one(experts));
        let beside = self.experts.map_or(0, |experts| {
            let gate = if experts.shared_gate { h } else { 0 };
            experts.layers * (experts.count * h + 3 * h * experts.shared + gate)
        });
        let idle =
            self.experts.map_or(0, |experts| experts.layers * (experts.count - experts.per_token) * one(experts));
        let norms = self.layers * 2 * h + h;
        let total = embedding + attention + dense + routed + beside + norms;
        Parameters { total, active: total - idle, embedding, routed, attention }
    }

    fn full_attention(&self) -> u64 {
        let h = self.hidden;
        match self.attention {
            Attention::Grouped { heads, kv_heads, head, norms, gate, bias } => {
                let queries = heads * head * if gate { 2 } else { 1 };
                let biases = if bias { queries + 2 * kv_heads * head } else { 0 };
                h * queries + 2 * h * kv_heads * head + heads * head * h + norms + biases
            }
            Attention::Latent { heads, query_rank, kv_rank, plain, rotary, value } => {
                let queries = heads * (plain + rotary);
                let query =
                    if query_rank == 0 { h * queries } else { h * query_rank + query_rank + query_rank * queries };
                let kv = h * (kv_rank + rotary) + kv_rank + kv_rank * heads * (plain + value);
                query + kv + heads * value * h
            }
        }
    }

    /// Layers that keep keys and values.
    #[must_use]
    pub fn cached_layers(&self) -> u64 {
        self.layers - self.linear.map_or(0, |linear| linear.layers)
    }

    /// What one token leaves in the cache of all layers, with so many bytes a number.
    #[must_use]
    pub fn kv_bytes_per_token(&self, bytes: f64) -> f64 {
        let numbers = match self.attention {
            Attention::Grouped { kv_heads, head, .. } => 2 * kv_heads * head,
            Attention::Latent { kv_rank, rotary, .. } => kv_rank + rotary,
        };
        (self.cached_layers() * numbers) as f64 * bytes
    }

    /// How many ways keys and values can be cut among tensor ranks before they have to be copied.
    #[must_use]
    pub fn kv_cuts(&self) -> u64 {
        match self.attention {
            Attention::Grouped { kv_heads, .. } => kv_heads,
            Attention::Latent { .. } => 1,
        }
    }

    /// Multiply-adds of scores and their sums for one token over `context` tokens before it.
    #[must_use]
    pub fn attention_flops(&self, context: f64) -> f64 {
        let per_layer = match self.attention {
            Attention::Grouped { heads, head, .. } => 4 * heads * head,
            Attention::Latent { heads, plain, rotary, value, .. } => 2 * heads * (plain + rotary + value),
        };
        (self.cached_layers() * per_layer) as f64 * context
    }

    /// Bytes of state that a sequence keeps whatever its length, in `f32` (hybrids).
    #[must_use]
    pub fn state_bytes(&self) -> f64 {
        self.linear.map_or(0.0, |one| (one.layers * one.value.0 * one.value.1 * one.key.1) as f64 * 4.0)
    }
}

impl Linear {
    fn size(&self, hidden: u64) -> u64 {
        let (keys, values) = (self.key.0 * self.key.1, self.value.0 * self.value.1);
        let inputs = hidden * (2 * keys + 2 * values) + hidden * 2 * self.value.0;
        inputs + (2 * keys + values) * self.taps + values * hidden + 2 * self.value.0 + self.value.1
    }
}
