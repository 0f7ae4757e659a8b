//! GGUF tensor names to canonical ones, and back. Source: the key and tensor tables of gguf-py 0.19 (`constants.py`).

use crate::config::Config;

/// Tensors that a model has once: GGUF's name and the canonical one.
const WHOLE: [(&str, &str); 3] = [
    ("token_embd.weight", "embed_tokens.weight"),
    ("output.weight", "lm_head.weight"),
    ("output_norm.weight", "norm.weight"),
];

/// Tensors of a layer, without `blk.N.` and `layers.N.`.
const OF_LAYER: [(&str, &str); 37] = [
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
    ("ffn_gate_up_exps.weight", "mlp.experts.gate_up_proj.weight"),
    // Of the hybrids.
    (NORM_OF_HYBRIDS, "post_attention_layernorm.weight"),
    ("attn_qkv.weight", "linear_attn.in_proj_qkv.weight"),
    ("attn_gate.weight", "linear_attn.in_proj_z.weight"),
    ("ssm_in.weight", "linear_attn.in_proj_qkvz.weight"),
    ("ssm_ba.weight", "linear_attn.in_proj_ba.weight"),
    ("ssm_beta.weight", "linear_attn.in_proj_b.weight"),
    ("ssm_alpha.weight", "linear_attn.in_proj_a.weight"),
    ("ssm_conv1d.weight", "linear_attn.conv1d.weight"),
    ("ssm_dt.bias", "linear_attn.dt_bias"),
    ("ssm_a", "linear_attn.rates"),
    ("ssm_norm.weight", "linear_attn.norm.weight"),
    ("ssm_out.weight", "linear_attn.out_proj.weight"),
    ("ffn_gate_inp_shexp.weight", "mlp.shared_expert_gate.weight"),
    ("ffn_gate_shexp.weight", "mlp.shared_expert.gate_proj.weight"),
    ("ffn_up_shexp.weight", "mlp.shared_expert.up_proj.weight"),
    ("ffn_down_shexp.weight", "mlp.shared_expert.down_proj.weight"),
    // Of the layer behind the last one, which guesses: see `predicting`.
    ("nextn.eh_proj.weight", "fc.weight"),
    ("nextn.enorm.weight", "pre_fc_norm_embedding.weight"),
    ("nextn.hnorm.weight", "pre_fc_norm_hidden.weight"),
    ("nextn.shared_head_norm.weight", "norm.weight"),
    ("nextn.shared_head_head.weight", "head.weight"),
];

/// What the hybrids call the norm before the feed-forward network.
const NORM_OF_HYBRIDS: &str = "post_attention_norm.weight";

/// Parts of a vision tower, each a weight and a bias: GGUF's name and the canonical one; `N` is a number.
const OF_TOWER: [(&str, &str); 15] = [
    ("v.patch_embd", "visual.patch_embed.proj"),
    ("v.position_embd", "visual.pos_embed"),
    ("v.blk.N.ln1", "visual.blocks.N.norm1"),
    ("v.blk.N.attn_qkv", "visual.blocks.N.attn.qkv"),
    ("v.blk.N.attn_out", "visual.blocks.N.attn.proj"),
    ("v.blk.N.ln2", "visual.blocks.N.norm2"),
    ("v.blk.N.ffn_up", "visual.blocks.N.mlp.linear_fc1"),
    ("v.blk.N.ffn_down", "visual.blocks.N.mlp.linear_fc2"),
    ("v.post_ln", "visual.merger.norm"),
    ("mm.0", "visual.merger.linear_fc1"),
    ("mm.2", "visual.merger.linear_fc2"),
    // N is the block whose outputs are merged; in the canonical name it is the place in their list.
    ("v.deepstack.N.norm", "visual.deepstack_merger_list.N.norm"),
    ("v.deepstack.N.fc1", "visual.deepstack_merger_list.N.linear_fc1"),
    ("v.deepstack.N.fc2", "visual.deepstack_merger_list.N.linear_fc2"),
    ("v.patch_embd.weight", "visual.patch_embed.proj.weight"),
];

/// The canonical name of a tensor; one that is not in the table keeps its name.
pub(super) fn canonical(raw: &str) -> String {
    let in_block = raw.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    if let Some((layer, part)) = in_block
        && let Some((_, name)) = OF_LAYER.iter().find(|(gguf, _)| *gguf == part)
    {
        return format!("layers.{layer}.{name}");
    }
    if let Some(of_tower) = between(raw, |pair| pair, |block| block) {
        return of_tower;
    }
    WHOLE.iter().find(|(gguf, _)| *gguf == raw).map_or(raw, |(_, name)| name).to_owned()
}

/// A name of a vision tower in the other spelling; `number` says which number stands there.
fn between(
    name: &str,
    pair: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
    number: impl Fn(usize) -> usize,
) -> Option<String> {
    let (stem, ending) = name.rsplit_once('.')?;
    for (from, to) in OF_TOWER.into_iter().map(pair) {
        let Some((before, after)) = from.split_once('N') else {
            if from == stem {
                return Some(format!("{to}.{ending}"));
            }
            continue;
        };
        let middle = stem.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        if let Some(found) = middle.and_then(|middle| middle.parse().ok()) {
            return Some(format!("{}.{ending}", to.replace('N', &number(found).to_string())));
        }
    }
    None
}

