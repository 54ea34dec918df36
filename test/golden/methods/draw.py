"""Seeded random numbers that the tests draw again (plainRandom in src/methods/testing.ts), so that tensors need no file."""

import ast
import importlib.util
import json
import math
import pathlib
import sys
import types

import torch


def mulberry32(seed):
    state = seed & 0xFFFFFFFF
    mask = 0xFFFFFFFF
    while True:
        state = (state + 0x6D2B79F5) & mask
        x = ((state ^ (state >> 15)) * (1 | state)) & mask
        x = ((x + ((x ^ (x >> 7)) * (61 | x) & mask)) & mask) ^ x
        yield (x ^ (x >> 14)) / 2**32


def rows(seed, count, width):
    """f32 [count, width]: cubes of uniform numbers (a few stand out), channel c around and as wide as the seed says."""
    random = mulberry32(seed)
    middle = [2 * next(random) - 1 for _ in range(width)]
    size = [0.5 + 2 * next(random) for _ in range(width)]
    values = [middle[c] + size[c] * (2 * next(random) - 1) ** 3 for _ in range(count) for c in range(width)]
    return torch.tensor(values, dtype=torch.float32).view(count, width)


def stub(name, *classes, **members):
    """Stands for a package of which a checkout only inherits from `classes`, or that it has to call as `members`."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
    for member, value in {**{each: type(each, (), {}) for each in classes}, **members}.items():
        setattr(sys.modules[name], member, value)


def module(checkout, path, **stubs):
    """A file of a checkout as a module; `stubs` stand for packages whose classes it only inherits from."""
    for name, classes in stubs.items():
        stub(name.replace("__", "."), *classes)
    file = pathlib.Path(checkout) / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def pieces(checkout, path, *names, **around):
    """Classes and functions of a file by name, defined among `around`: of files that cannot be imported whole."""
    tree = ast.parse((pathlib.Path(checkout) / path).read_text())
    body = [node for node in tree.body if getattr(node, "name", None) in names]
    exec(compile(ast.Module(body, []), path, "exec"), around)
    return types.SimpleNamespace(**{name: around[name] for name in names})


DIGITS = "0123456789abcdefghijklmnopqrstuv"


def numbers(x):
    return [float(f"{v:.7g}") for v in x.flatten().tolist()]


def digits(codes):
    """One digit of base 32 an element."""
    return "".join(DIGITS[c] for c in codes.flatten().to(torch.int64).tolist())


def write(name, cases):
    """Beside this file, a case a line."""
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (pathlib.Path(__file__).parent / name).write_text(f"[\n{lines}\n]\n")


def attention(q, k):
    """Causal probabilities [1, heads, count, count] of `tensors`."""
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    logits = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
    mask = torch.full(logits.shape[-2:], float("-inf")).triu(1)
    return (logits + mask).softmax(-1)


def tensors(seed, count, heads, kv_heads, dim):
    """q [1, heads, count, dim] and k [1, kv_heads, count, dim]: uniform in (-4, 4) and (-1, 1)."""
    random = mulberry32(seed)
    q = torch.tensor([4 * (2 * next(random) - 1) for _ in range(count * heads * dim)], dtype=torch.float32)
    k = torch.tensor([2 * next(random) - 1 for _ in range(count * kv_heads * dim)], dtype=torch.float32)
    return q.view(1, count, heads, dim).transpose(1, 2), k.view(1, count, kv_heads, dim).transpose(1, 2)
