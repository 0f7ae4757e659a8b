//! Positions beyond the length that a model was trained on, stretched by YaRN.

use kernels::Precision;
use models::LogitRows;
use safetensors::SafeTensors;
use serde_json::json;

use crate::goldens::{EXACT_RELATIVE_MAX, EXACT_WORST_MAX, check_logits};
use crate::truth::{Runner, fixtures, json, tensor};

/// Of the script that made the golden.
const TOKENS: usize = 33_280;
const STEP: usize = 512;

/// `tiny/qwen3_dense` with the published settings for 131,072 tokens.
fn stretched(folder: &std::path::Path) {
    let mut config = json("tiny/qwen3_dense/config.json");
    config["max_position_embeddings"] = json!(131_072);
    config["rope_scaling"] = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768});
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let weights = fixtures().join("tiny/qwen3_dense/model.safetensors");
    std::fs::copy(weights, folder.join("model.safetensors")).unwrap();
}

#[test]
#[ignore = "slow: attention over 33,280 tokens takes half a minute"]
fn logits_beyond_32_768_tokens_equal_the_reference() {
    let model = tempfile::tempdir().unwrap();
    stretched(model.path());
    let bytes = std::fs::read(fixtures().join("tiny/yarn_far/golden.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let truth = tensor(&golden, "logits"); // [positions, 512]
    let positions = golden.tensor("positions").unwrap();
    let positions = positions.data().chunks_exact(8).map(|at| i64::from_le_bytes(at.try_into().unwrap()) as usize);
    let tokens: Vec<u32> = (0..TOKENS).map(|token| ((token * token + 7 * token) % 480) as u32).collect();
    let mut runner = Runner::with_room(model.path().to_str().unwrap(), Precision::Exact, None, TOKENS);
    let mut wanted = positions.zip(truth.chunks_exact(512)).peekable();
    for (step, tokens) in tokens.chunks(STEP).enumerate() {
        let first = step * STEP;
        let is_wanted = wanted.peek().is_some_and(|(position, _)| *position < first + STEP);
        let found = runner.step(tokens, first, if is_wanted { LogitRows::All } else { LogitRows::None });
        while let Some((position, truth)) = wanted.next_if(|(position, _)| *position < first + STEP) {
            let row = &found[(position - first) * 512..][..512];
            check_logits(&format!("position {position}"), row, truth, EXACT_RELATIVE_MAX, EXACT_WORST_MAX);
        }
    }
    assert!(wanted.next().is_none(), "every position was met");
}
