"""What the code of CAKE's, WindowKV's, PrefixKV's and FastKV's authors keeps of seeded random tensors, layer by layer.

usage: python make_kept_layers.py CAKE WINDOWKV PREFIXKV FASTKV      folders with a checkout each; writes kept-layers.json

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

DIM = 16


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
    write("kept-layers.json", cases)


main(*sys.argv[1:])
