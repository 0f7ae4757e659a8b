"""sampan-nano-embed: a BERT of one layer, with the names of the published checkpoints.

Shapes: B texts, T positions, H width. The vector of a text is the mean of its rows, made a unit vector; the first 128
or 64 dimensions, made a unit vector again, are trained to do too (Matryoshka).
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

DIMENSIONS = (256, 128, 64)
PAD, CLS, SEP = 0, 2, 3


@dataclasses.dataclass(frozen=True)
class Config:
    vocab_size: int = 16384
    hidden_size: int = 256
    intermediate_size: int = 512
    num_hidden_layers: int = 1
    num_attention_heads: int = 4
    max_position_embeddings: int = 512
    type_vocab_size: int = 1
    layer_norm_eps: float = 1e-12


class Embeddings(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        nn.init.normal_(self.word_embeddings.weight, std=0.05)
        nn.init.zeros_(self.position_embeddings.weight)
        nn.init.zeros_(self.token_type_embeddings.weight)


class Heads(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads = config.num_attention_heads
        self.query, self.key, self.value = (nn.Linear(config.hidden_size, config.hidden_size) for _ in range(3))

    def forward(self, x, mask):
        batch, length, width = x.shape
        q, k, v = (linear(x).view(batch, length, self.heads, -1).transpose(1, 2)
                   for linear in (self.query, self.key, self.value))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        return out.transpose(1, 2).reshape(batch, length, width)


class Output(nn.Module):
    """Adds a product to what came in, and norms it. It begins by adding nothing."""

    def __init__(self, config, width):
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        nn.init.zeros_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    def forward(self, inner, x):
        return self.LayerNorm(x + self.dense(inner))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention = nn.ModuleDict({"self": Heads(config), "output": Output(config, config.hidden_size)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.intermediate_size)})
        self.output = Output(config, config.intermediate_size)

    def forward(self, x, mask):
        x = self.attention["output"](self.attention["self"](x, mask), x)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)

    def without_context(self, x):
        """What the layer makes of a word while it adds nothing to it."""
        return self.output.LayerNorm(self.attention["output"].LayerNorm(x))


class Encoder(nn.Module):
    def __init__(self, config=Config()):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))})

    def forward(self, ids):
        """[B, T] ids, padded with PAD, to [B, H] means."""
        mask = ids != PAD
        x = self.embeddings.word_embeddings(ids) + self.embeddings.position_embeddings.weight[:ids.shape[1]]
        x = self.embeddings.LayerNorm(x + self.embeddings.token_type_embeddings.weight[0])
        for layer in self.encoder["layer"]:
            x = layer(x, mask)
        weights = mask.float()[:, :, None]
        return (x.float() * weights).sum(1) / weights.sum(1)

    def bag(self, ids):
        """The same as long as the layers add nothing and positions are zero: a mean over words, which is fast."""
        x = self.embeddings.word_embeddings.weight + self.embeddings.token_type_embeddings.weight[0]
        x = self.embeddings.LayerNorm(x)
        for layer in self.encoder["layer"]:
            x = layer.without_context(x)
        return F.embedding_bag(ids, x, mode="mean", padding_idx=PAD)


def padded(texts, length):
    """Lists of ids, the two around each text included, as [B, T]."""
    cut = [ids if len(ids) <= length else ids[:length - 1] + [SEP] for ids in texts]
    longest = max(map(len, cut))
    return torch.tensor([ids + [PAD] * (longest - len(ids)) for ids in cut])


def unit(vectors, dimensions):
    return F.normalize(vectors[:, :dimensions], dim=-1)
