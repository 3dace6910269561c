"""gpt-oss, whose experts come as floats (transposed, gate and up alternating) or as MXFP4."""

import gguf
import torch
import transformers as hf
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from . import to_gguf as g

PARTS = ("gate_up_proj", "down_proj")


def fixtures(Fixture, common):
    # This base puts the ramp's end just below a whole number: llama.cpp rounds it up, which the model does not want.
    # (ropes.json has the case where that makes a difference.)
    rope = dict(
        rope_type="yarn",
        rope_theta=76.85,
        factor=4.0,
        original_max_position_embeddings=32,
        beta_fast=32.0,
        beta_slow=1.0,
        truncate=False,
    )
    sizes = dict(intermediate_size=32, head_dim=16, num_local_experts=4, num_experts_per_tok=2, sliding_window=16)
    config = lambda: hf.GptOssConfig(**{**common, **sizes}, rope_parameters=dict(rope))
    arch = gguf.MODEL_ARCH.GPT_OSS
    yield Fixture("gpt-oss", config(), arch, convert)

    packed = {}

    def prepare(model, seed):
        generator = torch.Generator().manual_seed(seed + 2)
        for i, layer in enumerate(model.model.layers):
            for part in PARTS:
                weight = getattr(layer.mlp.experts, part)
                experts, cols, rows = weight.shape
                shape = (experts, rows, cols // 32)
                nibbles = torch.randint(0, 16, (*shape, 32), generator=generator, dtype=torch.uint8)
                exponents = torch.randint(122, 125, shape, generator=generator, dtype=torch.uint8)
                values = g.E2M1[nibbles.int()] * 2.0 ** (exponents.float()[..., None] - 127)
                weight.data.copy_(values.flatten(-2).transpose(1, 2))
                packed[f"model.layers.{i}.mlp.experts.{part}"] = (exponents, nibbles)

    def pack(tensors):
        for name, (exponents, nibbles) in packed.items():
            weight = tensors.pop(name)
            blocks = nibbles[..., 0::2] | nibbles[..., 1::2] << 4
            # Loading needs a GPU or packages that nothing else here needs; that transformers would unpack this to the
            # very weights is checked with its own function instead.
            assert torch.equal(convert_moe_packed_tensors(blocks, exponents, dtype=weight.dtype), weight)
            tensors[f"{name}_blocks"], tensors[f"{name}_scales"] = blocks, exponents
        return tensors

    def quantised(config):
        config["quantization_config"] = dict(
            quant_method="mxfp4",
            modules_to_not_convert=["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
        )

    yield Fixture(
        "gpt-oss-mxfp4",
        config(),
        arch,
        lambda writer, config, tensors: convert(writer, config, tensors, packed),
        prepare=prepare,
        edit_tensors=pack,
        edit_config=quantised,
        old_config=False,
        reload=False,
    )


def convert(writer, config, tensors, packed=None):
    g.common(writer, config)
    writer.out.add_sliding_window(config.sliding_window)
    writer.out.add_expert_feed_forward_length(config.intermediate_size)
    for name, data in tensors.items():
        stem = name.removesuffix("_bias").removesuffix("_blocks").removesuffix("_scales")
        if not stem.endswith(PARTS):
            writer.tensor(name, data)
            continue
        block = f"blk.{name.split('.')[2]}.ffn_"
        if name.endswith("_bias"):
            parts, suffix = split(stem, data), "bias"
        elif name.endswith("_scales"):
            continue
        elif name.endswith("_blocks"):
            exponents, nibbles = packed[stem]
            for part, rows in split(stem, torch.arange(nibbles.shape[1])[None]).items():
                writer.mxfp4(f"{block}{part}_exps.weight", exponents[:, rows[0]], nibbles[:, rows[0]])
            continue
        else:
            parts, suffix = split(stem, data.transpose(1, 2)), "weight"
        for part, rows in parts.items():
            writer.raw(f"{block}{part}_exps.{suffix}", rows)


def split(stem, data):
    """Rows (dimension 1) of gate and up, which alternate."""
    if stem.endswith("down_proj"):
        return {"down": data}
    return {"gate": data[:, 0::2], "up": data[:, 1::2]}
