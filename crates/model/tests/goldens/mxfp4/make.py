"""Makes gpt-oss style packed experts beside this file, and what Hugging Face transformers expands them to.

    pip install torch transformers==5.23.0 numpy safetensors
    python make.py
"""

import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

HERE = pathlib.Path(__file__).parent
torch.manual_seed(5)

blocks = torch.randint(0, 256, (2, 6, 3, 16), dtype=torch.uint8)
scales = torch.randint(110, 135, (2, 6, 3), dtype=torch.uint8)
# The function returns [experts, inputs, outputs].
values = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32).transpose(1, 2).contiguous()
save_file({"experts.gate_up_proj_blocks": blocks, "experts.gate_up_proj_scales": scales}, HERE / "model.safetensors")
save_file({"experts.gate_up_proj": values}, HERE / "expected.safetensors")
config = {"model_type": "none", "quantization_config": {"quant_method": "mxfp4"}}
(HERE / "config.json").write_text(json.dumps(config) + "\n")
