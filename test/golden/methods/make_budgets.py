"""What the code of Ada-KV's authors keeps of seeded random queries and keys, PyramidKV in its form there included.

usage: python make_budgets.py CHECKOUT      of github.com/FFY0/AdaKV (MIT, commit 0ae8e19); writes budgets.json

    python -m venv venv && venv/bin/pip install torch==2.15.0 numpy

Its heads are KV heads (one query head each).
"""

import json
import pathlib
import sys

import torch
from draw import module, tensors

DIM = 16
LAYERS = 4


def main(checkout):
    authors = module(
        checkout,
        "adaptive_snapkv/monkeypatch/snapkv_utils.py",
        transformers__cache_utils=["Cache", "DynamicCache"],
    )
    cases = []
    for seed, (rows, heads) in enumerate([(65, 4), (130, 3), (257, 2)], start=11):
        q, k = tensors(seed, rows, heads, heads, DIM)
        # The value of an entry is its number.
        v = torch.arange(rows, dtype=torch.float32).view(1, 1, rows, 1).expand(1, heads, rows, DIM).contiguous()

        def add(method, options, layer, kept):
            shape = {"seed": seed, "rows": rows, "heads": heads, "kvHeads": heads, "layer": layer}
            cases.append({"method": method, "options": options, **shape, "kept": [sorted(head) for head in kept]})

        for budget, alpha, pool, width, weighted in [
            (40, 0.2, "max", 7, False),
            (33, 0.5, "mean", 5, True),
            (50, 0.35, "max", 5, False),
        ]:
            cluster = authors.AdaptiveSnapKVCluster(
                window_size=16,
                kernel_size=width,
                pooling={"max": "maxpool", "mean": "avgpool"}[pool],
                base_capacity=budget,
                floor_alpha=alpha,
                skip=0,
                normalize=weighted,
                layer_idx=1,
                num_hidden_layers=LAYERS,
            )
            _, flat = cluster.update_kv(k, q, v)
            heads_of = torch.split(flat[:, 0], cluster.head_lens.tolist())
            options = {"budget": budget, "alpha": alpha, "weighted": weighted, "window": 16, "pool": pool, "width": width}
            add("adakv", options, 1, [[int(x) for x in head] for head in heads_of])
        for layer in range(LAYERS):
            cluster = authors.SnapKVCluster(
                window_size=8,
                max_capacity_prompt=40,
                kernel_size=7,
                pooling="maxpool",
                layer_idx=layer,
                num_hidden_layers=LAYERS,
                pyram_mode=True,
                pyram_beta=20,
            )
            _, values = cluster.update_kv(k, q, v)
            options = {"budget": 40, "beta": 20, "window": 8, "pool": "max", "width": 7}
            add("pyramidkv", options, layer, [[int(x) for x in values[0, h, :, 0]] for h in range(heads)])
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (pathlib.Path(__file__).parent / "budgets.json").write_text(f"[\n{lines}\n]\n")


main(sys.argv[1])
