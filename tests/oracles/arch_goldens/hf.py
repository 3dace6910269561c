"""Makes a tiny random model with transformers, saves it as a checkpoint, and computes what it answers."""

import copy
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

PROMPT, DECODED = 40, 20


def randomise(model, seed):
    """Weights whose logits spread over a few units, so that a wrong rotation or window shows at once.

    Everything is rounded to f16, so that checkpoints may be stored in half the space without changing the model.
    """
    generator = torch.Generator().manual_seed(seed)
    normal = lambda p, std, mean=0.0: p.copy_((torch.randn(p.shape, generator=generator) * std + mean))
    with torch.no_grad():
        for name, p in model.named_parameters():
            conv1d = any(part in name for part in ("c_attn", "c_proj", "c_fc"))
            stacked_transposed = p.dim() == 3 and "gpt_oss" in type(model).__module__
            fan_in = p.shape[-2] if (conv1d and p.dim() == 2) or stacked_transposed else p.shape[-1]
            if "norm" in name or ".ln_" in name:
                normal(p, 0.2, 1.0 if p.mean() > 0.5 else 0.0)
            elif p.dim() == 1 or name.endswith("bias") or "sinks" in name:
                normal(p, 0.3)
            elif any(part in name for part in ("embed_tokens", "wte", "wpe")):
                normal(p, 0.5)
            elif any(part in name for part in ("q_proj", "k_proj", "qkv_proj", "c_attn")):
                normal(p, 1.5 * fan_in**-0.5)
            else:
                normal(p, fan_in**-0.5)
            p.copy_(p.half().float())


def save(model, folder: Path, dtype, edit_config, edit_tensors):
    """Writes config.json and model.safetensors, as `save_pretrained` does, then lets the family edit both."""
    shutil.rmtree(folder, ignore_errors=True)
    # A copy, because rotary tables are rounded too, and do not come back.
    copy.deepcopy(model).to(dtype).save_pretrained(folder)
    for extra in folder.iterdir():
        if extra.name not in ("config.json", "model.safetensors"):
            extra.unlink()
    config = json.loads((folder / "config.json").read_text())
    edit_config(config)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    if edit_tensors:
        from safetensors.torch import load_file

        tensors = edit_tensors(load_file(folder / "model.safetensors"))
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def load(folder: Path):
    """The checkpoint as anybody would load it, in f32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


@torch.no_grad()
def answers(model, vocab, seed):
    """Tokens and the logits after each: a prompt in one go, then one token at a time on the cache."""
    generator = torch.Generator().manual_seed(seed + 1)
    tokens = torch.randint(3, vocab, (PROMPT + DECODED,), generator=generator)
    out = model(tokens[None, :PROMPT], use_cache=True)
    rows, cache = [out.logits[0]], out.past_key_values
    for i in range(PROMPT, PROMPT + DECODED):
        out = model(tokens[None, i : i + 1], past_key_values=cache, use_cache=True)
        rows.append(out.logits[0])
        cache = out.past_key_values
    logits = torch.cat(rows)
    assert torch.isfinite(logits).all() and 0.3 < logits.std() < 30, f"logits spread {logits.std()}"
    return tokens, logits


def tables(model):
    """The inverse frequencies and attention factors of every rotary table the model used."""
    found = {}
    for _, module in model.named_modules():
        if type(module).__name__.endswith("RotaryEmbedding"):
            for key, value in module.named_buffers(recurse=False):
                if key.endswith("inv_freq") and "original" not in key:
                    kind = key.removesuffix("inv_freq")
                    factor = getattr(module, f"{kind}attention_scaling", 1.0)
                    found[f"rope.{kind.rstrip('_') or 'all'}"] = (value.float(), float(factor))
    return found


def write_golden(folder: Path, tokens, logits, ropes, context):
    """golden.safetensors, as the README beside the goldens describes it."""
    tensors = {"tokens": tokens.to(torch.int32), "logits": logits.float()}
    metadata = {"prompt": str(PROMPT)}
    if context:
        metadata["context"] = str(context)
    for name, (inv_freq, factor) in ropes.items():
        tensors[name] = inv_freq
        metadata[f"{name}.factor"] = repr(factor)
    # Written by hand, because the library orders the metadata anew each time.
    header, data = {"__metadata__": metadata}, b""
    for name, tensor in tensors.items():
        raw = tensor.contiguous().numpy().tobytes()
        kind = {torch.int32: "I32", torch.float32: "F32"}[tensor.dtype]
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "golden.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
