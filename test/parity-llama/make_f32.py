"""Writes a copy of a GGUF file with every tensor dequantized to float32 by the gguf package: the same weights, but
llama.cpp then multiplies them in float32 instead of rounding activations to 8 bits.

    python make_f32.py SmolLM2-135M-Instruct.Q4_1.gguf smollm2-f32.gguf
"""

import sys

import gguf
import numpy as np

source, target = sys.argv[1:]
reader = gguf.GGUFReader(source)
writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
for field in reader.fields.values():
    if field.name == "general.architecture" or field.name.startswith("GGUF."):
        continue
    value = int(gguf.LlamaFileType.ALL_F32) if field.name == "general.file_type" else field.contents()
    kind = field.types[0]
    writer.add_key_value(field.name, value, kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
for tensor in reader.tensors:
    writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
