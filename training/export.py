"""Makes the guide's other forms from `build/hf`:

    python export.py --out build

- `build/guide.gguf`: Q8_0 (norms in f32), the one that is embedded;
- `build/mlx-4bit`, `build/mlx-8bit`: affine, groups of 64, as mlx-lm writes them.
"""

import argparse
import json
import shutil
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

import tokenizer as tokenizer_file

LAYER = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{LAYER[rest.removesuffix('.weight')]}.weight"


def write_gguf(folder: Path, out: Path):
    config = json.loads((folder / "config.json").read_text())
    tokens = json.loads((folder / "tokenizer.json").read_text())
    w = gguf.GGUFWriter(out, "qwen3")
    w.add_name("guide")
    w.add_description("Perch's guide: answers questions about Perch; a demonstration, not a general model")
    w.add_license("Apache-2.0")
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(config["num_attention_heads"])
    w.add_head_count_kv(config["num_key_value_heads"])
    w.add_key_length(config["head_dim"])
    w.add_value_length(config["head_dim"])
    w.add_rope_freq_base(config["rope_theta"])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])

    vocab = sorted(tokens["model"]["vocab"].items(), key=lambda kv: kv[1])
    names = [name for name, _ in vocab]
    kinds = [gguf.TokenType.NORMAL] * len(names)
    for added in tokens["added_tokens"]:
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        if added["id"] < len(names):
            kinds[added["id"]] = kind
        else:
            assert added["id"] == len(names)
            names.append(added["content"])
            kinds.append(kind)
    while len(names) < config["vocab_size"]:
        kinds.append(gguf.TokenType.UNUSED)
        names.append(f"[PAD{len(names)}]")
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(names)
    w.add_token_types(kinds)
    merges = tokens["model"]["merges"]
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    ids = {name: i for i, name in enumerate(names)}
    w.add_eos_token_id(ids["<|im_end|>"])
    w.add_pad_token_id(ids["<|endoftext|>"])
    w.add_add_bos_token(False)
    w.add_chat_template(tokenizer_file.config()["chat_template"])
    generation = json.loads((folder / "generation_config.json").read_text())
    w.add_float32("general.sampling.temp", generation["temperature"])
    w.add_float32("general.sampling.top_p", generation["top_p"])

    for name, tensor in load_file(folder / "model.safetensors").items():
        if tensor.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            w.add_tensor(gguf_name(name), gguf.quants.quantize(tensor, kind), raw_dtype=kind)
        else:
            w.add_tensor(gguf_name(name), tensor)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def affine(weight: np.ndarray, bits: int, group: int):
    """MLX's affine quantisation (mlx/ops: quantize): → packed uint32, scales, biases."""
    rows, cols = weight.shape
    x = weight.reshape(rows, cols // group, group).astype(np.float32)
    top = (1 << bits) - 1
    high, low = x.max(-1), x.min(-1)
    use_low = np.abs(low) > np.abs(high)
    scale = np.maximum((high - low) / top, 1e-7)
    scale = np.where(use_low, scale, -scale)
    edge = np.where(use_low, low, high)
    q0 = np.round(edge / scale)
    scale = np.where(q0 != 0, edge / np.where(q0 != 0, q0, 1), scale)
    bias = np.where(q0 != 0, edge, 0)
    q = np.clip(np.round((x - bias[..., None]) / scale[..., None]), 0, top).astype(np.uint32).reshape(rows, cols)
    per = 32 // bits
    packed = (q.reshape(rows, cols // per, per) << (np.arange(per, dtype=np.uint32) * bits)).sum(-1, dtype=np.uint32)
    return packed, scale.astype(np.float16), bias.astype(np.float16)


def write_mlx(folder: Path, out: Path, bits: int, group: int = 64):
    out.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if tensor.ndim == 2:
            base = name.removesuffix(".weight")
            tensors[name], tensors[f"{base}.scales"], tensors[f"{base}.biases"] = affine(tensor, bits, group)
        else:
            tensors[name] = tensor.astype(np.float16)
    save_file(tensors, out / "model.safetensors", metadata={"format": "mlx"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization"] = config["quantization_config"] = {"group_size": group, "bits": bits, "mode": "affine"}
    (out / "config.json").write_text(json.dumps(config, indent=1))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(folder / name, out / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("build"))
    args = parser.parse_args()
    write_gguf(args.out / "hf", args.out / "guide.gguf")
    for bits in (4, 8):
        write_mlx(args.out / "hf", args.out / f"mlx-{bits}bit", bits)
    print((args.out / "guide.gguf").stat().st_size, "bytes of GGUF")
