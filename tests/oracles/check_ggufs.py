"""Has llama.cpp run the GGUF files of the architecture goldens, and compares with what transformers answered.

    python tests/oracles/check_ggufs.py [NAME ...]

Needs llama-cpp-python and numpy only. Matrices in f16 make llama.cpp round activations to f16, hence the tolerance.
"""

import json
import struct
import sys
from pathlib import Path

import llama_cpp
import numpy as np

ROOT = Path(__file__).resolve().parents[2] / "crates/model/tests/goldens/arch"
# What llama.cpp does otherwise than the model's own code.
DIFFERS = {
    "mistral": "no window for mistral there: rows beyond it are not compared",
    "gpt-oss-mxfp4": "activations rounded to int8: compared loosely",
}
F32 = 0


def golden(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])

    def tensor(name, dtype):
        entry = header[name]
        start, end = entry["data_offsets"]
        return np.frombuffer(data[8 + length + start : 8 + length + end], dtype).reshape(entry["shape"])

    return tensor("tokens", np.int32), tensor("logits", np.float32), header["__metadata__"]


def check(folder):
    tokens, logits, metadata = golden(folder / "golden.safetensors")
    prompt = int(metadata["prompt"])
    context = int(metadata.get("context", 0))
    llm = llama_cpp.Llama(
        str(folder / "model.gguf"), n_ctx=context, n_batch=64, n_threads=1, logits_all=True, verbose=False,
        type_k=F32, type_v=F32, flash_attn=False, swa_full=True,
    )
    llm.eval(tokens[:prompt].tolist())
    for token in tokens[prompt:].tolist():
        llm.eval([token])
    found = llm.scores[: len(tokens)]
    rows = len(tokens)
    if folder.name == "mistral":
        rows = json.loads((folder / "config.json").read_text())["sliding_window"]
    difference = np.abs(found - logits)[:rows].max()
    print(f"{folder.name:24} {difference:.2e} {DIFFERS.get(folder.name, '')}")
    return difference < (0.3 if folder.name == "gpt-oss-mxfp4" else 0.03)


def main():
    wanted = sys.argv[1:]
    folders = sorted(path.parent for path in ROOT.glob("*/model.gguf"))
    bad = [f.name for f in folders if (not wanted or f.name in wanted) and not check(f)]
    if bad:
        sys.exit(f"llama.cpp and transformers disagree on {', '.join(bad)}")


if __name__ == "__main__":
    main()
