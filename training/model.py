"""The guide's decoder: Qwen3's architecture at a small size, in plain PyTorch.

Parameter names are those of `Qwen3ForCausalLM`, so `state_dict()` is the Hugging Face checkpoint.
Shapes: B batch, T tokens, D hidden, H heads, K key-value heads, G = H/K heads that share one, E head width.

Attention is written out: at 50 to 300 tokens, two batched products and a softmax take a third of the time that
PyTorch's fused kernel takes on a CPU, backwards above all.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Config:
    vocab_size: int = 2560
    hidden_size: int = 256
    intermediate_size: int = 768
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    context: int = 1024
    rope_theta: float = 10_000.0
    eps: float = 1e-6

    def to_hf(self, bos: int, eos: int) -> dict:
        """config.json of the checkpoint."""
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.context,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.eps,
            "hidden_act": "silu",
            "attention_bias": False,
            "tie_word_embeddings": True,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "torch_dtype": "float32",
        }


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


def rotary(config: Config, length: int):
    """cos and sin, [T, E], in the half-split layout."""
    inverse = config.rope_theta ** -(torch.arange(0, config.head_dim, 2).float() / config.head_dim)
    angles = torch.outer(torch.arange(length).float(), inverse).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class Attention(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.q_proj = nn.Linear(c.hidden_size, c.heads * c.head_dim, bias=False)
        self.k_proj = nn.Linear(c.hidden_size, c.kv_heads * c.head_dim, bias=False)
        self.v_proj = nn.Linear(c.hidden_size, c.kv_heads * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.heads * c.head_dim, c.hidden_size, bias=False)
        self.q_norm = RMSNorm(c.head_dim, c.eps)
        self.k_norm = RMSNorm(c.head_dim, c.eps)

    def forward(self, x, cos, sin, mask):
        c, (b, t, _) = self.c, x.shape
        heads = lambda y, n: y.view(b, t, n, c.head_dim).transpose(1, 2)
        q = rotate(self.q_norm(heads(self.q_proj(x), c.heads)), cos, sin) * c.head_dim**-0.5
        k = rotate(self.k_norm(heads(self.k_proj(x), c.kv_heads)), cos, sin)
        v = heads(self.v_proj(x), c.kv_heads)
        shared = c.heads // c.kv_heads * t  # [B, H, T, E] and [B, K, G·T, E] are the same bytes
        scores = q.reshape(b, c.kv_heads, shared, c.head_dim) @ k.transpose(-1, -2)
        weights = (scores.view(b, c.heads, t, t) + mask).softmax(-1, dtype=scores.dtype)
        y = (weights.view(b, c.kv_heads, shared, t) @ v).view(b, c.heads, t, c.head_dim)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, -1))


class MLP(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.input_layernorm = RMSNorm(c.hidden_size, c.eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.eps)
        self.mlp = MLP(c)

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.hidden_size, c.eps)


class Guide(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        scale = 0.02
        for name, p in self.named_parameters():
            if p.dim() == 2:
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=scale / (2 * config.layers) ** 0.5 if residual else scale)

    def forward(self, ids):
        """ids [B, T] → hidden states [B, T, D], normalised; `logits` projects them."""
        t = ids.shape[1]
        x = self.model.embed_tokens(ids)
        inner = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        cos, sin = (table.to(inner) for table in rotary(self.config, t))
        mask = torch.full((t, t), -torch.inf, dtype=inner).triu(1)
        for layer in self.model.layers:
            x = layer(x, cos, sin, mask)
        return self.model.norm(x)

    def logits(self, hidden):
        return F.linear(hidden, self.model.embed_tokens.weight)
