//! Whether a model fits into the memory of one machine: in which format, with how much context, for how many at once.
//!
//! Memory is weights, keys and values, the recurrent state of hybrids, and a reserve. Norms and routers are counted in
//! the weights' format, which is under a thousandth too little.

use crate::model::Model;

/// What the program, the tokenizer and the buffers of a step take.
pub const RESERVE_BYTES: f64 = 1e9;

/// Experts that are ordered ahead while others are read, and need memory too.
const EXPERTS_AHEAD: u64 = 8;
/// What memory for experts is told in: MiB.
const MIB: f64 = 1_048_576.0;

/// How numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Format {
    /// Its name.
    pub name: &'static str,
    /// Bits of a number, its block's scales included.
    pub bits: f64,
}

const fn format(name: &'static str, bits: f64) -> Format {
    Format { name, bits }
}

/// Formats of weights, the finest first. Bits are those of the block layouts: Q4_K has 144 bytes for 256 numbers.
/// Mixtures such as Q4_K_M lie between their parts.
pub const WEIGHTS: [Format; 8] = [
    format("BF16", 16.0),
    format("Q8_0", 8.5),
    format("Q6_K", 6.5625),
    format("Q5_K", 5.5),
    format("Q4_K", 4.5),
    format("IQ4_XS", 4.25),
    format("Q3_K", 3.4375),
    format("Q2_K", 2.625),
];

/// Formats of keys and values, the finest first. Keys in int8 have a 16-bit scale for 32 numbers, values that and an
/// f32 for a token and head, here of 128 numbers.
pub const KEYS: [Format; 2] = [format("bf16", 16.0), format("int8", 8.625)];

/// A machine and what is wanted of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    /// Memory that models may have.
    pub memory_bytes: f64,
    /// Tokens of a sequence, prompt and answer together.
    pub context: u64,
    /// Sequences at the same time.
    pub sequences: u64,
    /// Bytes a second that the memory gives, if a bound of the speed is wanted.
    pub bandwidth: Option<f64>,
}

/// A model in one format on the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// The weights' format.
    pub weights: Format,
    /// The format of keys and values.
    pub keys: Format,
    /// Bytes of the weights.
    pub weights_bytes: f64,
    /// Bytes of keys, values and states of all wanted sequences.
    pub cache_bytes: f64,
    /// How many bytes are missing; 0: it fits.
    pub short_bytes: f64,
    /// The longest context of the wanted sequences.
    pub context_max: u64,
    /// The most sequences of the wanted context.
    pub sequences_max: u64,
    /// Tokens a second of one sequence at the wanted context, at most: every number that a token meets is read once.
    pub tokens_s_max: Option<f64>,
    /// How it runs although it does not fit, if it is a mixture of experts that does.
    pub streamed: Option<Streamed>,
}

/// A mixture whose experts are read from the disk when they are chosen; some stay in memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Streamed {
    /// Memory that is left for experts, in whole MiB.
    pub experts_mib: u64,
    /// Their share of all experts.
    pub kept: f64,
    /// Bytes that a token reads if all experts are chosen alike; where some are chosen more often it is less.
    pub read_bytes: f64,
}

/// Every format of weights with every format of keys and values, the finest first.
///
/// `own_bytes`: the weights are there already and have so many bytes; then only the caches differ.
#[must_use]
pub fn rows(model: &Model, wanted: &Wanted, own: Option<(Format, f64)>) -> Vec<Row> {
    let parameters = model.parameters();
    let weights: Vec<(Format, f64)> = match own {
        Some(own) => vec![own],
        None => WEIGHTS.map(|format| (format, parameters.total as f64 * format.bits / 8.0)).to_vec(),
    };
    let active = parameters.active as f64 / parameters.total as f64;
    let row = |(format, bytes): (Format, f64), keys: Format| row(model, wanted, format, bytes, keys, active);
    weights.into_iter().flat_map(|weights| KEYS.map(|keys| row(weights, keys))).collect()
}

fn row(model: &Model, wanted: &Wanted, weights: Format, weights_bytes: f64, keys: Format, active: f64) -> Row {
    let (context, sequences) = (wanted.context as f64, wanted.sequences as f64);
    let per_token = model.kv_bytes_per_token(keys.bits / 8.0);
    let per_sequence = model.state_bytes() + context * per_token;
    let cache_bytes = sequences * per_sequence;
    let left = wanted.memory_bytes - RESERVE_BYTES - weights_bytes;
    // A float that is too large or negative becomes the nearest whole number.
    let context_max = ((left / sequences.max(1.0) - model.state_bytes()) / per_token).max(0.0) as u64;
    let sequences_max = (left / per_sequence).max(0.0) as u64;
    // The embedding is looked up, not read: its share is small and stays in.
    let read = weights_bytes * active + per_sequence;
    let short_bytes = (cache_bytes - left).max(0.0);
    Row {
        weights,
        keys,
        weights_bytes,
        cache_bytes,
        short_bytes,
        context_max,
        sequences_max,
        tokens_s_max: wanted.bandwidth.map(|bandwidth| bandwidth / read),
        streamed: if short_bytes > 0.0 { streamed(model, weights_bytes, left - cache_bytes) } else { None },
    }
}

