"""Keys and values that the code of xKV's authors reads back, of seeded random rows of some layers.

usage: python make_xkv.py CHECKOUT          of github.com/abdelfattah-lab/xKV (commit 93aff20, MIT by headers of its
                                            files); writes xkv.json

    python -m venv venv && venv/bin/pip install torch==2.15.0 numpy pyyaml loguru

Keys are not rotated afterwards, and nothing is quantized. Inputs are drawn again by the test.
"""

import importlib
import sys
import types

import torch
from draw import mulberry32, numbers, rows, write

TOKENS = 64
EVERY = 4


class DynamicCache:
    """What their cache needs of that of transformers."""

    def __init__(self):
        self.key_cache, self.value_cache = [], []

    def update(self, key, value, layer):
        self.key_cache.append(key)
        self.value_cache.append(value)

    def __getitem__(self, layer):
        return self.key_cache[layer], self.value_cache[layer]


def stub(name, **members):
    for end in range(1, name.count(".") + 2):
        part = ".".join(name.split(".")[:end])
        sys.modules.setdefault(part, types.ModuleType(part))
    vars(sys.modules[name]).update(members)


def related(seed, layers, width):
    """f32 [layers][tokens][width]: rows (draw.py) of all layers side by side, and `width / 4` directions they share."""
    shared = width // 4
    x = rows(seed, TOKENS, layers * width).double()
    random = mulberry32(seed + 1000)
    drawn = lambda count: torch.tensor([2 * next(random) - 1 for _ in range(count)], dtype=torch.float64)
    common = drawn(TOKENS * shared).view(TOKENS, shared)
    mix = drawn(shared * layers * width).view(shared, layers * width)
    return (x / 4 + common @ mix).float().view(TOKENS, layers, width).transpose(0, 1)


def main(checkout):
    stub("transformers.cache_utils", DynamicCache=DynamicCache)
    stub("transformers.models.mistral.modeling_mistral", apply_rotary_pos_emb=None)
    torch.cuda.synchronize = lambda: None
    sys.path.insert(0, checkout)
    configurations = importlib.import_module("xKV.configurations")
    authors = importlib.import_module("xKV.customized_cache.fake_layer_merge_dynamic_cache")
    cases = []
    shapes = [(4, 2, 2, 8, 8, 16), (3, 3, 1, 16, 16, 8)]
    for seed, (layers, group, heads, dim, rank_k, rank_v) in enumerate(shapes, start=81):
        setup = configurations.generate_consecutive_xKV_config(
            end_layer=layers - 1, num_layers=layers, group_size=group, rank_k=rank_k, rank_v=rank_v
        )
        cache = authors.FakeLayerMergingCache(setup)
        side_by_side = lambda x: x.view(1, TOKENS, heads, dim).transpose(1, 2)
        k, v = related(seed, layers, heads * dim), related(seed + 10, layers, heads * dim)
        for layer in range(layers):
            cache.update(side_by_side(k[layer]), side_by_side(v[layer]), layer, re_apply_rope=False)
        shape = {"seed": seed, "layers": layers, "kvHeads": heads, "headDim": dim}
        # One token of four says whether the directions are the same.
        flat = lambda x: numbers(x.transpose(1, 2)[:, ::EVERY])
        read = [{"k": flat(cache[layer][0]), "v": flat(cache[layer][1])} for layer in range(layers)]
        cases.append({"options": {"group": group, "rankK": rank_k, "rankV": rank_v}, **shape, "read": read})
    write("xkv.json", cases)


main(sys.argv[1])
