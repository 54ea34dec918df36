"""What authors' code keeps of a prompt of seeded random queries and keys, and of the tokens decoded after it.

usage: python make_evictions.py CHECKOUTS   a folder with checkouts named as below; writes evictions.json; needs g++

    H2O             github.com/FMInference/H2O                 h2o_hf (MIT by its README)
    TOVA            github.com/schwartz-lab-NLP/TOVA           commit 275cf5f
    streaming-llm   github.com/mit-han-lab/streaming-llm       commit d729b3f
    openvino.genai  github.com/openvinotoolkit/openvino.genai  commit 019a9b5 (Apache-2.0): KVCrush's form by blocks

    python -m venv venv && venv/bin/pip install torch==2.15.0 numpy

Attention at a step is of what is still there. The value of an entry is its number; tensors are drawn again by the test.
"""

import json
import math
import pathlib
import subprocess
import sys
import tempfile

import torch
from definitions import definitions
from draw import module, tensors

DIM = 16


def probabilities(q, k):
    """Causal, [1, heads, queries, entries]; the queries are the last of the entries."""
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    logits = q @ k.transpose(2, 3) / math.sqrt(DIM)
    mask = torch.full(logits.shape[-2:], float("-inf")).triu(1 + k.shape[2] - q.shape[2])
    return (logits + mask).softmax(-1)


def entries(values):
    return [sorted(int(x) for x in head) for head in values[0, :, :, 0]]


def decoded(seed, rows, steps, heads, kv_heads, evict):
    """What is kept after the prompt and after all steps. `evict(k, v, p)` gives what is left of keys and values."""
    q, k = tensors(seed, rows + steps, heads, kv_heads, DIM)
    v = torch.arange(rows + steps, dtype=torch.float32).view(1, 1, -1, 1).expand(1, kv_heads, -1, DIM).contiguous()
    held = evict(k[:, :, :rows], v[:, :, :rows], probabilities(q[:, :, :rows], k[:, :, :rows]))
    after = [entries(held[1])]
    for at in range(rows, rows + steps):
        whole = [torch.cat([old, new[:, :, at : at + 1]], dim=2) for old, new in zip(held, (k, v))]
        held = evict(*whole, probabilities(q[:, :, at : at + 1], whole[0]))
    after.append(entries(held[1]))
    shape = {"seed": seed, "rows": rows, "steps": steps, "heads": heads, "kvHeads": kv_heads}
    return {**shape, "kept": after}


def h2o(checkout):
    file = checkout / "h2o_hf/utils_real_drop/modify_llama.py"
    authors = definitions(file, ["H2OKVCache_LayerWise"])
    for seed, (rows, heads, hitters, recent) in enumerate([(65, 4, 20, 20), (130, 2, 30, 10), (20, 3, 12, 28)], start=61):
        cache = authors.H2OKVCache_LayerWise(hh_size=hitters, recent_size=recent)
        case = decoded(seed, rows, 30, heads, heads, lambda k, v, p: cache((k, v), p))
        budget = hitters + recent
        yield {"method": "h2o", "options": {"budget": budget, "recent": recent / budget}, **case}


def tova(checkout):
    authors = module(checkout, "src/tova_cache.py", transformers__cache_utils=["DynamicCache"])
    for seed, (rows, heads, kv_heads, budget) in enumerate([(65, 4, 4, 40), (130, 6, 2, 50), (20, 8, 1, 33)], start=71):
        cache = authors.TOVACache(budget)

        def evict(k, v, p):
            cache.key_cache, cache.value_cache = [k], [v]
            cache.reduce(0, p)
            # The next query's row counts on the order of the text.
            order = cache.value_cache[0][0, 0, :, 0].argsort()
            return cache.key_cache[0][:, :, order], cache.value_cache[0][:, :, order]

        yield {"method": "tova", "options": {"budget": budget}, **decoded(seed, rows, 30, heads, kv_heads, evict)}


def streaming_llm(checkout):
    authors = module(checkout, "streaming_llm/kv_cache.py")
    for seed, (rows, sinks, recent) in enumerate([(65, 4, 36), (30, 4, 36), (130, 1, 20)], start=81):
        cache = authors.StartRecentKVCache(start_size=sinks, recent_size=recent)
        case = decoded(seed, rows, 30, 2, 2, lambda k, v, _: cache([[k, v]])[0])
        for positions in ("renumbered", "kept"):
            options = {"budget": sinks + recent, "sinks": sinks, "positions": positions}
            yield {"method": "streaming-llm", "options": options, **case}


