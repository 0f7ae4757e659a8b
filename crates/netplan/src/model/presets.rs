//! Models by name. Shapes of the Qwen3 family are the published ones (their config.json and the technical report).

use super::{Attention, Experts, Linear, Model};
use crate::error::{Error, Result};

/// The names that [`preset`] knows, with what each is.
pub const PRESETS: [(&str, &str); 11] = [
    ("qwen3-0.6b", "dense, 28 layers"),
    ("qwen3-1.7b", "dense, 28 layers"),
    ("qwen3-4b", "dense, 36 layers"),
    ("qwen3-8b", "dense, 36 layers"),
    ("qwen3-14b", "dense, 40 layers"),
    ("qwen3-32b", "dense, 64 layers"),
    ("qwen3-30b-a3b", "128 experts, 8 a token, 48 layers"),
    ("qwen3-235b-a22b", "128 experts, 8 a token, 94 layers"),
    ("qwen3-coder-480b-a35b", "160 experts, 8 a token, 62 layers"),
    ("qwen3-next-80b-a3b", "512 experts, 10 a token, 36 of 48 layers with linear attention"),
    ("1t-moe-guessed", "a trillion parameters in 256 experts: a guess, not a published model"),
];

struct Shape {
    layers: u64,
    hidden: u64,
    intermediate: u64,
    heads: u64,
    kv_heads: u64,
    tied: bool,
    /// Experts, of which a token meets 8, and their width.
    experts: Option<(u64, u64)>,
}

/// The model of this name.
///
/// # Errors
/// If it is unknown.
pub fn preset(name: &str) -> Result<Model> {
    let dense = |layers, hidden, intermediate, heads, tied| Shape {
        layers,
        hidden,
        intermediate,
        heads,
        kv_heads: 8,
        tied,
        experts: None,
    };
    let sparse = |layers, hidden, heads, kv_heads, experts| Shape {
        layers,
        hidden,
        intermediate: 0,
        heads,
        kv_heads,
        tied: false,
        experts: Some(experts),
    };
    let lower = name.to_ascii_lowercase();
    let shape = match lower.as_str() {
        "qwen3-0.6b" => dense(28, 1_024, 3_072, 16, true),
        "qwen3-1.7b" => dense(28, 2_048, 6_144, 16, true),
        "qwen3-4b" => dense(36, 2_560, 9_728, 32, true),
        "qwen3-8b" => dense(36, 4_096, 12_288, 32, false),
        "qwen3-14b" => dense(40, 5_120, 17_408, 40, false),
        "qwen3-32b" => dense(64, 5_120, 25_600, 64, false),
        "qwen3-30b-a3b" => sparse(48, 2_048, 32, 4, (128, 768)),
        "qwen3-235b-a22b" => sparse(94, 4_096, 64, 4, (128, 1_536)),
        "qwen3-coder-480b-a35b" => sparse(62, 6_144, 96, 8, (160, 2_560)),
        "1t-moe-guessed" => sparse(94, 8_192, 64, 4, (256, 1_792)),
        "qwen3-next-80b-a3b" => return Ok(next()),
        _ => {
            let known = PRESETS.map(|(name, _)| name).join(", ");
            return Err(Error::Unknown { what: "model", name: name.to_owned(), known });
        }
    };
    let mut model = shape.model(&lower);
    if lower.contains("guessed") {
        let note = "this shape is guessed: no trillion-parameter Qwen model has published its layers or experts";
        model.notes.push(note.to_owned());
    }
    Ok(model)
}

impl Shape {
    fn model(&self, name: &str) -> Model {
        let head = 128;
        Model {
            name: name.to_owned(),
            notes: Vec::new(),
            layers: self.layers,
            hidden: self.hidden,
            vocabulary: 151_936,
            tied: self.tied,
            attention: Attention::Grouped {
                heads: self.heads,
                kv_heads: self.kv_heads,
                head,
                norms: 2 * head,
                gate: false,
                bias: false,
            },
            linear: None,
            intermediate: self.intermediate,
            experts: self.experts.map(|(count, intermediate)| Experts {
                count,
                per_token: 8,
                intermediate,
                shared: 0,
                shared_gate: false,
                layers: self.layers,
            }),
        }
    }
}

fn next() -> Model {
    let head = 256;
    Model {
        name: "qwen3-next-80b-a3b".to_owned(),
        notes: vec!["without the draft layer (MTP)".to_owned()],
        layers: 48,
        hidden: 2_048,
        vocabulary: 151_936,
        tied: false,
        attention: Attention::Grouped { heads: 16, kv_heads: 2, head, norms: 2 * head, gate: true, bias: false },
        linear: Some(Linear { layers: 36, key: (16, 128), value: (32, 128), taps: 4 }),
        intermediate: 0,
        experts: Some(Experts {
            count: 512,
            per_token: 10,
            intermediate: 512,
            shared: 512,
            shared_gate: true,
            layers: 48,
        }),
    }
}
