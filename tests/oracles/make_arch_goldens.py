"""Makes crates/model/tests/goldens/arch: for each family a tiny random checkpoint and what transformers answers with it.

    pip install -r tests/oracles/requirements.txt
    python tests/oracles/make_arch_goldens.py [NAME ...]

Everything is seeded; running it again with the pinned versions changes nothing.
"""

import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file

from arch_goldens import hf
from arch_goldens.families import VOCAB, fixtures
from arch_goldens.to_gguf import Writer

ROOT = Path(__file__).resolve().parents[2] / "crates/model/tests/goldens/arch"


def old_style(config):
    """Rotary parameters and dtype where transformers 4 had them, as nearly all published checkpoints still do."""
    for section in (config, config.get("text_config", {})):
        if "dtype" in section:
            section["torch_dtype"] = section.pop("dtype")
        parameters = section.pop("rope_parameters", None)
        if parameters is None:
            continue
        if "full_attention" in parameters:
            section["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
            parameters = parameters["full_attention"]
        section["rope_theta"] = parameters.pop("rope_theta")
        if "partial_rotary_factor" in parameters:
            section["partial_rotary_factor"] = parameters.pop("partial_rotary_factor")
        kind = parameters.pop("rope_type")
        section["rope_scaling"] = None if kind == "default" else {"rope_type": kind, **parameters}


def make(fixture, seed):
    folder = ROOT / fixture.name
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(fixture.config, attn_implementation="eager")
    hf.randomise(model.float(), seed)
    if fixture.prepare:
        fixture.prepare(model, seed)

    def edit(config):
        if fixture.old_config:
            old_style(config)
        if fixture.edit_config:
            fixture.edit_config(config)

    dtype = torch.float32 if fixture.full else fixture.dtype
    hf.save(model, folder, dtype, edit, fixture.edit_tensors)
    if fixture.reload:
        model = hf.load(folder)
    tokens, logits = hf.answers(model, VOCAB, seed)
    hf.write_golden(folder, tokens, logits, hf.tables(model), fixture.context)
    if fixture.arch is not None:
        matrices = np.float32 if fixture.full else fixture.matrices
        text = fixture.config.get_text_config()
        writer = Writer(folder / "model.gguf", fixture.arch, getattr(text, "num_hidden_layers"), matrices)
        fixture.gguf(writer, text, load_file(folder / "model.safetensors"))
        writer.vocabulary(VOCAB)
        writer.close()
    for file in folder.iterdir():
        file.chmod(0o644)
    size = sum(file.stat().st_size for file in folder.iterdir()) // 1024
    print(f"{fixture.name:24} {size:4} KiB  logits spread {logits.std():.2f}")


def main():
    wanted = sys.argv[1:]
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    names = []
    for fixture in fixtures():
        names.append(fixture.name)
        if not wanted or fixture.name in wanted:
            make(fixture, zlib.crc32(fixture.name.encode()))
    unknown = set(wanted) - set(names)
    assert not unknown, f"there is no {unknown}; there are {names}"


if __name__ == "__main__":
    main()
