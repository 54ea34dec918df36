"""Order of channels, codes and parameters that RotateKV's authors' code makes of seeded random rows; tokens kept exact.

usage: python make_rotatekv.py CHECKOUTS    a folder with checkouts named as below; writes rotatekv.json

    RotateKV                 github.com/ZunhaiSu/RotateKV                commits 11450d1, 02c5a79 (RotateKV_fake_quant)
    fast-hadamard-transform  github.com/Dao-AILab/fast-hadamard-transform commit 6181c38 (BSD-3): its plain reference

    python -m venv venv && venv/bin/pip install torch==2.15.0 numpy scipy

Their projections of keys and values are fused with rotation and order; being the identity before, they take rows of keys
and values to what is quantized. Inputs are drawn again by the test; codes are one digit of base 32 an element,
[tokens][channels] in the order in which they are stored.
"""

import ast
import contextlib
import io
import math
import pathlib
import sys
from types import SimpleNamespace

import torch
from draw import digits, module, mulberry32, numbers, rows, write

TOKENS = 64


def order_of(authors, hadamard, seed, heads, dim):
    """Their calibration; every sample is the same 16 rows, and so is every layer."""
    width = heads * dim
    rotated = hadamard(rows(seed, 16, width), scale=1 / math.sqrt(width)).view(1, 16, heads, dim).transpose(1, 2)
    saved = []

    class Torch:
        """torch with files in memory and another width of the model."""

        load = staticmethod(lambda _: rotated)
        save = staticmethod(lambda indices, _: saved.append(indices))
        empty = staticmethod(lambda _: torch.empty(0, width))

        def __getattr__(self, name):
            return getattr(torch, name)

    authors.torch = Torch()
    # Their script does not define it.
    authors.sample_num = 0
    with contextlib.redirect_stdout(io.StringIO()):
        authors.main()
    return saved[0][0]


def fused(authors, order, heads, dim):
    """Functions that take rows of keys and of values to what is quantized, [1, heads, tokens, dim]."""
    width = heads * dim
    names = ["k_proj", "v_proj", "o_proj"]
    attention = SimpleNamespace(**{name: torch.nn.Linear(width, width, bias=False) for name in names})
    for name in names:
        getattr(attention, name).weight.data = torch.eye(width)
    config = SimpleNamespace(num_attention_heads=heads, hidden_size=width)
    authors.args.head_group_num = heads
    authors.torch.load = lambda _: order.view(1, width)
    model = SimpleNamespace(layers=[SimpleNamespace(self_attn=attention)])
    authors.fuse_weights(SimpleNamespace(config=config, model=model))
    take = lambda proj: lambda x: proj(x).detach().view(1, -1, heads, dim).transpose(1, 2)
    return take(attention.k_proj), take(attention.v_proj)


def whole(seed, width, group, bits):
    """f64 [tokens][width] of which each group has 2^bits - 1 steps, zero being a whole number of them."""
    levels = 2**bits - 1
    random = mulberry32(seed + 1000)
    x = rows(seed, TOKENS, width).double().view(-1, group)
    step = torch.empty(len(x), 1, dtype=torch.float64)
    below = torch.empty(len(x), 1, dtype=torch.float64)
    for i in range(len(x)):
        step[i] = (8 + math.floor(8 * next(random))) / 16
        below[i] = 1 + math.floor((levels - 1) * next(random))
    least, most = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    return ((x - least) / (most - least) * levels * step - below * step).view(TOKENS, width)


def encoded(authors, x, clip, bits, group):
    """Scale and zero [tokens][width / group]."""
    scale, zero = authors.find_params_per_token_groupwise(x, clip, bits, group)
    codes, _, _ = authors.asym_quant(x, scale, zero, torch.tensor(2**bits - 1))
    flat = lambda y: y.transpose(1, 2).reshape(TOKENS, -1)
    return {
        "codes": digits(flat(codes)),
        "scale": numbers(flat(scale)[:, ::group]),
        "zero": numbers(flat(zero)[:, ::group]),
    }


def peaks(checkout, hidden):
    """Tokens that stay exact: the statement of LlamaModel.forward that finds them, run alone."""
    source = (checkout / "RotateKV_fake_quant/modeling_llama_RotateKV.py").read_text()
    model = next(node for node in ast.parse(source).body if getattr(node, "name", "") == "LlamaModel")
    loops = [node for node in ast.walk(model) if isinstance(node, ast.For) and "topk" in ast.unparse(node)]
    found = min(loops, key=lambda node: len(ast.unparse(node)))
    around = {"torch": torch, "hidden_states": hidden, "pivot_index_list": []}
    exec(compile(ast.Module([found], []), "pivots", "exec"), around)
    return sorted(set(around["pivot_index_list"][0].tolist()))


def main(folder):
    folder = pathlib.Path(folder)
    checkout = folder / "RotateKV"
    interface = "fast-hadamard-transform/fast_hadamard_transform/fast_hadamard_transform_interface.py"
    hadamard = module(folder, interface, fast_hadamard_transform_cuda=[]).hadamard_transform_ref
    sys.modules["fast_hadamard_transform"] = SimpleNamespace(hadamard_transform=hadamard)
    # A model that their calibration has no numbers for: 32 layers, 81 samples.
    sys.modules["utils"] = SimpleNamespace(parser_gen=lambda: SimpleNamespace(model="other"))
    sys.modules["tqdm"] = SimpleNamespace(tqdm=lambda layers, **_: layers)
    torch.Tensor.cuda = lambda self: self
    calibration = module(checkout, "k_reordering_calibration.py")
    weights = module(checkout, "fuse_weights.py")
    weights.torch = SimpleNamespace(**vars(torch))
    quant = module(checkout, "RotateKV_fake_quant/fake_quant.py")
    cases = []
    shapes = [(2, 4, 16, 16, 1, True), (4, 2, 32, 32, 1, True), (2, 2, 32, 16, 0.8, False), (4, 4, 16, 16, 1, False)]
    for seed, (bits, heads, dim, group, clip, steps) in enumerate(shapes, start=71):
        width = heads * dim
        order = order_of(calibration, hadamard, seed + 100, heads, dim)
        to_k, to_v = fused(weights, order, heads, dim)
        k, v = rows(seed, TOKENS, width), rows(seed + 10, TOKENS, width)
        if steps:
            turn = lambda n: hadamard(torch.eye(n, dtype=torch.float64), scale=1 / math.sqrt(n))
            rotated = torch.empty(TOKENS, width, dtype=torch.float64)
            rotated[:, order] = whole(seed, width, group, bits)
            k = (rotated @ turn(width)).float()
            v = (whole(seed + 10, width, group, bits).view(-1, dim) @ turn(dim)).float().view(TOKENS, width)
        hidden = rows(seed + 20, TOKENS, 24)
        cases.append(
            {
                "options": {"bits": bits, "heads": heads, "group": group, "clip": clip},
                **{"seed": seed, "headDim": dim, "whole": steps, "order": order.tolist()},
                "k": encoded(quant, to_k(k), clip, bits, group),
                "v": encoded(quant, to_v(v), clip, bits, group),
                "exact": peaks(checkout, hidden.view(1, TOKENS, -1)),
            }
        )
    write("rotatekv.json", cases)


main(sys.argv[1])
