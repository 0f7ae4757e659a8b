//! GGUF tensor names to canonical ones. Source: the key and tensor tables of gguf-py 0.19 (`constants.py`).

/// The canonical name of a tensor; one that is not in the table keeps its name.
pub(super) fn canonical(raw: &str) -> String {
    let whole = match raw {
        "token_embd.weight" => Some("embed_tokens.weight"),
        "output.weight" => Some("lm_head.weight"),
        "output_norm.weight" => Some("norm.weight"),
        _ => None,
    };
    if let Some(name) = whole {
        return name.to_owned();
    }
    let in_block = raw.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    if let Some((layer, part)) = in_block
        && let Some(name) = of_block(part)
    {
        return format!("layers.{layer}.{name}");
    }
    raw.to_owned()
}

fn of_block(part: &str) -> Option<&'static str> {
    Some(match part {
        "attn_norm.weight" => "input_layernorm.weight",
        "attn_q.weight" => "self_attn.q_proj.weight",
        "attn_k.weight" => "self_attn.k_proj.weight",
        "attn_v.weight" => "self_attn.v_proj.weight",
        "attn_output.weight" => "self_attn.o_proj.weight",
        "attn_q_norm.weight" => "self_attn.q_norm.weight",
        "attn_k_norm.weight" => "self_attn.k_norm.weight",
        "ffn_norm.weight" => "post_attention_layernorm.weight",
        "ffn_gate.weight" => "mlp.gate_proj.weight",
        "ffn_up.weight" => "mlp.up_proj.weight",
        "ffn_down.weight" => "mlp.down_proj.weight",
        "ffn_gate_inp.weight" => "mlp.gate.weight",
        "ffn_gate_exps.weight" => "mlp.experts.gate_proj.weight",
        "ffn_up_exps.weight" => "mlp.experts.up_proj.weight",
        "ffn_down_exps.weight" => "mlp.experts.down_proj.weight",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn known_names_are_translated_and_others_kept() {
        assert_eq!(canonical("token_embd.weight"), "embed_tokens.weight");
        assert_eq!(canonical("blk.12.attn_q.weight"), "layers.12.self_attn.q_proj.weight");
        assert_eq!(canonical("blk.0.ffn_down_exps.weight"), "layers.0.mlp.experts.down_proj.weight");
        assert_eq!(canonical("blk.0.rope_freqs"), "blk.0.rope_freqs");
        assert_eq!(canonical("blk"), "blk");
    }
}
