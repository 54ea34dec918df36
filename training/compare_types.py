"""Compares quantized weights with the original: KL divergence, agreement and perplexity on held-out text, and answer losses.

usage: python compare_types.py WORK_DIR MODEL.safetensors OUT.json NAME=FILE.gguf ... [--windows N] [--threads N]
"""

import argparse
import json
import pathlib
import random

import numpy as np
import torch
import torch.nn.functional as F

import data as D
import evaluate as E

# instances of these cells, with text around them, make up the third text
TASKS = ["niah_single_hex", "niah_multivalue", "json_kv", "var_track_2x3", "lines", "prefix_suffix", "bio_qa"]


def windows(env, work, count, length=2048):
    """name -> rows of tokens: `count` windows spread over each text, and task instances of half that length."""
    wiki = env.tok.encode(open(work + "/raw/wikitext2-test.txt").read(), add_special_tokens=False).ids
    out = {}
    for name, tokens in (("wikitext", np.asarray(wiki)), ("general", np.load(work + "/heldout.npy"))):
        starts = np.linspace(0, len(tokens) - length - 1, count).astype(int)
        out[name] = [(tokens[s : s + length].tolist(), None) for s in starts]
    made = E.cells(env)
    out["tasks"] = [r for n in TASKS for r in E.instances(n, made[n], length // 2, count, seed="types")]
    return out


def positions(row):
    """Positions whose next token is compared: all of a text; those before an answer token of a task."""
    ids, codes = row
    return np.arange(len(ids) - 1) if codes is None else np.flatnonzero(np.asarray(codes) == 2) - 1


@torch.no_grad()
def log_probabilities(scorer, row):
    ids = torch.tensor([row[0]])
    h = scorer.hidden(ids)[0, torch.from_numpy(positions(row))]
    return F.log_softmax(scorer.model.logits(h).float(), -1)


def compare(scorer, texts, reference):
    """-> text -> KL(reference || model), share of equal arg max, perplexity."""
    out = {}
    for name, rows in texts.items():
        kl = same = loss = n = 0
        for i, row in enumerate(rows):
            p, q = reference[name][i].float(), log_probabilities(scorer, row)
            target = torch.tensor(row[0])[torch.from_numpy(positions(row) + 1)]
            kl += (p.exp() * (p - q)).sum().item()
            same += (p.argmax(-1) == q.argmax(-1)).sum().item()
            loss += F.nll_loss(q, target, reduction="sum").item()
            n += len(target)
        out[name] = dict(
            kl=round(kl / n, 6), top1=round(100 * same / n, 2), ppl=round(float(np.exp(loss / n)), 4), tokens=n
        )
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work")
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("candidates", nargs="+")
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    random.seed(0)
    env, scorer = D.make_env(o.work, held=True), E.Scorer(o.model, "cpu")
    texts = windows(env, o.work, o.windows)
    reference = {name: [log_probabilities(scorer, row) for row in rows] for name, rows in texts.items()}
    path = pathlib.Path(o.out)
    results = json.loads(path.read_text()) if path.exists() else {}
    results["original"] = compare(scorer, texts, reference)
    print("original", results["original"], flush=True)
    for candidate in o.candidates:
        name, file = candidate.split("=", 1)
        scorer.load(E.gguf_state(file))
        results[name] = dict(compare(scorer, texts, reference), bytes=pathlib.Path(file).stat().st_size)
        print(name, results[name], flush=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
