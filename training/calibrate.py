"""What the quantizer weighs errors by: second moments of inputs and of output gradients of every matrix.

usage: python calibrate.py WORK_DIR MODEL.safetensors OUT.npz [--tokens N]

Text: SQuAD paragraphs, the same in the spaced-out typography of WikiText, small talk and stories of chatgen.py, and tasks
with SQuAD paragraphs around them; none of it is in the texts that the types are then compared on. For a matrix y = W x the file holds, averaged over tokens,
`<name>.input` = E[x x'] [columns, columns] and `<name>.output` = E[g^2] [rows], g the gradient of the loss of a label drawn
from the model itself. To second order the KL divergence caused by an error D in W is half the sum over rows r of
output[r] * D[r] input D[r]'. For the shared embedding: as the head; `embed.count` counts the look-ups.
"""

import argparse
import json
import random
import re

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import data as D
import model as M
import tasks as TK
from chatgen import talk

TASKS = ["niah", "json", "lines", "prefix", "vt", "bio", "copy", "passkey", "minmax", "count"]


def spaced_out(rng, text):
    """A paragraph as WikiText writes it: punctuation apart, numbers and hyphens marked, a rare word now and then `<unk>`."""
    text = re.sub(r"(?<=\d)([,.])(?=\d)", r" @\1@ ", text)
    text = re.sub(r"(?<=\w)-(?=\w)", " @-@ ", text)
    text = re.sub(r"([,.;:!?()\"]|'s\b)", r" \1 ", text)
    words = [("<unk>" if w[0].isupper() and len(w) > 6 and rng.random() < 0.3 else w) for w in text.split()]
    return " " + " ".join(words) + " \n"


def rows(env, work, rng, total, length=1024):
    """Token rows: a quarter each of running text, of it spaced out, of chats and of tasks."""
    text = np.load(f"{work}/squad.npy")
    paragraphs = list(dict.fromkeys(json.loads(line)["context"] for line in open(f"{work}/raw/squad-dev.jsonl")))
    env.bins.update({name: text for name in env.bins})
    out, n = [], 0
    while n < total:
        kind = len(out) % 4
        if kind == 0:
            at = rng.randrange(len(text) - length)
            ids = text[at : at + length].tolist()
        elif kind == 1:
            title = f" \n = {rng.choice(env.nouns).capitalize()} {rng.choice(env.nouns)} = \n \n"
            ids = env.E(title + "".join(spaced_out(rng, p) for p in rng.sample(paragraphs, 8)))[:length]
        elif kind == 2:
            ids = []
            while len(ids) < length:
                ids += D.chat_ids(env, talk(rng, env))[0]
        else:
            sample = TK.sample(env, rng, rng.choice([512, 1024, 2048]), rng.choice(TASKS))
            if sample is None:
                continue
            ids = list(sample[0])
        out.append(ids[:2048])
        n += len(out[-1])
    return out


class Moments:
    """Replaces F.linear of a model's matrices by one that adds up moments."""

    def __init__(self, model):
        self.names = {id(p): n for n, p in model.parameters_by_hf_name().items() if p.ndim == 2}
        self.input, self.output, self.tokens = {}, {}, 0
        self.linear = F.linear

    def __call__(self, x, w, bias=None):
        y = self.linear(x, w, bias)
        name = self.names.get(id(w))
        if name and y.requires_grad:
            flat = x.detach().reshape(-1, x.shape[-1])
            self.input[name] = self.input.get(name, 0) + (flat.T @ flat).double()
            y.register_hook(lambda g, name=name: self.add_output(name, g))
        return y

    def add_output(self, name, g):
        self.output[name] = self.output.get(name, 0) + g.reshape(-1, g.shape[-1]).square().sum(0).double()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work")
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--tokens", type=int, default=65536)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(5)
    model = M.Model()
    model.load_hf(load_file(options.model))
    env = D.make_env(options.work, held=True)
    moments = Moments(model)
    F.linear = moments
    cos, sin = M.rope_tables(2048, "cpu")
    counts = np.zeros(M.CONFIG["vocab"], np.int64)
    for ids in rows(env, options.work, random.Random("calibration"), options.tokens):
        x = torch.tensor([ids])
        logits = model.logits(model.hidden(x, cos[: len(ids)], sin[: len(ids)], torch.float32))[0]
        labels = torch.distributions.Categorical(logits=logits.detach()).sample()
        F.cross_entropy(logits, labels, reduction="sum").backward()
        for p in model.parameters():
            p.grad = None
        moments.tokens += len(ids)
        np.add.at(counts, ids, 1)
        print(moments.tokens, end=" ", flush=True)
    out = {"embed.count": counts}
    for name in moments.input:
        out[f"{name}.input"] = (moments.input[name] / moments.tokens).float().numpy()
        out[f"{name}.output"] = (moments.output[name] / moments.tokens).float().numpy()
    np.savez(options.out, **out)
    print("\n", len(moments.input), "matrices")


if __name__ == "__main__":
    main()
