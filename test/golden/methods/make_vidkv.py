"""Channels, codes and parameters that the code of VidKV's authors makes of seeded random rows.

usage: python make_vidkv.py CHECKOUT        of github.com/KD-TAO/VidKV (commit 7e5b0ef); writes vidkv.json

    python -m venv venv && venv/bin/pip install torch==2.15.0 numpy      (torch brings triton)

Their kernels run in triton's interpreter. Inputs are drawn again by the test (draw.py, `rows`), one KV head; codes are
one digit an element, [tokens][channels].
"""

import contextlib
import os
import sys
from types import SimpleNamespace
from typing import List

os.environ["TRITON_INTERPRET"] = "1"

import torch
from draw import digits, module, numbers, pieces, rows, write

TOKENS = 64
WIDTH = 32
FOLDER = "transformers/src/transformers/"


def encoded(kernels, quantized, bits):
    """Scale and offset [groups][channels]."""
    code, scale, least = quantized
    codes = kernels.unpack_tensor(code, 2 if bits == 1.58 else bits, 3)
    return {
        "codes": digits(codes.transpose(2, 3)),
        "scale": numbers(scale.transpose(2, 3)),
        "offset": numbers(least.transpose(2, 3)),
    }


def main(checkout):
    torch.cuda.device = lambda _: contextlib.nullcontext()
    kernels = module(checkout, FOLDER + "vidkv_quant.py")
    around = {
        **{"torch": torch, "List": List, "DynamicCache": object, "CacheConfig": None, "QuantizedCacheConfig": None},
        "triton_quantize_and_pack_along_last_dim": kernels.triton_quantize_and_pack_along_last_dim,
    }
    names = ["QuantizedTensorFunction", "QuantizedCacheLM", "QuantizedCacheVLM"]
    authors = pieces(checkout, FOLDER + "cache_utils.py", *names, **around)
    cases = []
    for seed, (bits_k, bits_v) in enumerate([(1.5, 1.58), (1.25, 1.58), (1.5, 2)], start=61):
        x = rows(seed, TOKENS, WIDTH).view(1, 1, TOKENS, WIDTH)
        config = {"residual_length": 128, "q_group_size": 32, "axis_key": -1, "axis_value": -1}
        config |= {"nbits": [bits_k, bits_v], "compute_dtype": torch.float32, "device": "cpu"}
        cache = authors.QuantizedCacheVLM(SimpleNamespace(**config))
        split = cache.dynamic_quantize_key(x)
        # Signs as they take them of a spectrum, of the rows themselves.
        easy = cache._quantize(x[..., split["easy_idx"]], 32, 1, -1)
        cases.append(
            {
                "options": {"bitsK": bits_k, "bitsV": bits_v, "group": 32},
                "seed": seed,
                "wide": split["difficult_idx"].tolist(),
                "k": [encoded(kernels, split["q_difficult"], 2), encoded(kernels, easy, 1)],
                "v": [encoded(kernels, cache._quantize_value(x), bits_v)],
            }
        )
    write("vidkv.json", cases)


main(sys.argv[1])
