<<<<<<< HEAD
"""What the code of CAKE's, WindowKV's, PrefixKV's and FastKV's authors keeps of seeded random tensors, layer by layer.

usage: python make_layers.py CAKE WINDOWKV PREFIXKV FASTKV      folders with a checkout each; writes layers.json

    python -m venv venv && venv/bin/pip install torch==2.15.0 numpy

    CAKE      github.com/qtris123/cakekv, commit e6adc5e: a copy of antgroup/cakekv
    WINDOWKV  github.com/optim996/WindowKV, commit 002a559
    PREFIXKV  github.com/THU-MIG/PrefixKV, commit 39b7265
    FASTKV    baseline/fastkv/fastkv_utils.py of a copy of github.com/dongwonjo/FastKV (README.md)

What was read of them names no licence: nothing of theirs is kept but numbers that their functions return.
"""

import contextlib
import importlib
import io
import json
import os
import pathlib
import sys
import tempfile
import typing
from types import SimpleNamespace

import torch
from draw import attention, module, stub, tensors, write
=======
"""Which heads retrieve, and what two layers share: others' code on seeded random rows.

usage: python make_layers.py CHECKOUTS      a folder with checkouts named as below; writes layers.json

    golden-stick       github.com/mindspore-ai/golden-stick  commit d3b3e1e (Apache-2.0): RazorAttention's vendor
    golden-stick-vllm  the same, a release with mindspore_gs/long_context_compress, whose cells drop entries
    KVCache-Factory    github.com/Zefan-Cai/KVCache-Factory  commit d2a0340: MiniCache, not by its authors

    python -m venv venv && venv/bin/pip install torch==2.15.0 numpy

MindSpore's functions are stood for by torch's. Tensors are drawn again by the test.
"""

import json
import pathlib
import sys
from types import SimpleNamespace

