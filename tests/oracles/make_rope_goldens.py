"""Makes crates/model/tests/goldens/ropes.json: rotary parameters as published checkpoints have them, and the tables that
transformers computes from them.

    python tests/oracles/make_rope_goldens.py
"""

import json
from pathlib import Path

import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

OUT = Path(__file__).resolve().parents[2] / "crates/model/tests/goldens/ropes.json"
LONG = dict(
    rope_type="longrope",
    rope_theta=10000.0,
    short_factor=[1.0 + i / 40 for i in range(48)],
    long_factor=[1.0 + i * i / 40 for i in range(48)],
)
LLAMA3 = dict(
    rope_type="llama3", rope_theta=500000.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192
)
YARN = dict(rope_type="yarn", rope_theta=1e6, factor=4.0, original_max_position_embeddings=32768)
GPT_OSS = dict(
    rope_type="yarn", rope_theta=150000.0, factor=32.0, beta_fast=32.0, beta_slow=1.0, original_max_position_embeddings=4096
)
DEEPSEEK = dict(
    rope_type="yarn", rope_theta=10000.0, factor=40.0, beta_fast=32, beta_slow=1, mscale=0.707, mscale_all_dim=1.0,
    original_max_position_embeddings=4096,
)
DYNAMIC = dict(rope_type="dynamic", rope_theta=10000.0, factor=4.0)

# Name, parameters, width of a head, positions of the config, context asked for (None: what the model offers).
CASES = [
    ("plain", dict(rope_type="default", rope_theta=10000.0), 128, 4096, None),
    ("half of a head", dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5), 80, 2048, None),
    ("Llama 3.1", {**LLAMA3, "factor": 8.0}, 128, 131072, None),
    ("Llama 3.2", {**LLAMA3, "factor": 32.0}, 64, 131072, None),
    ("DeepSeek Coder", dict(rope_type="linear", rope_theta=100000.0, factor=4.0), 128, 16384, None),
    ("dynamic, within", DYNAMIC, 128, 4096, None),
    ("dynamic, twice the training", DYNAMIC, 128, 4096, 8192),
    ("dynamic, all of it", DYNAMIC, 128, 4096, 16384),
    ("Qwen2.5 with YaRN", YARN, 128, 32768, None),
    ("YaRN without a factor", {**YARN, "factor": None}, 128, 131072, None),
    ("YaRN with its attention factor", {**YARN, "attention_factor": 1.25}, 128, 131072, None),
    ("gpt-oss", {**GPT_OSS, "truncate": False}, 64, 131072, None),
    ("gpt-oss, rounded", GPT_OSS, 64, 131072, None),
    ("DeepSeek V2", DEEPSEEK, 64, 163840, None),
    ("Phi-3.5, long", {**LONG, "original_max_position_embeddings": 4096}, 96, 131072, None),
    ("Phi-3.5, short", {**LONG, "original_max_position_embeddings": 4096}, 96, 131072, 4096),
    ("Phi-4-mini", {**LONG, "original_max_position_embeddings": 4096, "partial_rotary_factor": 0.75}, 128, 131072, 4097),
    ("long-rope with its attention factor", {**LONG, "original_max_position_embeddings": 4096, "attention_factor": 1.19}, 96, 131072, None),
    ("long-rope with its factor", {**LONG, "original_max_position_embeddings": 4096, "factor": 16.0}, 96, 131072, None),
]


def table(parameters, head_dim, positions, context):
    config = transformers.LlamaConfig(
        hidden_size=head_dim, num_attention_heads=1, head_dim=head_dim, max_position_embeddings=positions,
        rope_parameters=dict(parameters),
    )
    if parameters["rope_type"] == "default":
        # Llama's own default ignores the partial factor; the models that have one take the start of the head.
        dim = int(head_dim * parameters.get("partial_rotary_factor", 1.0))
        base = parameters["rope_theta"]
        return 1.0 / base ** (torch.arange(0, dim, 2).float() / dim), 1.0
    init = ROPE_INIT_FUNCTIONS[parameters["rope_type"]]
    return init(config, "cpu", seq_len=context or positions)


def main():
    transformers.logging.set_verbosity_error()
    cases = []
    for name, parameters, head_dim, positions, context in CASES:
        inv_freq, factor = table(parameters, head_dim, positions, context)
        case = dict(name=name, parameters=parameters, head_dim=head_dim, positions=positions, context=context)
        # Nine digits name an f32.
        case |= dict(factor=float(factor), inv_freq=[float(f"{x:.9g}") for x in inv_freq.tolist()])
        cases.append(json.dumps(case))
    OUT.write_text("[\n" + ",\n".join(cases) + "\n]\n")
    print(f"{len(cases)} cases, {OUT.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
