"""Makes crates/model/tests/goldens/mlx-lm: tiny checkpoints as mlx-lm quantises them, and what mlx-lm answers with them.

    pip install "mlx[cpu]==0.32.2" mlx-lm==0.31.3 transformers==5.23.0 safetensors==0.8.0 numpy
    python tests/oracles/make_mlx_goldens.py [NAME ...]

The weights are those of goldens/arch. Scales and all that is not quantised are f32, because MLX's CPU library adds up products with
quantised matrices exactly in f32 alone. `golden.safetensors` is as in goldens/arch: rows of the prompt from one prefill, the others
from single steps on the KV cache.
"""

import json
import shutil
import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model
from safetensors.numpy import load_file, save_file

GOLDENS = Path(__file__).resolve().parents[2] / "crates/model/tests/goldens"

# Name, source, what each kind of layer is rounded to: (bits, mode).
WIDTHS = {"q_proj": 3, "k_proj": 5, "v_proj": 6, "o_proj": 2, "up_proj": 4}

# Left out, because mlx-lm and transformers differ: families whose sliding window mlx-lm does not keep (Gemma 2, Mistral, Phi 3), YaRN
# (gpt-oss too), and Gemma 3, whose embedding mlx-lm scales by a root rounded to bf16.
CASES = [
    ("llama-4bit", "llama", lambda path: (4, "affine")),
    ("llama3-8bit", "llama-llama3", lambda path: (8, "affine")),
    ("qwen3-8bit", "qwen3", lambda path: (8, "affine")),
    ("qwen3-moe-4bit", "qwen3-moe", lambda path: (4, "affine")),
    ("mixtral-8bit", "mixtral", lambda path: (8, "affine")),
    ("phi4-mini-4bit", "phi4-mini", lambda path: (4, "affine")),
    ("smollm3-4bit", "smollm3", lambda path: (4, "affine")),
    ("granite-8bit", "granite", lambda path: (8, "affine")),
    # Layers with settings of their own.
    ("qwen2-mixed", "qwen2", lambda path: (WIDTHS.get(path.rsplit(".", 1)[-1], 8), "affine")),
    ("smollm2-floats", "smollm2", lambda path: (4, "nvfp4" if "mlp" in path else "mxfp4")),
]


def quantise(model, rounding):
    """Rounds every layer that can be; returns config.json's `quantization`."""
    scheme = {"group_size": 32, "bits": 4}

    def settings(path, module):
        weight = getattr(module, "weight", None)
        if not hasattr(module, "to_quantized") or weight is None or weight.shape[-1] % 32:
            return False
        if "gate" == path.rsplit(".", 1)[-1] or "router" in path:
            return False
        bits, mode = rounding(path)
        own = {"group_size": 16 if mode == "nvfp4" else 32, "bits": bits, "mode": mode}
        scheme[path] = own
        return own

    nn.quantize(model, class_predicate=settings)
    for path, module in model.named_modules():
        # What the source has packed already.
        if path not in scheme and getattr(module, "mode", None) == "mxfp4":
            scheme[path] = {"group_size": 32, "bits": 4, "mode": "mxfp4"}
    return scheme


def answers(model, tokens, prompt):
    cache = make_prompt_cache(model)
    rows = [model(mx.array(tokens[None, :prompt]), cache=cache)[0]]
    for token in tokens[prompt:]:
        rows.append(model(mx.array([[int(token)]]), cache=cache)[0])
    return np.array(mx.concatenate(rows).astype(mx.float32))


def make(name, source, rounding):
    source, folder = GOLDENS / "arch" / source, GOLDENS / "mlx-lm" / name
    golden = load_file(source / "golden.safetensors")
    tokens = golden["tokens"]
    model, config = load_model(source)
    to_f32 = lambda a: a.astype(mx.float32) if mx.issubdtype(a.dtype, mx.floating) else a
    model.update(tree_map(to_f32, model.parameters()))
    floats = answers(model, tokens, 40)
    scheme = quantise(model, rounding)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    logits = answers(model, tokens, 40)
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    config = json.loads((source / "config.json").read_text())
    config["quantization"] = config["quantization_config"] = scheme
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file({"tokens": tokens, "logits": logits}, folder / "golden.safetensors", {"prompt": "40"})
    for file in folder.iterdir():
        file.chmod(0o644)
    off = np.abs(floats - golden["logits"]).max()
    size = sum(file.stat().st_size for file in folder.iterdir()) // 1024
    print(f"{name:18} {size:4} KiB  unquantised {off:.1e} from transformers, quantised {np.abs(logits - floats).max():.2f} further")


for case in CASES:
    if not sys.argv[1:] or case[0] in sys.argv[1:]:
        make(*case)
