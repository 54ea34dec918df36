"""Chooses a GGUF block type for every matrix: the least predicted loss within a number of bytes.

usage: python choose_types.py MODEL.safetensors CALIBRATION.npz OUT.json [--bytes N] [--types Q5_0,Q6_K,...]

The predicted loss of a matrix in a type is the second-order KL divergence of calibrate.py (nats a token), for the blocks
that blocks.py makes of it. Types are traded one step at a time along the lower convex hull of (bytes, loss) of every matrix.
"""

import argparse
import json
import pathlib
import pickle

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q
from safetensors.torch import load_file

import blocks

EMBEDDING = "model.embed_tokens.weight"
TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0"]
BUDGET = 24 * 1024 * 1024 - 325_000  # 24 MiB less metadata and norms


def moments_of(name, calibration):
    """Second moments to quantize by. The embedding is also looked up row by row, where every channel counts alike."""
    a = calibration[f"{name}.input"].astype(np.float64)
    if name == EMBEDDING:
        square = np.diag(a)
        return square / square.mean() + 1.0
    return a


def predicted_loss(name, error, calibration):
    """Half the sum over rows r of output[r] * error[r] input error[r]'."""
    a, g = calibration[f"{name}.input"].astype(np.float64), calibration[f"{name}.output"]
    return 0.5 * float((g * np.einsum("rc,rc->r", error @ a, error)).sum())


def table(state, calibration, types, cache=None):
    """name -> type -> (bytes, loss, blocks); `cache` is a file that keeps what was computed before."""
    path = pathlib.Path(cache) if cache else None
    out = pickle.loads(path.read_bytes()) if path and path.exists() else {}
    for name, tensor in state.items():
        if tensor.ndim == 1:
            continue
        x = tensor.float().numpy()
        for t in types:
            qtype = Q[t]
            if t in out.setdefault(name, {}) or x.shape[1] % gguf.GGML_QUANT_SIZES[qtype][0]:
                continue
            packed = blocks.quantize(x, qtype, moments_of(name, calibration))
            loss = predicted_loss(name, x - gguf.quants.dequantize(packed, qtype), calibration)
            out[name][t] = (packed.size, loss, packed)
        print(name, {t: f"{v[1]:.2e}" for t, v in out[name].items()}, flush=True)
    if path:
        path.write_bytes(pickle.dumps(out))
    return out


def allocate(choices, budget):
    """choices: name -> type -> (bytes, loss, ...) -> name -> type."""
    steps, chosen = [], {}
    for name, types in choices.items():
        points = sorted((v[0], v[1], t) for t, v in types.items())
        hull = [points[0]]
        for p in points[1:]:
            if p[1] >= hull[-1][1]:
                continue
            slope = lambda a, b: (a[1] - b[1]) / max(1, b[0] - a[0])
            while len(hull) > 1 and slope(hull[-2], hull[-1]) < slope(hull[-1], p):
                hull.pop()
            if hull[-1][0] == p[0]:
                hull.pop()
            hull.append(p)
        chosen[name] = hull[0]
        steps += [((a[1] - b[1]) / (b[0] - a[0]), name, b) for a, b in zip(hull, hull[1:])]
    used = sum(p[0] for p in chosen.values())
    for _, name, p in sorted(steps, key=lambda s: -s[0]):
        cost = p[0] - chosen[name][0]
        if cost > 0 and used + cost <= budget:
            used += cost
            chosen[name] = p
    return {name: p[2] for name, p in chosen.items()}, used


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("calibration")
    parser.add_argument("out")
    parser.add_argument("--bytes", type=int, default=BUDGET)
    parser.add_argument("--types", default=",".join(TYPES))
    parser.add_argument("--cache")
    options = parser.parse_args()
    types = options.types.split(",")
    choices = table(load_file(options.model), np.load(options.calibration), types, options.cache)
    choices = {n: {t: v for t, v in c.items() if t in types} for n, c in choices.items()}
    chosen, used = allocate(choices, options.bytes)
    loss = sum(choices[n][t][1] for n, t in chosen.items())
    print(f"{used} bytes, predicted loss {loss:.5f}")
    for t in types:
        fits = all(t in c for c in choices.values())
        if fits:
            print(
                f"all {t}: {sum(c[t][0] for c in choices.values())} bytes, {sum(c[t][1] for c in choices.values()):.5f}"
            )
    pathlib.Path(options.out).write_text(json.dumps(chosen, indent=1) + "\n")


if __name__ == "__main__":
    main()
