"""Makes the MLX-quantised checkpoint beside this file, and what MLX itself expands it to.

    pip install "mlx[cpu]==0.32.2" numpy safetensors
    python make.py
"""

import json
import pathlib

import mlx.core as mx
import numpy as np
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
mx.random.seed(3)

# Name, shape, bits, group size, mode, type of the scales.
CASES = [
    ("four.weight", (6, 128), 4, 64, "affine", mx.bfloat16),
    ("eight.weight", (4, 64), 8, 32, "affine", mx.float16),
    ("stack.weight", (3, 4, 256), 4, 128, "affine", mx.float32),
    ("eights.weight", (2, 3, 128), 8, 128, "affine", mx.bfloat16),
    ("exponent.weight", (4, 64), 4, 32, "mxfp4", mx.bfloat16),
    ("six.weight", (4, 64), 6, 64, "affine", mx.float16),
    ("five.weight", (3, 96), 5, 32, "affine", mx.bfloat16),
    ("three.weight", (4, 64), 3, 64, "affine", mx.float16),
    ("two.weight", (4, 64), 2, 32, "affine", mx.float16),
    ("tiny_floats.weight", (4, 64), 4, 16, "nvfp4", mx.bfloat16),
    ("eight_floats.weight", (4, 64), 8, 32, "mxfp8", mx.bfloat16),
]

stored, expected = {}, {}
scheme = {"group_size": 64, "bits": 4}
for name, shape, bits, group, mode, dtype in CASES:
    weight = (mx.random.normal(shape) * 0.03).astype(dtype)
    packed, scales, *biases = mx.quantize(weight, group_size=group, bits=bits, mode=mode)
    stem = name.removesuffix(".weight")
    stored[name] = packed
    stored[f"{stem}.scales"] = scales
    if biases:
        stored[f"{stem}.biases"] = biases[0]
        # In f32, so that MLX's own rounding of the result to the type of the scales is not part of it.
        scales, biases = scales.astype(mx.float32), [biases[0].astype(mx.float32)]
    values = mx.dequantize(packed, scales, *biases, group_size=group, bits=bits, mode=mode)
    expected[name] = np.array(values.astype(mx.float32))
    if (bits, group, mode) != (4, 64, "affine"):
        scheme[stem] = {"group_size": group, "bits": bits} | ({"mode": mode} if mode != "affine" else {})
stored["norm.weight"] = mx.ones((64,)).astype(mx.bfloat16)

mx.save_safetensors(str(HERE / "model.safetensors"), stored, metadata={"format": "mlx"})
save_file(expected, HERE / "expected.safetensors")
config = {"model_type": "none", "quantization": scheme, "quantization_config": scheme}
(HERE / "config.json").write_text(json.dumps(config, indent=1) + "\n")
