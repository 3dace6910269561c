"""Makes the golden vectors beside this file.

    pip install gguf==0.19.0 numpy llama-cpp-python==0.3.36
    python make.py

`NAME.blocks` holds quantised blocks, `NAME.f32` what the `gguf` package (the format's reference implementation in
Python) expands them to. `values.f32` holds rows of floats, `values.NAME` those rows as quantised by ggml's own C code
(the copy inside llama-cpp-python), which for Q8_0 and Q4_0 must equal the `gguf` package's.
"""

import ctypes
import pathlib
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

HERE = pathlib.Path(__file__).parent
# Where each block type keeps its f16 numbers: random bits there would be infinities and not-a-numbers.
SCALES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
    T.MXFP4: [],
}


def random_blocks(rng, kind):
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    count = 6 if kind == T.MXFP4 else 3
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for offset in SCALES[kind]:
        scales = rng.normal(0, 0.05, count).astype(np.float16)
        blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(count, 2)
    if kind == T.MXFP4:
        blocks[:, 0] = [0, 1, 127, 121, 140, 200][:count]
    return blocks


def dequantized(rng):
    for kind in SCALES:
        blocks = random_blocks(rng, kind)
        values = gguf.dequantize(blocks.reshape(-1), kind).astype(np.float32)
        blocks.tofile(HERE / f"{kind.name}.blocks")
        values.tofile(HERE / f"{kind.name}.f32")
    halves = {T.F16: np.float16, T.BF16: None}
    for kind in halves:
        values = rng.normal(0, 1, 64).astype(np.float32)
        bits = gguf.quantize(values, kind)
        np.ascontiguousarray(bits).tofile(HERE / f"{kind.name}.blocks")
        gguf.dequantize(bits, kind).astype(np.float32).tofile(HERE / f"{kind.name}.f32")


def rows(rng):
    """Eight rows of 512: what weights look like, and what they never should."""
    out = rng.normal(0, 0.02, (8, 512))
    out[1] = rng.standard_t(3, 512) * 0.02  # Heavy tails.
    out[2] = np.abs(out[2])  # No negative value: the minimum has to be clamped to zero.
    out[3, 256:] = 0  # A block of nothing.
    out[4] = 0.125  # All the same.
    out[5, ::64] *= 100  # Outliers.
    out[6] *= np.linspace(0, 1, 512)  # Sub-blocks of different sizes.
    out[7] = -np.abs(out[7]) - 0.1
    return out.astype(np.float32)


def quantized(rng):
    import llama_cpp

    folder = pathlib.Path(llama_cpp.__file__).parent / "lib"
    library = ctypes.CDLL(str(next(folder.glob("libggml-base.*"))))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]
    values = rows(rng)
    values.tofile(HERE / "values.f32")
    for kind in [T.Q8_0, T.Q4_0, T.Q4_K, T.Q6_K]:
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        out = np.zeros(values.size // elements * size, dtype=np.uint8)
        library.ggml_quantize_chunk(kind, values.ctypes.data, out.ctypes.data, 0, *values.shape, None)
        if kind in (T.Q8_0, T.Q4_0) and not np.array_equal(out, gguf.quantize(values, kind).reshape(-1)):
            sys.exit(f"the two references disagree about {kind.name}")
        out.tofile(HERE / f"values.{kind.name}")


dequantized(np.random.default_rng(1))
quantized(np.random.default_rng(2))
