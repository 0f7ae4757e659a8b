"""sampan-nano: the Qwen3 dense decoder, written out for training on a CPU.

Shapes: B sequences, T positions, H hidden, nq / nk query and key-value heads, hd head size, V vocabulary.
The names of the parameters are those of the published checkpoints, so `state_dict()` is what `export.py` writes.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass(frozen=True)
class Config:
    vocab_size: int = 8192
    hidden_size: int = 256
    intermediate_size: int = 640
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 2048


def rope_tables(config, length):
    """cos and sin, each [length, hd]; the two halves of a head rotate together (half-split)."""
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
    angle = torch.arange(length, dtype=torch.float64)[:, None] * config.rope_theta ** -exponent
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos().float(), angle.sin().float()


def rotate(x, cos, sin):
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin


class Norm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * self.weight).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.nq, self.nk, self.hd = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, self.nq * self.hd, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.nk * self.hd, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.nk * self.hd, bias=False)
        self.o_proj = nn.Linear(self.nq * self.hd, config.hidden_size, bias=False)
        self.q_norm = Norm(self.hd, config.rms_norm_eps)
        self.k_norm = Norm(self.hd, config.rms_norm_eps)

    def forward(self, x, cos, sin, cache=None):
        batch, length, _ = x.shape
        q = self.q_norm(self.q_proj(x).view(batch, length, self.nq, self.hd)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(batch, length, self.nk, self.hd)).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.nk, self.hd).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.append(self, k, v)
        k = k.repeat_interleave(self.nq // self.nk, dim=1)
        v = v.repeat_interleave(self.nq // self.nk, dim=1)
        # One new position may look at everything; several new ones arrive only into an empty cache.
        out = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, self.nq * self.hd))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = Mlp(config)
        self.input_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = Norm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x, cos, sin, cache=None):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size, config.rms_norm_eps)

    def forward(self, ids, cos, sin, cache=None):
        x = self.embed_tokens(ids)
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.bfloat16)
        for layer in self.layers:
            x = layer(x, cos, sin, cache)
        return self.norm(x)


class Cache:
    """Keys and values of earlier positions, a pair for each attention layer."""

    def __init__(self):
        self.held = {}

    def length(self):
        return next(iter(self.held.values()))[0].shape[2] if self.held else 0

    def append(self, layer, k, v):
        if layer in self.held:
            old_k, old_v = self.held[layer]
            k, v = torch.cat([old_k, k], dim=2), torch.cat([old_v, v], dim=2)
        self.held[layer] = (k, v)
        return k, v


class SampanNano(nn.Module):
    """The whole model; the output projection is the embedding table (tied)."""

    def __init__(self, config, seed=0):
        super().__init__()
        self.config = config
        self.model = Body(config)
        cos, sin = rope_tables(config, config.max_position_embeddings)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        generator = torch.Generator().manual_seed(seed)
        depth_scale = (2 * config.num_hidden_layers) ** -0.5
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                std = 0.02 if "embed" in name else parameter.shape[1] ** -0.5 * 0.6
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std *= depth_scale
                nn.init.normal_(parameter, std=std, generator=generator)

    def hidden(self, ids, cache=None):
        start = cache.length() if cache is not None else 0
        end = start + ids.shape[1]
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
        return self.model(ids, self.cos[start:end].to(dtype), self.sin[start:end].to(dtype), cache)

    def logits(self, ids, cache=None):
        """[B, T] ids -> [B, T, V]."""
        return F.linear(self.hidden(ids, cache), self.model.embed_tokens.weight)


class TiedCrossEntropy(torch.autograd.Function):
    """Weighted sum of cross entropies without ever holding all logits.

    hidden [N, H], table [V, H], targets [N], weights [N]. Logits of `CHUNK` rows at a time are turned into their
    gradient at once: at a vocabulary of 8192 the logits of one batch would otherwise be the largest buffer by far.
    """

    CHUNK = 1024

    @staticmethod
    def forward(ctx, hidden, table, targets, weights):
        narrow = table.to(hidden.dtype)
        grad_hidden = torch.empty_like(hidden)
        grad_table = torch.zeros_like(table)
        total = torch.zeros(())
        for start in range(0, hidden.shape[0], TiedCrossEntropy.CHUNK):
            rows = slice(start, start + TiedCrossEntropy.CHUNK)
            h, target, weight = hidden[rows], targets[rows], weights[rows]
            log_p = torch.log_softmax((h @ narrow.t()).float(), dim=-1)
            picked = log_p.gather(1, target[:, None])
            total -= (picked[:, 0] * weight).sum()
            delta = log_p.exp_()
            delta.scatter_add_(1, target[:, None], torch.full_like(picked, -1.0))
            delta = delta.mul_(weight[:, None]).to(hidden.dtype)
            grad_hidden[rows] = delta @ narrow
            grad_table += (delta.t() @ h).float()
        ctx.save_for_backward(grad_hidden, grad_table)
        return total

    @staticmethod
    def backward(ctx, grad):
        grad_hidden, grad_table = ctx.saved_tensors
        return grad_hidden * grad, grad_table * grad, None, None


def weighted_loss(model, ids, targets, weights):
    """Sum over positions of weight * cross entropy; positions of weight 0 cost no projection."""
    hidden = model.hidden(ids).flatten(0, 1)
    kept = (weights.flatten() > 0).nonzero().squeeze(1)
    return TiedCrossEntropy.apply(
        hidden.index_select(0, kept), model.model.embed_tokens.weight, targets.flatten()[kept], weights.flatten()[kept]
    )
