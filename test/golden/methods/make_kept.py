"""What kvpress keeps of seeded random queries and keys.

usage: python make_kept.py            writes kept.json

    python -m venv venv && venv/bin/pip install kvpress==0.5.5 torch==2.15.0

Presses are called on a stand-in for an attention layer: its query projection is the identity and its rotary table turns
nothing, so that hidden states are the queries. Tensors come from mulberry32 and are not stored: the test draws them again.
"""

import json
import pathlib
from types import SimpleNamespace

import torch
from draw import attention, tensors
from kvpress import AdaKVPress, ObservedAttentionPress, PyramidKVPress, SnapKVPress, StreamingLLMPress, TOVAPress

DIM = 16


def layer(heads, kv_heads, index=0, layers=4):
    config = SimpleNamespace(
        num_attention_heads=heads, num_key_value_heads=kv_heads, num_hidden_layers=layers, _attn_implementation="sdpa"
    )
    return SimpleNamespace(config=config, head_dim=DIM, layer_idx=index, q_proj=torch.nn.Identity())


def run(press, q, k, module, eager=False):
    """Kept entries of each KV head, ascending, and the scores before the protected ones were raised."""
    rows = q.shape[2]
    hidden = q.transpose(1, 2).reshape(1, rows, -1)
    rope = (torch.ones(1, rows, DIM), torch.zeros(1, rows, DIM))
    # The value of an entry is its number.
    v = torch.arange(rows, dtype=torch.float32).view(1, 1, rows, 1).expand(1, k.shape[1], rows, DIM)
    probabilities = attention(q, k) if eager else None
    args = (module, hidden, k, v, probabilities, {"position_embeddings": rope})
    scorer = press.press if isinstance(press, AdaKVPress) else press
    scores = scorer.score(*args)
    _, kept = press.compress(*args)
    if isinstance(press, AdaKVPress):
        _, head, entry = module.masked_key_indices
        evicted = set(zip(head.tolist(), entry.tolist()))
        return [[i for i in range(rows) if (h, i) not in evicted] for h in range(k.shape[1])], scores[0]
    return [sorted(int(x) for x in kept[0, h, :, 0]) for h in range(k.shape[1])], scores[0]


def main():
    cases = []
    for seed, (rows, heads, kv_heads) in enumerate([(65, 4, 4), (130, 8, 1), (257, 6, 2)], start=1):
        q, k = tensors(seed, rows, heads, kv_heads, DIM)

        def add(method, options, press, drop, index=0, eager=False, scored=False):
            kept, scores = run(press, q, k, layer(heads, kv_heads, index), eager)
            scores = scores[:, : rows - drop]
            cases.append(
                {
                    "method": method,
                    "options": options,
                    "seed": seed,
                    "rows": rows,
                    "heads": heads,
                    "kvHeads": kv_heads,
                    "layer": index,
                    "kept": kept,
                    **({"scores": [[float(f"{x:.7g}") for x in head] for head in scores.tolist()]} if scored else {}),
                }
            )

        for ratio in (0.3, 0.7):
            budget = max(1, int(rows * (1 - ratio)))
            snap = {"window": 16, "pool": "mean", "width": 5}
            snapkv = SnapKVPress(compression_ratio=ratio, window_size=16, kernel_size=5)
            add("snapkv", {"budget": budget, **snap}, snapkv, 16, scored=ratio == 0.3)
            # With a floor kvpress and the authors' code deal budgets out differently.
            add("adakv", {"budget": budget, "alpha": 0, **snap}, AdaKVPress(snapkv, alpha_safeguard=0), 16)
            add("tova", {"budget": budget, "recent": 1}, TOVAPress(ratio), 1, scored=ratio == 0.3)
            add("streaming-llm", {"budget": budget, "positions": "kept"}, StreamingLLMPress(ratio, n_sink=4), 0)
            h2o = {"budget": budget, "recent": 0, "average": True}
            add("h2o", h2o, ObservedAttentionPress(ratio), 0, eager=True, scored=ratio == 0.3)
        # kvpress computes PyramidKV's budgets from a ratio and counts the window in them: only its scores are ours.
        pyramid = {"budget": 40, "window": 8, "pool": "mean", "width": 7}
        press = PyramidKVPress(compression_ratio=0.8, window_size=8, kernel_size=7)
        add("pyramidkv", pyramid, press, 8, index=2, scored=True)
    for case in cases:
        if case["method"] == "pyramidkv":
            del case["kept"]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (pathlib.Path(__file__).parent / "kept.json").write_text(f"[\n{lines}\n]\n")


main()