import torch
from definitions import definitions
from draw import module, rows, tensors
>>>>>>> 92987a6 (Hold RazorAttention's heads and MiniCache's pairs against others' code)

DIM = 16


<<<<<<< HEAD
def prompt(seed, rows, heads, kv_heads, sharp):
    """q, k and v of each layer; queries of layer l are sharp[l] times as large. The value of an entry is its number."""
    v = torch.arange(rows, dtype=torch.float32).view(1, 1, rows, 1).expand(1, kv_heads, rows, DIM).contiguous()
    drawn = [tensors(1000 * seed + layer, rows, heads, kv_heads, DIM) for layer in range(len(sharp))]
    return [(scale * q, k, v) for scale, (q, k) in zip(sharp, drawn)]


def entries(values):
    """Entries of each head, ascending, of values [1, heads, count, DIM]."""
    return [sorted(int(x) for x in head[:, 0]) for head in values[0]]


def load_cake(checkout):
    stub("transformers.cache_utils", "Cache", "DynamicCache", "HybridCache", "StaticCache")
    stub("transformers.models.llama.configuration_llama", "LlamaConfig")
    stub("transformers.modeling_flash_attention_utils", _flash_attention_forward=lambda q, *_, **__: q)
    stub(
        "transformers.models.llama.modeling_llama",
        "BaseModelOutputWithPast",
        List=typing.List,
        Union=typing.Union,
        logger=SimpleNamespace(warning_once=lambda _: None),
        apply_rotary_pos_emb=lambda q, k, *_: (q, k),
        repeat_kv=lambda x, times: x.repeat_interleave(times, dim=1),
    )
    sys.path.insert(0, checkout)
    return importlib.import_module("cake.model.modify_llama"), importlib.import_module("cake.cake_cache")


def cake(authors, layers, budget, window, gamma, entropy, shift):
    model, cache_code = authors
    (heads, kv_heads), count = (layers[0][0].shape[1], layers[0][1].shape[1]), len(layers)
    evict = cache_code.CakeprefillKVCache(
        cache_size=budget, window_size=window, num_heads=heads, num_layers=count, use_cascading=True
    )
    config = SimpleNamespace(
        window_size=[window] * count,
        key_size=[budget - window] * count,
        prefill=[True] * count,
        prefill_cake_evict=[evict] * count,
        decoding_evict=[None] * count,
        gamma=gamma,
        tau1=entropy,
        tau2=shift,
        _pre_quantization_dtype=torch.float32,
    )
    cache = cache_code.CakeCache()
    for index, tensors_of in enumerate(layers):
        q, k, v = (x.transpose(1, 2).flatten(2) for x in tensors_of)
        layer = SimpleNamespace(
            config=config,
            layer_idx=index,
            num_heads=heads,
            num_key_value_heads=kv_heads,
            num_key_value_groups=heads // kv_heads,
            head_dim=DIM,
            training=False,
            attention_dropout=0.0,
            is_causal=True,
            _flash_attn_uses_top_left_mask=False,
            q_proj=lambda _, q=q: q,
            k_proj=lambda _, k=k: k,
            v_proj=lambda _, v=v: v,
            o_proj=torch.nn.Identity(),
        )
        with contextlib.redirect_stdout(io.StringIO()):
            model.llama_attn_forward_cake(layer, q, past_key_value=cache, position_embeddings=(None, None))
    return [entries(values) for values in cache.value_cache]


def windowkv(authors, layers, budget, window, size, shared, beta, task):
    """One set a layer. Without the window, which the authors' budget does not count."""
    cluster_of = authors.WindowKVCluster
    cluster_of.layers_budget = cluster_of.cached_selected_window_indices = None
    kept = []
    for index, (q, k, v) in enumerate(layers):
        cluster = cluster_of(
            num_hidden_layers=len(layers),
            layer_idx=index,
            review_window_size=size,
            win_max_attn_scores=size // 2,
            shared_layers=shared,
            suffix_size=window,
            beta=beta,
            max_capacity_prompt=budget - window,
            layer_decay_strategy="arithmetic",
            window_select_strategy={"localise": "max", "aggregate": "average"}[task],
        )
        group = q.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
        heads = entries(cluster.update_kv(k, q, v, None, group)[1])
        assert all(head == heads[0] for head in heads)
        kept.append(heads[:1])
    return kept


def fastkv(authors, layers, budget, window, turn, run_on, pool, width):
    kept = []
    chosen = None
    for index, tensors_of in enumerate(layers):
        q, k, v = tensors_of if chosen is None else (x[:, :, chosen[0]] for x in tensors_of)
        cluster = authors.FastKVCluster(
            window_size=window,
            max_capacity_prompt=budget,
            kernel_size=width,
            pooling={"max": "maxpool", "mean": "avgpool"}[pool],
            tsp_layer=index == turn,
            tsp_length=run_on,
        )
        _, values, rows = cluster.update_kv(k, q, v, None, q.shape[1] // k.shape[1], index)
        kept.append(entries(values))
        if rows is not None:
            chosen = rows
    return kept, chosen[0].tolist()


def prefixkv(authors, profiled, layers, ratio, steps):
    """Shares that layers forget by the profile of one prompt; one set a layer of another, and after some decoding."""
    common = {"model_name": "any", "start_size": 1, "ratio": ratio, "layer_num": len(layers)}
    rows = layers[0][1].shape[2]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.mkdir("samples")
        os.mkdir("confs")
        scores = [attention(q, k) for q, k, _ in profiled]
        count = profiled[0][1].shape[2]
        authors.PrefixKV(**common, profile=True)([(k, v) for _, k, v in profiled], count, scores)
        line = pathlib.Path(f"samples/prefixkv_any_{ratio}.jsonl").read_text()
        pathlib.Path(f"confs/prefixkv_any_{ratio}.json").write_text(line)
        press = authors.PrefixKV(**common)
        cache = press([(k, v) for _, k, v in layers], rows, [attention(q, k) for q, k, _ in layers])
        kept = [entries(v)[:1] for _, v in cache]
        for step in range(steps):
            new = torch.full_like(layers[0][2][:, :, :1], rows + step)
            cache = [(torch.cat([k, new], 2), torch.cat([v, new], 2)) for k, v in cache]
            cache = press(cache, rows + step + 1, [torch.zeros(1, 1, 1, k.shape[2]) for k, _ in cache])
    return json.loads(line), kept, [entries(v)[:1] for _, v in cache]


def main(of_cake, of_windowkv, of_prefixkv, of_fastkv):
    cake_code = load_cake(of_cake)
    stub("args_demo", parse_args_func=SimpleNamespace)
    window_code = module(of_windowkv, "models/compress_utils.py")
    prefix_code = module(of_prefixkv, "prefixkv.py")
    fast_code = module(of_fastkv, "baseline/fastkv/fastkv_utils.py")
    cases = []

    def add(method, options, shape, kept, **more):
        cases.append({"method": method, "options": options, **shape, "kept": kept, **more})

    for seed, (rows, heads, kv_heads) in enumerate([(130, 4, 4), (203, 6, 2), (257, 8, 1)], start=21):

        def drawn(sharp, seed=seed):
            shape = {"seed": seed, "rows": rows, "heads": heads, "kvHeads": kv_heads, "sharp": sharp}
            return shape, prompt(seed, rows, heads, kv_heads, sharp)

        spreads = [([1, 1, 1, 1], 40, 1.6, 0.8), ([0.5, 2, 1, 0.25], 40, 0.8, 2)]
        # Here two layers keep all their tokens.
        if rows == 130:
            spreads.append(([0.5, 0.5, 0.5, 0.5, 4, 4], 60, 1.6, 0.4))
        for sharp, budget, entropy, shift in spreads:
            shape, layers = drawn(sharp)
            options = {"budget": budget, "window": 16, "gamma": 200, "entropy": entropy, "shift": shift}
            add("cake", options, shape, cake(cake_code, layers, **options))
        shape, layers = drawn([0.5, 2, 1, 0.25])
        for task, beta, shared in (("localise", 14, 1), ("localise", 14, 2), ("aggregate", 7, 1), ("aggregate", 7, 2)):
            options = {"budget": 70, "window": 10, "size": 8, "beta": beta, "task": task}
            kept = windowkv(window_code, layers, shared=shared, **options)
            add("windowkv", {**options, "layers": shared}, shape, kept)
        for pool, rate in (("max", 0.4), ("mean", 0.25)):
            options = {"budget": 30, "window": 8, "pool": pool, "width": 7}
            kept, chosen = fastkv(fast_code, layers, turn=1, run_on=int(rate * rows + 1e-9), **options)
            add("fastkv", {**options, "rate": rate, "layer": 1}, shape, kept, chosen=chosen)
        shape, layers = drawn([0.25, 1, 4, 16])
        _, other = drawn([0.25, 1, 4, 16], seed + 50)
        for ratio in (0.5, 0.8):
            forgets, kept, after = prefixkv(prefix_code, other, layers, ratio, 20)
            add("prefixkv", {"keep": round(1 - ratio, 2)}, shape, kept, forgets=forgets, after=after)
    write("layers.json", cases)


main(*sys.argv[1:])
=======
def numbers(x):
    return [float(f"{v:.7g}") for v in torch.as_tensor(x).flatten().tolist()]


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
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (pathlib.Path(__file__).parent / "layers.json").write_text(f"[\n{lines}\n]\n")


main(sys.argv[1])
>>>>>>> 92987a6 (Hold RazorAttention's heads and MiniCache's pairs against others' code)