/// `left_bytes` is what everything else leaves of the memory when all experts are in it: below zero.
fn streamed(model: &Model, weights_bytes: f64, left_bytes: f64) -> Option<Streamed> {
    let (experts, parameters) = (model.experts?, model.parameters());
    let all = weights_bytes * parameters.routed as f64 / parameters.total as f64;
    let one = all / (experts.layers * experts.count).max(1) as f64;
    let memory = left_bytes + all;
    if memory < (experts.per_token + EXPERTS_AHEAD) as f64 * one {
        return None;
    }
    let kept = memory / all;
    let read_bytes = (experts.layers * experts.per_token) as f64 * one * (1.0 - kept);
    Some(Streamed { experts_mib: (memory / MIB) as u64, kept, read_bytes })
}

/// The first row that fits: the finest weights, then the finest keys and values.
#[must_use]
pub fn best(rows: &[Row]) -> Option<&Row> {
    rows.iter().find(|row| row.short_bytes <= 0.0)
}

#[cfg(test)]
mod tests {
    use super::{Wanted, best, rows};
    use crate::model::preset;

    fn wanted(gigabytes: f64, context: u64, sequences: u64) -> Wanted {
        Wanted { memory_bytes: gigabytes * 1e9, context, sequences, bandwidth: Some(100e9) }
    }

    #[test]
    fn the_finest_format_that_fits_is_chosen() {
        let model = preset("qwen3-8b").unwrap();
        let chosen = |gigabytes: f64| {
            let rows = rows(&model, &wanted(gigabytes, 8192, 1), None);
            best(&rows).map(|row| (row.weights.name, row.keys.name))
        };
        // 8.19 billion numbers; a token leaves 144 KiB in BF16, so 8192 leave 1.2 GB.
        assert_eq!(chosen(19.0), Some(("BF16", "bf16")));
        assert_eq!(chosen(18.2), Some(("BF16", "int8")));
        assert_eq!(chosen(11.0), Some(("Q8_0", "bf16")));
        assert_eq!(chosen(7.0), Some(("Q4_K", "bf16")));
        assert_eq!(chosen(3.0), None);
    }

    #[test]
    fn what_is_said_to_fit_just_fits() {
        let model = preset("qwen3-30b-a3b").unwrap();
        for row in rows(&model, &wanted(40.0, 32_768, 4), None) {
            if row.context_max == 0 {
                assert!(row.short_bytes > 0.0);
                continue;
            }
            let short = |context, sequences| {
                let again = rows(&model, &wanted(40.0, context, sequences), None);
                again.iter().find(|other| other.weights == row.weights && other.keys == row.keys).unwrap().short_bytes
            };
            assert!(short(row.context_max, 4) <= 0.0 && short(row.context_max + 1, 4) > 0.0, "{row:?}");
            assert!(short(32_768, row.sequences_max) <= 0.0 && short(32_768, row.sequences_max + 1) > 0.0, "{row:?}");
        }
    }

    #[test]
    fn a_mixture_is_as_fast_as_what_a_token_meets() {
        let speed = |name: &str| {
            let rows = rows(&preset(name).unwrap(), &wanted(1e4, 1, 1), None);
            rows[0].tokens_s_max.unwrap()
        };
        // 100 GB a second over 3.35 and over 32.8 billion numbers of two bytes.
        assert!((speed("qwen3-30b-a3b") - 14.9).abs() < 0.3, "{}", speed("qwen3-30b-a3b"));
        assert!((speed("qwen3-32b") - 1.53).abs() < 0.03, "{}", speed("qwen3-32b"));
    }

    #[test]
    fn what_does_not_fit_may_stream_its_experts() {
        let model = preset("qwen3-30b-a3b").unwrap();
        let at = |gigabytes: f64| rows(&model, &wanted(gigabytes, 8192, 1), None)[0];
        // 30.5 billion numbers of two bytes, of which 29 billion are experts: 48 layers of 128 of 4.7 million.
        assert_eq!(at(70.0).streamed, None, "it fits");
        let half = at(34.0).streamed.unwrap();
        assert!((half.kept - 0.5).abs() < 0.03, "{half:?}");
        // 48 layers of eight experts of 9.4 MB, half of them from the disk.
        assert!((half.read_bytes / (48.0 * 8.0 * 9.437e6 * (1.0 - half.kept)) - 1.0).abs() < 1e-3, "{half:?}");
        assert!((half.experts_mib as f64 * 1_048_576.0 / (half.kept * 57.98e9) - 1.0).abs() < 1e-3, "{half:?}");
        assert_eq!(at(4.5).streamed, None, "what every token meets does not fit");
        assert!(at(6.5).streamed.is_some_and(|row| row.kept < 0.03));
        let dense = rows(&preset("qwen3-32b").unwrap(), &wanted(34.0, 8192, 1), None)[0];
        assert!(dense.short_bytes > 0.0 && dense.streamed.is_none(), "no experts");
    }

    #[test]
    fn states_of_hybrids_count_for_every_sequence() {
        let model = preset("qwen3-next-80b-a3b").unwrap();
        let one = rows(&model, &wanted(1e3, 1, 1), None)[0].cache_bytes;
        let ten = rows(&model, &wanted(1e3, 1, 10), None)[0].cache_bytes;
        assert!((ten / one - 10.0).abs() < 1e-9 && one > 70e6, "{one}");
    }
}
