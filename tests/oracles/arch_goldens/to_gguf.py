"""Writes a checkpoint as GGUF, the way the converter of llama.cpp does it.

Tensor names come from the `gguf` package's own map; what the converter does beyond renaming (permuting q and k, adding
one to Gemma's norms, transposing Conv1D, stacking and splitting experts) is here. check_ggufs.py has llama.cpp run the
files.
"""

import gguf
import numpy as np
import torch

# The values that four bits of MXFP4 stand for.
E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


class Writer:
    """One GGUF in the making: metadata with an architecture's prefix, tensors by their Hugging Face names."""

    def __init__(self, path, arch, layers, matrices):
        self.out = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
        self.names = gguf.get_tensor_name_map(arch, layers)
        self.matrices = matrices  # the dtype of matrices: np.float32 or np.float16

    def tensor(self, name, data):
        stem, suffix = name, ""
        for ending in (".weight", ".bias"):
            if name.endswith(ending):
                stem, suffix = name.removesuffix(ending), ending
        mapped = self.names.get_name(stem)
        assert mapped, f"no GGUF name for {name}"
        if not suffix:
            suffix = ".weight"
        self.raw(mapped + suffix, data)

    def raw(self, name, data):
        data = data.float().numpy()
        keep = data.ndim == 1 or name.endswith("_norm.weight") or not name.endswith(".weight")
        keep = keep or "ffn_gate_inp" in name or "position_embd" in name
        self.out.add_tensor(name, np.ascontiguousarray(data, np.float32 if keep else self.matrices))

    def mxfp4(self, name, exponents, nibbles):
        """`exponents` [E, rows, blocks], `nibbles` [E, rows, blocks, 32], both u8."""
        packed = nibbles[..., :16] | nibbles[..., 16:] << 4
        data = torch.cat([exponents[..., None], packed], dim=-1).flatten(-2).numpy()
        unpacked = gguf.quants.dequantize(data, gguf.GGMLQuantizationType.MXFP4)
        values = E2M1[nibbles.int()] * 2.0 ** (exponents.float()[..., None] - 127)
        assert np.array_equal(unpacked, values.flatten(-2).numpy())
        self.out.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.MXFP4)

    def vocabulary(self, size):
        """A SentencePiece-like vocabulary: three specials, then `▁`, letters and pairs of letters."""
        letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
        pieces = ["▁", *letters, *("▁" + c for c in letters), *(c + d for c in letters for d in "aeiou")]
        tokens = ["<unk>", "<s>", "</s>", *pieces][:size]
        self.out.add_tokenizer_model("llama")
        self.out.add_tokenizer_pre("default")
        self.out.add_token_list(tokens)
        self.out.add_token_scores([0.0] * 3 + [-float(i) for i in range(size - 3)])
        self.out.add_token_types([2, 3, 3] + [1] * (size - 3))
        self.out.add_unk_token_id(0)
        self.out.add_bos_token_id(1)
        self.out.add_eos_token_id(2)

    def close(self):
        self.out.write_header_to_file()
        self.out.write_kv_data_to_file()
        self.out.write_tensors_to_file()
        self.out.close()


def permute(weight, heads):
    """Rows of each head from `x[i], x[i + dim/2]` to `x[2i], x[2i + 1]`."""
    split = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return split.swapaxes(1, 2).reshape(weight.shape)


def common(writer, config):
    """The metadata that the converter writes for every text model."""
    out, text = writer.out, config
    out.add_block_count(text.num_hidden_layers)
    out.add_context_length(text.max_position_embeddings)
    out.add_embedding_length(text.hidden_size)
    out.add_vocab_size(text.vocab_size)
    if getattr(text, "intermediate_size", None):
        out.add_feed_forward_length(text.intermediate_size)
    out.add_head_count(text.num_attention_heads)
    if (kv_heads := getattr(text, "num_key_value_heads", None)) is not None:
        out.add_head_count_kv(kv_heads)
    if (eps := getattr(text, "rms_norm_eps", None)) is not None:
        out.add_layer_norm_rms_eps(eps)
    if (head_dim := getattr(text, "head_dim", None)) is not None:
        out.add_key_length(head_dim)
        out.add_value_length(head_dim)
    if (count := getattr(text, "num_local_experts", None) or getattr(text, "num_experts", None)) is not None:
        out.add_expert_count(count)
        out.add_expert_used_count(text.num_experts_per_tok)
    rope(out, config)


def rope(out, config):
    parameters = getattr(config, "rope_parameters", None) or {}
    full = parameters.get("full_attention", parameters)
    if "rope_theta" in full:
        out.add_rope_freq_base(full["rope_theta"])
    if "sliding_attention" in parameters:
        out.add_float32(f"{out.arch}.rope.freq_base_swa", parameters["sliding_attention"]["rope_theta"])
    if full.get("rope_type") == "linear":
        out.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        out.add_rope_scaling_factor(full["factor"])
    elif full.get("rope_type") == "yarn":
        out.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        out.add_rope_scaling_factor(full["factor"])
        out.add_rope_scaling_orig_ctx_len(full["original_max_position_embeddings"])
        for key in ("beta_fast", "beta_slow"):
            if full.get(key) is not None:
                out.add_float32(f"{out.arch}.rope.scaling.yarn_{key}", full[key])
    elif full.get("rope_type") == "longrope":
        out.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)


def llama3_divisors(config):
    """What the converter stores as rope_freqs.weight: plain frequencies over scaled ones."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 1.0 / config.rope_parameters["rope_theta"] ** (torch.arange(0, dim, 2).float() / dim)
    return plain / scaled


def llama_like(writer, config, tensors, permuted):
    """Renames every tensor; permutes q and k where the family's converter does."""
    for name, data in tensors.items():
        if permuted and name.endswith(("q_proj.weight", "q_proj.bias")):
            data = permute(data, config.num_attention_heads)
        if permuted and name.endswith(("k_proj.weight", "k_proj.bias")):
            data = permute(data, config.num_key_value_heads)
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        writer.tensor(name, data)
    if (config.rope_parameters or {}).get("rope_type") == "llama3":
        writer.raw("rope_freqs.weight", llama3_divisors(config))


def stack_experts(tensors, group, parts):
    """One tensor `group.part.weight` out of `group.0.part.weight`, `group.1.part.weight`, …"""
    tensors = dict(tensors)
    prefixes = {name.split(f".{group}.")[0] for name in tensors if f".{group}." in name}
    for prefix in sorted(prefixes):
        for part, stacked in parts.items():
            names = [f"{prefix}.{group}.{e}.{part}.weight" for e in range(len(tensors))]
            names = [name for name in names if name in tensors]
            tensors[f"{prefix}.{stacked}.weight"] = torch.stack([tensors.pop(name) for name in names])
    return tensors