/// The canonical name of a merger in the middle of a tower, where the file counts blocks.
pub(crate) fn merger(name: &str, deepstack: &[usize]) -> Option<String> {
    let (block, part) = name.strip_prefix("visual.deepstack_merger_list.")?.split_once('.')?;
    let block: usize = block.parse().ok()?;
    let place = deepstack.iter().position(|&merged| merged == block)?;
    Some(format!("visual.deepstack_merger_list.{place}.{part}"))
}

/// The canonical name of a tensor of the layer behind the last one, which predicts.
pub(crate) fn predicting(name: &str, layers: usize) -> Option<String> {
    let (layer, part) = name.strip_prefix("layers.")?.split_once('.')?;
    if layer.parse::<usize>().ok()? != layers {
        return None;
    }
    let of_head = ["fc.weight", "pre_fc_norm_embedding.weight", "pre_fc_norm_hidden.weight", "norm.weight"];
    Some(if of_head.contains(&part) { format!("mtp.{part}") } else { format!("mtp.layers.0.{part}") })
}

/// GGUF's name of a tensor of such a model, if it has one.
pub(crate) fn of_canonical(name: &str, config: &Config) -> Option<String> {
    let is_hybrid = config.architecture.is_hybrid();
    if let Some(part) = name.strip_prefix("mtp.") {
        let layer = config.layers;
        if let Some(part) = part.strip_prefix("layers.0.") {
            return of_layers(&format!("layers.{layer}.{part}"), is_hybrid);
        }
        let (gguf, _) = OF_LAYER.iter().find(|(gguf, canonical)| *canonical == part && gguf.starts_with("nextn."))?;
        return Some(format!("blk.{layer}.{gguf}"));
    }
    if name.starts_with("visual.") {
        let deepstack = config.vision.as_ref().map_or(&[][..], |vision| &vision.deepstack);
        let is_deep = name.starts_with("visual.deepstack_merger_list.");
        let number = |number: usize| if is_deep { deepstack.get(number).copied().unwrap_or(number) } else { number };
        return between(name, |(gguf, canonical)| (canonical, gguf), number);
    }
    of_layers(name, is_hybrid)
}

/// The families do not agree on one norm's name.
fn of_layers(name: &str, is_hybrid: bool) -> Option<String> {
    if let Some((layer, part)) = name.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) {
        let fits = |gguf: &str| part != "post_attention_layernorm.weight" || is_hybrid == (gguf == NORM_OF_HYBRIDS);
        let (gguf, _) = OF_LAYER.iter().find(|(gguf, canonical)| *canonical == part && fits(gguf))?;
        return Some(format!("blk.{layer}.{gguf}"));
    }
    WHOLE.iter().find(|(_, canonical)| *canonical == name).map(|(gguf, _)| (*gguf).to_owned())
}

#[cfg(test)]
mod tests {
    use super::{canonical, merger, of_layers, predicting};

    #[test]
    fn known_names_are_translated_and_others_kept() {
        assert_eq!(canonical("token_embd.weight"), "embed_tokens.weight");
        assert_eq!(canonical("blk.12.attn_q.weight"), "layers.12.self_attn.q_proj.weight");
        assert_eq!(canonical("blk.0.ffn_down_exps.weight"), "layers.0.mlp.experts.down_proj.weight");
        assert_eq!(canonical("blk.0.rope_freqs"), "blk.0.rope_freqs");
        assert_eq!(canonical("blk"), "blk");
        assert_eq!(of_layers("layers.12.self_attn.q_proj.weight", false).unwrap(), "blk.12.attn_q.weight");
        assert_eq!(of_layers("lm_head.weight", false).unwrap(), "output.weight");
        assert_eq!(of_layers("layers.0.linear_attn.A_log", true), None);
        let norm = "layers.0.post_attention_layernorm.weight";
        assert_eq!(of_layers(norm, false).unwrap(), "blk.0.ffn_norm.weight");
        assert_eq!(of_layers(norm, true).unwrap(), "blk.0.post_attention_norm.weight");
    }

    #[test]
    fn towers_and_predictors_have_names_of_their_own() {
        assert_eq!(canonical("v.blk.3.attn_qkv.bias"), "visual.blocks.3.attn.qkv.bias");
        assert_eq!(canonical("v.patch_embd.weight.1"), "visual.patch_embed.proj.weight.1");
        assert_eq!(canonical("mm.2.weight"), "visual.merger.linear_fc2.weight");
        let deep = canonical("v.deepstack.16.fc1.weight");
        assert_eq!(merger(&deep, &[8, 16, 24]).unwrap(), "visual.deepstack_merger_list.1.linear_fc1.weight");
        assert_eq!(merger(&deep, &[8]), None);
        let head = canonical("blk.4.nextn.eh_proj.weight");
        assert_eq!(predicting(&head, 4).unwrap(), "mtp.fc.weight");
        assert_eq!(predicting(&canonical("blk.4.attn_q.weight"), 4).unwrap(), "mtp.layers.0.self_attn.q_proj.weight");
        assert_eq!(predicting("layers.3.mlp.gate.weight", 4), None);
    }
}