# What the authors' file includes, as far as it uses it.
HEADER = """
#pragma once
#include <algorithm>
#include <cstddef>
#include <numeric>
#include <stdexcept>
#define OPENVINO_THROW(text) throw std::runtime_error(text)
namespace ov::genai {
enum class KVCrushAnchorPointMode { RANDOM, ZEROS, ONES, MEAN, ALTERNATING };
struct KVCrushConfig {
    size_t budget = 0;
    KVCrushAnchorPointMode anchor_point_mode = KVCrushAnchorPointMode::RANDOM;
    size_t rng_seed = 0;
    size_t get_budget() const { return budget; }
};
}
"""
# In: block, budget, anchor, evicted blocks, scores. Out: a distance for each block, then the blocks that stand in.
MAIN = """
#include "continuous_batching/kvcrush.hpp"
#include <iostream>
int main() {
    size_t block, budget, anchor, evicted, tokens;
    std::cin >> block >> budget >> anchor >> evicted >> tokens;
    std::vector<size_t> out(evicted);
    std::vector<double> scores(tokens);
    for (auto& x : out) std::cin >> x;
    for (auto& x : scores) std::cin >> x;
    ov::genai::KVCrushConfig config;
    config.budget = budget;
    config.anchor_point_mode = ov::genai::KVCrushAnchorPointMode(anchor);
    ov::genai::KVCrushAlgorithm algorithm(config, block);
    auto bits = algorithm.create_indicators_kvcrush(tokens, out, scores);
    auto point = algorithm.create_anchor_point_kvcrush(tokens, bits);
    for (auto& pair : algorithm.calculate_hamming_distance_kvcrush(tokens, bits, point)) std::cout << pair.first << ' ';
    std::cout << '\\n';
    for (auto x : algorithm.get_indices_of_blocks_to_retain_using_kvcrush(tokens, out, scores)) std::cout << x << ' ';
}
"""
ANCHORS = {"zeros": 1, "ones": 2, "mean": 3, "alternating": 4}


def kvcrush(checkout):
    source = checkout / "src/cpp/src"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name in ("continuous_batching/attention_output.hpp", "openvino/genai/cache_eviction.hpp", "openvino/openvino.hpp"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(HEADER if "cache_eviction" in name else "#pragma once\n")
        (folder / "main.cpp").write_text(MAIN)
        program = folder / "kvcrush"
        files = [folder / "main.cpp", source / "continuous_batching/kvcrush.cpp"]
        include = [f"-I{path}" for path in (folder, source)]
        subprocess.run(["g++", "-std=c++17", "-w", *include, *files, "-o", program], check=True)
        seed = 100
        for anchor in ANCHORS:
            for window, block, blocks, room, count in [(16, 32, 8, 3, 2), (9, 16, 9, 4, 2), (32, 64, 7, 3, 1)]:
                case = None
                while case is None:
                    seed += 1
                    case = stand_ins(program, seed, anchor, window, block, blocks, room, count)
                yield case


def stand_ins(program, seed, anchor, window, block, blocks, room, count):
    """The base policy (SnapKV's scores of blocks, over heads) is ours. None where a distance that counts ties."""
    heads, rest = 2, 5
    rows = window + block * blocks + rest
    q, k = tensors(seed, rows, heads, heads, DIM)
    p = probabilities(q[:, :, -window:], k)[0].mean(1)[:, :-window]
    # Not its pooling by maxima, which ties neighbours.
    scores = torch.nn.functional.avg_pool1d(p, 7, stride=1, padding=3).sum(0)[: block * blocks]
    order = scores.view(blocks, block).sum(1).argsort(descending=True).tolist()
    best, evicted = sorted(order[: room - count]), sorted(order[room - count :])
    given = [block, count, ANCHORS[anchor], len(evicted), len(scores), *evicted, *(repr(x) for x in scores.tolist())]
    made = subprocess.run([program], input=" ".join(map(str, given)), capture_output=True, text=True, check=True)
    distances, chosen = ([int(x) for x in line.split()] for line in made.stdout.split("\n"))
    of = [distances[i] for i in evicted]
    if any(of.count(distances[i]) > 1 for i in chosen):
        return None
    kept = [i * block + j for i in sorted([*best, *chosen]) for j in range(block)] + list(range(block * blocks, rows))
    shape = {"seed": seed, "rows": rows, "steps": 0, "heads": heads, "kvHeads": heads}
    options = {"form": "blocks", "block": block, "anchor": anchor, "window": window, "pool": "mean", "width": 7}
    budget = {"budget": room * block + rest + window, "representatives": count / room}
    return {"method": "kvcrush", "options": options | budget, **shape, "kept": [[kept] * heads]}


def main(folder):
    parts = {"H2O": h2o, "TOVA": tova, "streaming-llm": streaming_llm, "openvino.genai": kvcrush}
    cases = [case for name, make in parts.items() for case in make(pathlib.Path(folder) / name)]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (pathlib.Path(__file__).parent / "evictions.json").write_text(f"[\n{lines}\n]\n")


main(sys.argv[1])
