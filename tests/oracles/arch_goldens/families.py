"""Every checkpoint of the goldens: a tiny config for each family and variant, and how its GGUF differs."""

from dataclasses import dataclass, field
from typing import Callable

import gguf
import numpy as np
import torch
import transformers as hf

from . import to_gguf as g

VOCAB = 96
ARCH = gguf.MODEL_ARCH
SIZES = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2)
HEADS = dict(num_attention_heads=4, num_key_value_heads=2)
SPECIAL = dict(bos_token_id=1, eos_token_id=2, pad_token_id=None)
COMMON = dict(**SIZES, **HEADS, **SPECIAL, max_position_embeddings=128, tie_word_embeddings=False)


@dataclass
class Fixture:
    name: str
    config: object
    arch: object = None  # GGUF's, where it has the family
    gguf: Callable = None
    dtype: torch.dtype = torch.float16
    matrices: type = np.float16  # of the GGUF
    old_config: bool = True  # rotary parameters as transformers 4 wrote them
    edit_config: Callable = None
    edit_tensors: Callable = None
    context: int = None  # what the test asks for, where it decides something
    save_as: object = None  # the class to save, where it is not the config's causal LM
    full: bool = field(default=False)  # f32 throughout


def plain(permuted, **metadata):
    """A converter that renames, permutes or not, and adds some numbers."""

    def convert(writer, config, tensors):
        g.common(writer, config)
        for key, value in metadata.items():
            value = value(config) if callable(value) else value
            add = writer.out.add_uint32 if isinstance(value, int) else writer.out.add_float32
            if value is not None:
                add(f"{writer.out.arch}.{key.replace('__', '.')}", value)
        g.llama_like(writer, config, tensors, permuted)

    return convert


def llama(name, arch=ARCH.LLAMA, **changes):
    old = changes.pop("old_config", True)
    extra = {key: changes.pop(key) for key in ("context", "full") if key in changes}
    return Fixture(
        name,
        hf.LlamaConfig(**{**COMMON, **changes}),
        arch,
        arch and plain(True, rope__dimension_count=lambda c: c.head_dim),
        old_config=old,
        **extra,
    )


LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=500.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
YARN = dict(rope_type="yarn", rope_theta=1000.0, factor=4.0, original_max_position_embeddings=32)


def fixtures():
    yield llama("llama", full=True)
    yield Fixture(
        "qwen3",
        hf.Qwen3Config(**{**COMMON, "tie_word_embeddings": True}, head_dim=16),
        ARCH.QWEN3,
        plain(False),
        full=True,
    )
    yield gpt2("gpt2", prefix=True)
    yield gpt2("distilgpt2", prefix=False)


def gpt2(name, prefix):
    config = hf.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2
    )

    def rename(tensors):
        return tensors if prefix else {name.removeprefix("transformer."): t for name, t in tensors.items()}

    def convert(writer, config, tensors):
        out = writer.out
        out.add_block_count(config.n_layer)
        out.add_context_length(config.n_positions)
        out.add_embedding_length(config.n_embd)
        out.add_feed_forward_length(4 * config.n_embd)
        out.add_head_count(config.n_head)
        out.add_layer_norm_eps(config.layer_norm_epsilon)
        for name, data in tensors.items():
            if name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
                data = data.T
            writer.tensor(name if name.startswith("transformer.") else f"transformer.{name}", data)

    return Fixture(name, config, ARCH.GPT2 if prefix else None, convert, edit_tensors=rename, full=prefix)
