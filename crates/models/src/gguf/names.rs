//! GGUF tensor names to canonical ones, and back. Source: the key and tensor tables of gguf-py 0.19 (`constants.py`).

/// Tensors that a model has once: GGUF's name and the canonical one.
const WHOLE: [(&str, &str); 3] = [
    ("token_embd.weight", "embed_tokens.weight"),
    ("output.weight", "lm_head.weight"),
    ("output_norm.weight", "norm.weight"),
];

/// Tensors of a layer, without `blk.N.` and `layers.N.`.
const OF_LAYER: [(&str, &str); 15] = [
    ("attn_norm.weight", "input_layernorm.weight"),
    ("attn_q.weight", "self_attn.q_proj.weight"),
    ("attn_k.weight", "self_attn.k_proj.weight"),
    ("attn_v.weight", "self_attn.v_proj.weight"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
    ("attn_q_norm.weight", "self_attn.q_norm.weight"),
    ("attn_k_norm.weight", "self_attn.k_norm.weight"),
    ("ffn_norm.weight", "post_attention_layernorm.weight"),
    ("ffn_gate.weight", "mlp.gate_proj.weight"),
    ("ffn_up.weight", "mlp.up_proj.weight"),
    ("ffn_down.weight", "mlp.down_proj.weight"),
    ("ffn_gate_inp.weight", "mlp.gate.weight"),
    ("ffn_gate_exps.weight", "mlp.experts.gate_proj.weight"),
    ("ffn_up_exps.weight", "mlp.experts.up_proj.weight"),
    ("ffn_down_exps.weight", "mlp.experts.down_proj.weight"),
];

/// The canonical name of a tensor; one that is not in the table keeps its name.
pub(super) fn canonical(raw: &str) -> String {
    let in_block = raw.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    if let Some((layer, part)) = in_block
        && let Some((_, name)) = OF_LAYER.iter().find(|(gguf, _)| *gguf == part)
    {
        return format!("layers.{layer}.{name}");
    }
    WHOLE.iter().find(|(gguf, _)| *gguf == raw).map_or(raw, |(_, name)| name).to_owned()
}

/// GGUF's name of a tensor, if it has one.
pub(crate) fn of_canonical(name: &str) -> Option<String> {
    if let Some((layer, part)) = name.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) {
        let (gguf, _) = OF_LAYER.iter().find(|(_, canonical)| *canonical == part)?;
        return Some(format!("blk.{layer}.{gguf}"));
    }
    WHOLE.iter().find(|(_, canonical)| *canonical == name).map(|(gguf, _)| (*gguf).to_owned())
}

#[cfg(test)]
mod tests {
    use super::{canonical, of_canonical};

    #[test]
    fn known_names_are_translated_and_others_kept() {
        assert_eq!(canonical("token_embd.weight"), "embed_tokens.weight");
        assert_eq!(canonical("blk.12.attn_q.weight"), "layers.12.self_attn.q_proj.weight");
        assert_eq!(canonical("blk.0.ffn_down_exps.weight"), "layers.0.mlp.experts.down_proj.weight");
        assert_eq!(canonical("blk.0.rope_freqs"), "blk.0.rope_freqs");
        assert_eq!(canonical("blk"), "blk");
        assert_eq!(of_canonical("layers.12.self_attn.q_proj.weight").unwrap(), "blk.12.attn_q.weight");
        assert_eq!(of_canonical("lm_head.weight").unwrap(), "output.weight");
        assert_eq!(of_canonical("layers.0.linear_attn.A_log"), None);
    }
}
