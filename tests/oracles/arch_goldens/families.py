"""Every checkpoint of the goldens: a tiny config for each family and variant, and how its GGUF differs."""

from dataclasses import dataclass, field
from typing import Callable

import gguf
import numpy as np
import torch
import transformers as hf

from . import gpt_oss
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
    reload: bool = True  # whether transformers can load the saved checkpoint here
    prepare: Callable = None  # changes the random weights before they are saved
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
    yield llama("smollm2", tie_word_embeddings=True, num_attention_heads=2, num_key_value_heads=1)
    linear = dict(rope_type="linear", rope_theta=10000.0, factor=4.0)
    yield llama("deepseek-coder", rope_parameters=linear, num_key_value_heads=4)
    yield llama("llama-llama3", rope_parameters=LLAMA3)
    dynamic = dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0)
    yield llama("llama-dynamic", None, rope_parameters=dynamic)
    yield llama("llama-yarn", rope_parameters=YARN, old_config=False)
    yield llama("llama-longrope", None, rope_parameters=longrope(4, 32), old_config=False)
    yield from mistrals()
    yield from qwens()
    yield from phis()
    yield gpt2("gpt2", prefix=True)
    yield gpt2("distilgpt2", prefix=False)
    yield from others()


def longrope(frequencies, trained):
    steps = [i / frequencies for i in range(frequencies)]
    return dict(
        rope_type="longrope",
        rope_theta=10000.0,
        short_factor=[1.0 + step for step in steps],
        long_factor=[1.5 + 6.0 * step for step in steps],
        original_max_position_embeddings=trained,
    )


def mistrals():
    config = hf.MistralConfig(**COMMON, sliding_window=16)
    yield Fixture("mistral", config, ARCH.LLAMA, plain(True, attention__sliding_window=16))
    kinds = ["sliding_attention", "full_attention"]
    config = hf.MinistralConfig(**COMMON, sliding_window=16, layer_types=kinds, head_dim=8)
    yield Fixture("ministral", config, old_config=False)
    parameters = dict(
        rope_type="yarn",
        rope_theta=1000.0,
        factor=4.0,
        original_max_position_embeddings=64,
        beta_fast=32.0,
        beta_slow=1.0,
        mscale=1.0,
        mscale_all_dim=1.0,
        llama_4_scaling_beta=0.1,
    )
    changes = dict(max_position_embeddings=256, head_dim=16, rope_parameters=parameters)
    metadata = dict(rope__dimension_count=16, attention__temperature_scale=0.1, rope__scaling__yarn_log_multiplier=1.0)
    config = hf.Ministral3Config(**{**COMMON, **changes})
    yield Fixture("ministral3", config, ARCH.MISTRAL3, plain(True, **metadata), old_config=False)


def qwens():
    yield Fixture("qwen2", hf.Qwen2Config(**{**COMMON, "tie_word_embeddings": True}), ARCH.QWEN2, plain(False))
    window = dict(use_sliding_window=True, sliding_window=16, max_window_layers=1)
    drop = lambda config: config.pop("layer_types")
    yield Fixture("qwen2-window", hf.Qwen2Config(**COMMON, **window), edit_config=drop)
    config = hf.Qwen3Config(**{**COMMON, "tie_word_embeddings": True}, head_dim=16)
    yield Fixture("qwen3", config, ARCH.QWEN3, plain(False))
    experts = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=True)
    parts = {part: f"mlp.experts.{part}" for part in ("gate_proj", "up_proj", "down_proj")}

    def stacked(writer, config, tensors):
        convert = plain(False, expert_feed_forward_length=config.moe_intermediate_size)
        convert(writer, config, g.stack_experts(tensors, "mlp.experts", parts))

    def published(config):
        config["num_experts"] = config.pop("num_local_experts")

    config = hf.Qwen3MoeConfig(**COMMON, **experts, head_dim=8)
    yield Fixture("qwen3-moe", config, ARCH.QWEN3MOE, stacked, edit_config=published)
    experts["norm_topk_prob"] = False
    config = hf.Qwen3MoeConfig(**COMMON, **experts, head_dim=8, mlp_only_layers=[0])
    yield Fixture("qwen3-moe-mixed", config)


def phis():
    def convert(writer, config, tensors):
        parameters = config.rope_parameters
        trained, longest = parameters["original_max_position_embeddings"], config.max_position_embeddings
        dim = config.hidden_size // config.num_attention_heads
        out = writer.out
        out.add_rope_dimension_count(int(dim * parameters.get("partial_rotary_factor", 1.0)))
        out.add_rope_scaling_orig_ctx_len(trained)
        out.add_sliding_window(0)
        plain(False)(writer, config, tensors)
        if "long_factor" in parameters:
            stretch = longest / trained
            out.add_rope_scaling_attn_factors((1 + np.log(stretch) / np.log(trained)) ** 0.5)
            writer.raw("rope_factors_long.weight", torch.tensor(parameters["long_factor"]))
            writer.raw("rope_factors_short.weight", torch.tensor(parameters["short_factor"]))

    def outside(config):
        trained = config["rope_scaling"].pop("original_max_position_embeddings")
        config["original_max_position_embeddings"] = trained
        config["rope_scaling"]["type"] = config["rope_scaling"].pop("rope_type")

    def phi(name, trained, longest, frequencies, **changes):
        context = changes.pop("context", None)
        rope = dict(longrope(frequencies, trained))
        if partial := changes.pop("partial", None):
            rope["partial_rotary_factor"] = partial
        changes |= dict(max_position_embeddings=longest, original_max_position_embeddings=trained)
        config = hf.Phi3Config(**{**COMMON, **changes}, rope_parameters=rope)
        return Fixture(name, config, ARCH.PHI3, convert, edit_config=outside, context=context)

    yield phi("phi3-short", 256, 512, 4, context=256)
    yield phi("phi3-long", 32, 128, 4, num_key_value_heads=4)
    two_heads = dict(num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True)
    yield phi("phi4-mini", 32, 128, 6, partial=0.75, **two_heads)


