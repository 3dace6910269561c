"""Makes `every_type.gguf` beside this file with the `gguf` package: a value of every type and a few tensors.

    pip install gguf==0.19.0 numpy
    python make.py
"""

import pathlib

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter

PATH = pathlib.Path(__file__).parent / "every_type.gguf"

writer = GGUFWriter(PATH, "test")
writer.add_uint8("a.u8", 200)
writer.add_int8("a.i8", -100)
writer.add_uint16("a.u16", 60_000)
writer.add_int16("a.i16", -30_000)
writer.add_uint32("a.u32", 4_000_000_000)
writer.add_int32("a.i32", -2_000_000_000)
writer.add_float32("a.f32", 0.1)
writer.add_bool("a.bool", True)
writer.add_string("a.string", "naïve ☕")
writer.add_uint64("a.u64", 2**63)
writer.add_int64("a.i64", -(2**62))
writer.add_float64("a.f64", 1e-300)
writer.add_array("b.strings", ["<s>", "", "▁the"])
writer.add_key_value("b.f32s", [0.5, -1.5], GGUFValueType.ARRAY, GGUFValueType.FLOAT32)
writer.add_key_value("b.i32s", [1, -1, 3], GGUFValueType.ARRAY, GGUFValueType.INT32)
writer.add_key_value("b.bools", [True, False], GGUFValueType.ARRAY, GGUFValueType.BOOL)

writer.add_tensor("vector", np.arange(3, dtype=np.float32))
writer.add_tensor("matrix", np.arange(6, dtype=np.float16).reshape(2, 3))
blocks = np.arange(4 * 34, dtype=np.uint8).reshape(2, 68)
writer.add_tensor("blocks", blocks, raw_dtype=GGMLQuantizationType.Q8_0)
writer.add_tensor("stack", np.arange(24, dtype=np.float32).reshape(2, 3, 4))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

for tensor in GGUFReader(PATH).tensors:
    print(tensor.name, tensor.shape, tensor.tensor_type.name)
