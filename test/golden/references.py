"""Reference logits: prompts, one eager float32 pass per prompt, greedy continuations, and the file they are kept in.

A golden file is safetensors. For every prompt of n tokens:
  n.ids        i32[n]       token ids
  n.positions  i32[p]       positions whose logits are kept (all of them up to 65 tokens)
  n.logits     f32[p, V]    logits there; or, for large vocabularies, n.top_ids i32[p, 20] and n.top_logits f32[p, 20]
  n.argmax     i32[n]       highest logit at every position (lowest id first), ...
  n.maximum    f32[n]       ... its value ...
  n.logsumexp  f32[n]       ... and log of the sum of exponentials
and for the continued prompts n.greedy i32[64] and n.gap f32[64], the distance from the first to the second logit.
The metadata names the model and, for tiny models, how far float32 lies from a float64 pass.
"""

import json
import pathlib

import torch
from safetensors.torch import save

GOLDEN = pathlib.Path(__file__).parent
GREEDY = 64


def positions_of(n, count=24):
    """All positions of a short prompt, else `count` of them, both ends and the borders of tiles included."""
    if n <= 65:
        return list(range(n))
    fixed = {p for p in (0, 1, 62, 63, 64, 65, 511, 512, 513, n - 2, n - 1) if p < n}
    rest = count - len(fixed)
    return sorted(fixed | {round(i * (n - 1) / (rest + 1)) for i in range(1, rest + 1)})


@torch.no_grad()
def logits_of(model, ids):
    """Logits [n, V] of one pass without a cache."""
    return model(torch.tensor([ids]), use_cache=False).logits[0].float()


@torch.no_grad()
def continue_greedily(model, ids, steps=GREEDY):
    """-> (ids, gaps) of `steps` greedy tokens, stop tokens ignored."""
    out, gaps, past, x = [], [], None, torch.tensor([ids])
    for _ in range(steps):
        r = model(x, past_key_values=past, use_cache=True)
        past = r.past_key_values
        best = r.logits[0, -1].float().topk(2)
        out.append(best.indices[0].item())
        gaps.append((best.values[0] - best.values[1]).item())
        x = torch.tensor([[out[-1]]])
    return out, gaps


def record(model, prompts, continued=(), top=None):
    """prompts: lists of ids -> the tensors of a golden file."""
    tensors = {}
    for ids in prompts:
        n = len(ids)
        logits = logits_of(model, ids)
        at = positions_of(n)
        put = lambda key, value, n=n: tensors.__setitem__(f"{n}.{key}", value.contiguous())
        put("ids", torch.tensor(ids, dtype=torch.int32))
        put("positions", torch.tensor(at, dtype=torch.int32))
        if top:
            best = logits[at].topk(top)
            put("top_ids", best.indices.to(torch.int32))
            put("top_logits", best.values)
        else:
            put("logits", logits[at])
        put("argmax", logits.argmax(-1).to(torch.int32))
        put("maximum", logits.max(-1).values)
        put("logsumexp", logits.logsumexp(-1))
        if n in continued:
            greedy, gaps = continue_greedily(model, ids)
            put("greedy", torch.tensor(greedy, dtype=torch.int32))
            put("gap", torch.tensor(gaps))
    return tensors


def pick_prompts(model, lengths, continued, seed, low=4, least_gap=0.01):
    """Random ids; a continued prompt is drawn again until no greedy step is closer than `least_gap`."""
    generator = torch.Generator().manual_seed(seed)
    vocab = model.config.vocab_size
    prompts = []
    for n in lengths:
        for _ in range(40):
            ids = torch.randint(low, vocab, (n,), generator=generator).tolist()
            if n not in continued or min(continue_greedily(model, ids)[1]) >= least_gap:
                break
        else:
            raise SystemExit(f"no prompt of {n} tokens with gaps of {least_gap}")
        prompts.append(ids)
    return prompts


def float64_distance(model, ids):
    """Greatest difference of a logit from the same pass in float64."""
    single = logits_of(model, ids)
    with torch.no_grad():
        double = model.double()(torch.tensor([ids]), use_cache=False).logits[0]
    model.float()
    return (single.double() - double).abs().max().item()


def sort_metadata(file):
    """safetensors writes the metadata in random order; sorted, equal values give equal files."""
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
    assert len(text) == length
    return file[:8] + text + file[8 + length :]


def write(name, tensors, **metadata):
    path = GOLDEN / f"logits-{name}.safetensors"
    path.write_bytes(sort_metadata(save(tensors, metadata={k: str(v) for k, v in metadata.items()})))
    gaps = [tensors[k].min().item() for k in tensors if k.endswith(".gap")]
    print(f"{path.name:38s} {path.stat().st_size:7d} bytes, least gap {min(gaps, default=0):.4f}", metadata)