def others():
    gemma = dict(**COMMON, head_dim=16, query_pre_attn_scalar=16, sliding_window=16)
    gemma |= dict(num_attention_heads=2, num_key_value_heads=1, intermediate_size=32, tie_word_embeddings=True)
    config = hf.Gemma2Config(**gemma, attn_logit_softcapping=2.0, final_logit_softcapping=4.0)
    metadata = dict(attention__sliding_window=16, attn_logit_softcapping=2.0, final_logit_softcapping=4.0)
    drop = lambda config: config.pop("layer_types")
    yield Fixture("gemma2", config, ARCH.GEMMA2, plus_one(**metadata), edit_config=drop)
    rope = dict(
        full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6),
        sliding_attention=dict(rope_type="default", rope_theta=1e4),
    )
    config = hf.Gemma3TextConfig(**{**gemma, "num_hidden_layers": 6}, rope_parameters=rope)
    yield Fixture("gemma3", config, ARCH.GEMMA3, plus_one(attention__sliding_window=16), edit_config=drop)
    # A scalar of its own, the layers' kinds and both tables spelt out: what GGUF has no keys for.
    kinds = ["full_attention", "sliding_attention"]
    gemma |= dict(query_pre_attn_scalar=40, layer_types=kinds)
    yield Fixture("gemma3-v5", hf.Gemma3TextConfig(**gemma, rope_parameters=rope), old_config=False)

    config = hf.SmolLM3Config(**{**COMMON, "num_hidden_layers": 4}, rope_parameters=dict(rope_type="default", rope_theta=5e4))
    yield Fixture("smollm3", config, ARCH.SMOLLM3, plain(True, rope__dimension_count=8))

    multipliers = dict(embedding_multiplier=6.0, attention_multiplier=0.2, residual_multiplier=0.4, logits_scaling=2.0)
    metadata = dict(embedding_scale=6.0, attention__scale=0.2, residual_scale=0.4, logit_scale=2.0)
    config = hf.GraniteConfig(**{**COMMON, "tie_word_embeddings": True}, **multipliers)
    yield Fixture("granite", config, ARCH.GRANITE, plain(True, **metadata, rope__dimension_count=8))
    experts = dict(num_local_experts=4, num_experts_per_tok=2)
    shared = dict(shared_intermediate_size=32)
    config = hf.GraniteMoeSharedConfig(**{**COMMON, "intermediate_size": 32}, **multipliers, **experts, **shared)
    metadata |= dict(expert_shared_feed_forward_length=32, rope__dimension_count=8)
    yield Fixture("granite-moe-shared", config, ARCH.GRANITE_MOE, granite_moe(plain(True, **metadata)))

    attention = dict(mamba_n_heads=4, mamba_d_head=16, layer_types=["full_attention"] * 2, position_embedding_type="rope", num_local_experts=0)
    config = hf.GraniteMoeHybridConfig(**COMMON, **multipliers, **attention, shared_intermediate_size=64)

    def published(config):
        config["layer_types"] = ["attention"] * 2

    yield Fixture("granite4", config, edit_config=published)

    config = hf.MixtralConfig(**{**COMMON, "intermediate_size": 32}, **experts)
    yield Fixture("mixtral", config, ARCH.LLAMA, mixtral)
    yield from gpt_oss.fixtures(Fixture, COMMON)


def plus_one(**metadata):
    """Gemma's converter: norms mean `1 + w`."""

    def convert(writer, config, tensors):
        tensors = {name: t.float() + 1 if name.endswith("norm.weight") else t for name, t in tensors.items()}
        plain(False, **metadata)(writer, config, tensors)

    return convert


def granite_moe(convert):
    def split(writer, config, tensors):
        ff = config.intermediate_size
        for i in range(config.num_hidden_layers):
            fused = tensors.pop(f"model.layers.{i}.block_sparse_moe.input_linear.weight")
            writer.raw(f"blk.{i}.ffn_gate_exps.weight", fused[:, :ff])
            writer.raw(f"blk.{i}.ffn_up_exps.weight", fused[:, ff:])
            shared = tensors.pop(f"model.layers.{i}.shared_mlp.input_linear.weight", None)
            if shared is not None:
                writer.raw(f"blk.{i}.ffn_gate_shexp.weight", shared[: config.shared_intermediate_size])
                writer.raw(f"blk.{i}.ffn_up_shexp.weight", shared[config.shared_intermediate_size :])
        convert(writer, config, tensors)

    return split


def mixtral(writer, config, tensors):
    for i in range(config.num_hidden_layers):
        for part, stacked in dict(w1="gate", w3="up", w2="down").items():
            names = [f"model.layers.{i}.block_sparse_moe.experts.{e}.{part}.weight" for e in range(config.num_local_experts)]
            writer.raw(f"blk.{i}.ffn_{stacked}_exps.weight", torch.stack([tensors.pop(name) for name in names]))
    plain(True, rope__dimension_count=8)(writer, config, tensors)


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

    return Fixture(name, config, ARCH.GPT2 if prefix else None, convert, edit_tensors=rename)
