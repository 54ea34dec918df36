"""Which heads retrieve, and what two layers share: others' code on seeded random rows.

usage: python make_heads.py CHECKOUTS      a folder with checkouts named as below; writes heads.json

    golden-stick       github.com/mindspore-ai/golden-stick  commit d3b3e1e (Apache-2.0): RazorAttention's vendor
    golden-stick-vllm  the same, a release with mindspore_gs/long_context_compress, whose cells drop entries
    KVCache-Factory    github.com/Zefan-Cai/KVCache-Factory  commit d2a0340: MiniCache, not by its authors

    python -m venv venv && venv/bin/pip install torch==2.15.0 numpy

MindSpore's functions are stood for by torch's. Tensors are drawn again by the test.
"""

import pathlib
import sys
from types import SimpleNamespace

import torch
from definitions import definitions
from draw import module, numbers, rows, tensors, write

DIM = 16


def razor_attention(checkout):
    """Sums of a probe's attention by layer and query head, and the KV heads chosen by one or the other."""
    period, repetitions, layers, heads, kv_heads = 12, 4, 4, 6, 3
    count = period * repetitions
    names = ["_repeat_kv", "_generate_attn_mask", "_attn_dot_product", "_get_score_mask", "_calc_score"]
    names += ["_max_every_group", "_select_top_heads"]
    mint = SimpleNamespace(**{name: getattr(torch, name) for name in ("ones", "zeros", "triu", "mul", "nn")})
    ops = SimpleNamespace(bmm=torch.matmul, mean=torch.mean, transpose=lambda x, axes: x.permute(axes))
    authors = definitions(
        checkout / "mindspore_gs/sequence_compress/razor_attention/razor_attention.py",
        [f"RazorAttention.{name}" for name in names],
        **{"mint": mint, "ops": ops, "mindspore": SimpleNamespace(uint8=torch.uint8), "DUMMY_INPUT_LENGTH": period},
    ).RazorAttention()
    seed = 301
    sums, best = {"echo": [], "induction": []}, {"echo": {}, "induction": {}}
    for layer in range(layers):
        q, k = tensors(seed + layer, count, heads, kv_heads, DIM)
        p = authors._attn_dot_product(q, authors._repeat_kv(k, heads // kv_heads))
        scores = [authors._calc_score(p[0, head]) for head in range(heads)]
        for kind, values in zip(sums, zip(*scores)):
            # They divide by all pairs of tokens.
            sums[kind].append(numbers(torch.tensor(values) * count**2))
            best[kind][layer] = authors._max_every_group(values, heads // kv_heads)
    shares = {"echo": 1 / 6, "induction": 1 / 4}
    chosen = {kind: list(authors._select_top_heads(best[kind], share).values()) for kind, share in shares.items()}
    shape = {"seed": seed, "period": period, "rows": count, "layers": layers, "heads": heads, "kvHeads": kv_heads}
    yield {"method": "razor-attention", **shape, "shares": shares, "sums": sums, "chosen": chosen}


def razor_cache(checkout):
    """What a head without retrieval holds of a prompt: values, which are numbers of tokens, and the key for the middle."""
    file = next(file for file in checkout.rglob("*.py") if "class DeployRACompressCell" in file.read_text())
    ops = SimpleNamespace(
        cat=lambda parts, axis: torch.cat(parts, axis), mean=lambda x, axis, keep_dims: x.mean(axis, keepdim=keep_dims)
    )
    cell = definitions(file, ["DeployRACompressCell._compress"], ops=ops).DeployRACompressCell()
    kv_heads = 2
    for seed, (count, sinks, capacity, mean) in enumerate([(65, 4, 40, True), (130, 1, 31, True), (130, 4, 50, False)], start=321):
        _, k = tensors(seed, count, kv_heads, kv_heads, DIM)
        cell.cfg = SimpleNamespace(sink_size=sinks, local_capacity=capacity)
        keys = cell._compress(k[0].transpose(0, 1), mean)
        values = cell._compress(torch.arange(count, dtype=torch.float32).view(-1, 1), mean)
        shape = {"seed": seed, "rows": count, "kvHeads": kv_heads, "sinks": sinks, "capacity": capacity, "compensate": mean}
        middle = {"middle": [numbers(head) for head in keys[sinks]]} if mean else {}
        yield {"method": "razor-cache", **shape, "values": numbers(values), **middle}


def minicache(checkout):
    """Rows of the lower and the upper layer as they are read back, angular distances, tokens kept apart."""
    others = module(checkout, "pyramidkv/minicache.py")
    count, width = 40, 16
    for seed, (t, gamma) in enumerate([(0.6, 0.05), (0.3, 0.25), (1.0, 0.5)], start=311):
        lower = rows(seed, count, width)
        upper = 0.5 * lower + rows(seed + 100, count, width)
        pair = [x.view(1, 1, count, width) for x in (upper, lower)]
        *shared, distance, _, _, apart = others.compress_minicache_pair(
            *pair, interpolation=t, retention_count=int(gamma * count)
        )
        read = [numbers(x) for x in others.restore_minicache_pair(*shared)]
        shape = {"seed": seed, "rows": count, "width": width, "t": t, "gamma": gamma}
        result = {"distance": numbers(distance), "apart": apart.flatten().tolist(), "upper": read[0], "lower": read[1]}
        yield {"method": "minicache", **shape, **result}


def main(folder):
    parts = {"golden-stick": razor_attention, "golden-stick-vllm": razor_cache, "KVCache-Factory": minicache}
    cases = [case for name, make in parts.items() for case in make(pathlib.Path(folder) / name)]
    write("heads.json", cases)


main(sys.argv[1])
