"""SHA-256 of every tensor of ../models/gguf/*.gguf, dequantized to float32 by the gguf package -> dequantized.json.

One digest a file: over the tensors in the order of their names, little-endian, q and k of the llama architecture with
the two halves of a head one after the other (Hugging Face's order).
"""

import hashlib
import json
import pathlib

import gguf

GOLDEN = pathlib.Path(__file__).parent


def halves(w, dim):
    return w.reshape(-1, dim // 2, 2, w.shape[-1]).swapaxes(1, 2).reshape(w.shape)


digests = {}
for path in sorted((GOLDEN.parent / "models/gguf").glob("*.gguf")):
    reader = gguf.GGUFReader(path)
    field = lambda name: reader.fields[name].contents()
    arch = field("general.architecture")
    digest = hashlib.sha256()
    for tensor in sorted(reader.tensors, key=lambda t: t.name):
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        if arch == "llama" and tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
            values = halves(values, field("llama.attention.key_length"))
        if tensor.name != "rope_freqs.weight":
            digest.update(values.astype("<f4").tobytes())
    digests[path.stem] = digest.hexdigest()
(GOLDEN / "dequantized.json").write_text(json.dumps(digests, indent=2) + "\n")
