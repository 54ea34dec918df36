"""What authors' code reads at a step of seeded random keys, and the numbers by which it chooses.

usage: python make_reads.py CHECKOUTS       a folder with checkouts named as below; writes reads.json

    MPCache        github.com/zwxandy/MPCache         commit 0efc1a1 (MIT)
    ActQKV         github.com/MrXiaoaa/ActQKV         commit 097980e
    Long_Infer_KV  github.com/ustc-sunny/Long_Infer_KV commit 847fb35: LeoAM

    python -m venv venv && venv/bin/pip install torch==2.15.0 numpy

Tensors are drawn again by the test.
"""

import json
import pathlib
import sys
from types import SimpleNamespace

import torch
from definitions import definitions
from draw import module, rows, tensors

DIM = 16


def numbers(x):
    return [float(f"{v:.7g}") for v in x.flatten().tolist()]


def mpcache(checkout):
    """Numbers of the runs of 16 that each head reads at a step, the last of which ends with the token that asks."""
    utils = module(checkout, "utils.py")
    heads = 2
    seed = 200
    for count in (240, 560, 880):
        while True:
            seed += 1
            q, k = tensors(seed, count, heads, heads, DIM)
            # With the first and the last group among the best they take the place of others there, and not with us.
            most, least, _ = utils.group_key_min_max(k, group_size=32)
            bound = (q[:, :, -1:] * (0.6 * most + 0.4 * least)).sum(-1)[0]
            best = bound.topk(bound.shape[1] // 2).indices
            if not ((best == 0) | (best == bound.shape[1] - 1)).any():
                runs = step(checkout, utils, q[:, :, -1:], k)
                if all(len(head) == count // 16 // 5 + 2 for head in runs):
                    break
        yield {"method": "mpcache", "seed": seed, "rows": count, "heads": heads, "runs": runs}


def step(checkout, utils, q, k):
    """The decoding branch of the authors' attention, everything kept by their static selection."""
    heads, count = k.shape[1:3]
    authors = definitions(
        checkout / "llama_flash_attn_monkey_patch_compression.py",
        ["forward"],
        apply_rotary_pos_emb=lambda query, key, *_: (query, key),
        skip_layer_idx=[],
        is_print_dynamic=False,
        dynamic_ratio=[],
        **{name: getattr(utils, name) for name in ("group_key_min_max", "groupidx_to_tokenidx", "groupidx_to_groupidx")},
    )
    flat = lambda x: x.transpose(1, 2).reshape(1, 1, -1)
    layer = SimpleNamespace(
        **{"num_heads": heads, "head_dim": DIM, "hidden_size": heads * DIM},
        q_proj=lambda _: flat(q),
        k_proj=lambda _: flat(k[:, :, -1:]),
        v_proj=lambda _: flat(k[:, :, -1:]),
        o_proj=lambda x: x,
        rotary_emb=lambda *_, **__: (None, None),
        attn_static_mask=torch.zeros(1, 1, 1, count - 1),
        ic_token_idx=torch.arange(count - 1).view(-1, 1),
        base_dynamic_mask=torch.full((1, heads, 1, count - 1), torch.finfo(torch.float32).min),
    )
    past = (k[:, :, :-1], k[:, :, :-1])
    authors.forward(layer, torch.zeros(1, 1, heads * DIM), past_key_value=past, layer_idx=2)
    read = (layer.attn_dynamic_mask[0, :, 0] == 0).view(heads, -1, 16)
    assert (read.all(-1) == read.any(-1)).all()
    return [head.nonzero().flatten().tolist() for head in read.all(-1)]


def actqkv(checkout):
    file = checkout / "benchmark/actqkv/attention/context_manager_activate_3_dev.py"
    names = ["predict_current_budget", "VectorTensor.get_topk", "VectorTensor.adjust_tok_K"]
    names += ["ContextManager.activate", "ContextManager.punish_percent_k"]
    layers, history, upper, window, width, blocks = 4, 5, 6, 16, 32, 40
    for seed, weight in enumerate([0, 4], start=211):
        authors = definitions(
            file,
            names,
            **{"layer_num": layers, "attention_num": 0, "inference_step": 0, "warmup_step": 100},
            **{"token_budget": 1000, "remaining_budget": 0, "total_samples": [[] for _ in range(layers)]},
            **{"total_mean_score": [], "total_variance": [], "total_sample_size": []},
            **{"overall_mean": 0, "overall_variance": 0, "global_h_var": None, "global_h_mean": None},
            **{"global_thr_v": 8.0, "global_h_count": 0, "global_h_upper": upper, "global_activate_k": 0.02},
        )
        manager = authors.ContextManager()
        drawn = rows(seed, (upper + 3) * window + blocks + 1, width)
        store = authors.VectorTensor()
        store.data, store.length, store.hidden_size = drawn[-blocks - 1 : -1], blocks, width
        store.question, store.question_weight = (drawn[-1], weight) if weight else (None, weight)
        scores = []
        for at in range(upper + 3):
            queries = drawn[at * window : (at + 1) * window]
            bias = manager.activate(queries).mean(dim=1, keepdim=True)
            chosen, of = store.get_topk(queries, bias / bias.sum(), blocks)
            scores.append([float(f"{x:.7g}") for x in of])
        # One for each window, all of them put down to the first layer.
        evenness = numbers(torch.tensor(authors.total_samples[0]))
        shape = {"windows": upper + 3, "window": window, "width": width, "blocks": blocks, "upper": upper}
        yield {"method": "actqkv", "seed": seed, **shape, "weight": weight, "scores": scores, "evenness": evenness}
    # Histories as they stand when a layer has measured its own scores, which come last.
    histories = rows(213, layers, history).abs().div(4).clamp(max=1)
    parts = []
    left = 4 * 46
    for layer in range(layers):
        samples = histories.tolist()
        own = samples[layer].pop()
        authors.inference_step = layers + 1
        # Means are taken of full histories, the one that slides out included before.
        samples[layer].insert(0, 0.0)
        part, left, *_ = authors.predict_current_budget(torch.tensor(own), layer, [], [], [], samples, left, 92, 8, history)
        parts.append(part)
    yield {"method": "actqkv", "seed": 213, "layers": layers, "history": history, "mean": 46, "least": 8, "most": 92, "parts": parts}


def leoam(checkout):
    """Bounds of q . k for each chunk."""
    authors = module(checkout, "speedup/longinfer/longinfer/adaptive_kv_manager.py")
    for seed, chunk in enumerate([8, 32], start=221):
        x = rows(seed, 4 * chunk + 1, DIM)
        bounds = [authors.get_min_max_score(x[-1:], authors.get_kv_abstract(part)) for part in x[:-1].split(chunk)]
        lower, upper = zip(*bounds)
        yield {"method": "leoam", "seed": seed, "chunk": chunk, "lower": numbers(torch.cat(lower)), "upper": numbers(torch.cat(upper))}


def main(folder):
    parts = {"MPCache": mpcache, "ActQKV": actqkv, "Long_Infer_KV": leoam}
    cases = [case for name, make in parts.items() for case in make(pathlib.Path(folder) / name)]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (pathlib.Path(__file__).parent / "reads.json").write_text(f"[\n{lines}\n]\n")


main(sys.argv[1])
