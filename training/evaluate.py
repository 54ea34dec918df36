"""Held-out evaluation.

usage: python evaluate.py WORK_DIR MODEL OUT.json [--quick] [--device cpu] [--count N] [--lengths 512,2048] [--tasks a,b] [--parts retrieval,squad,text,chat]

MODEL is a .safetensors file of the Hugging Face folder or a .gguf file, whose weights are dequantized.

Retrieval scores are exact match under greedy decoding: an instance counts when every answer token (and the end token) is
the arg max given the tokens before it, which is when greedy decoding writes the answer. Beside it stands the mean loss of
the answer tokens, which moves before the exact match does.
"""

import argparse
import collections
import json
import math
import random
import re
import string
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import data as D
import model as M
import tasks as TK

LENGTHS = (512, 1024, 2048, 4096, 8192)
CHATS = [
    ["Hello!"], ["What is your name?"], ["Tell me a story about a fox."], ["What is the capital of France?"], ["What is 12 + 30?"],
    ["Why is the sky blue?"], ["What is photosynthesis?"], ["My name is Otto and I live in Oslo.", "What is my name?"],
    ["How can I sleep better?"], ["Write a short poem about the sea."],
    ["Tom has 3 apples and buys 5 more. How many apples does he have?"], ["I want to book a table for two."],
    ["What is democracy?"], ["Give me three tips for learning English."],
]  # fmt: skip


def gguf_state(path):
    """Weights of a llama GGUF under their Hugging Face names, dequantized, q and k rows back in halves."""
    import gguf

    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
    parts = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    state = {}
    for t in gguf.GGUFReader(path).tensors:
        w = torch.from_numpy(np.array(gguf.quants.dequantize(t.data, t.tensor_type), np.float32))
        stem = t.name.removesuffix(".weight")
        if stem.startswith("blk."):
            _, layer, part = stem.split(".")
            if part in ("attn_q", "attn_k"):
                heads = w.shape[0] // M.CONFIG["head_dim"]
                w = w.reshape(heads, -1, 2, w.shape[1]).transpose(1, 2).reshape(w.shape)
            state[f"model.layers.{layer}.{parts[part]}.weight"] = w.contiguous()
        else:
            state[names[stem] + ".weight"] = w
    return state


class Scorer:
    """A model on a device, with what the scores need of it."""

    def __init__(self, path, device="cuda", dtype=None):
        self.device = device
        self.dtype = dtype or (torch.bfloat16 if device == "cuda" else torch.float32)
        self.model = M.Model().to(device)
        self.load(gguf_state(path) if str(path).endswith(".gguf") else load_file(path))
        # positions of the whole context; attention is causal, so a batch is padded at its end
        self.cos, self.sin = M.rope_tables(M.CONFIG["max_pos"], device)

    def load(self, state):
        self.model.load_hf(state)
        self.model = self.model.to(self.dtype).eval()

    @torch.no_grad()
    def hidden(self, ids):
        n = ids.shape[1]
        return self.model.hidden(ids, self.cos[:n], self.sin[:n], self.dtype)

    @torch.no_grad()
    def answers(self, rows, budget=None):
        """rows: (ids, codes) -> per row (every answer token is the arg max, sum of losses of answer tokens, their number)."""
        budget = budget or (131072 if self.device == "cuda" else 16384)  # tokens a batch
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
        out, i = [None] * len(rows), 0
        while i < len(order):
            j = i
            while j < len(order) and (j - i + 1) * len(rows[order[j]][0]) <= budget:
                j += 1
            batch = order[i : max(j, i + 1)]
            x = np.zeros((len(batch), max(len(rows[k][0]) for k in batch)), np.int64)
            for r, k in enumerate(batch):
                x[r, : len(rows[k][0])] = rows[k][0]
            h = self.hidden(torch.from_numpy(x).to(self.device))
            for r, k in enumerate(batch):
                p = np.flatnonzero(np.asarray(rows[k][1]) == 2)
                target = torch.from_numpy(x[r, p]).to(self.device)
                logits = self.model.logits(h[r, torch.from_numpy(p - 1).to(self.device)])
                loss = F.cross_entropy(logits.float(), target, reduction="sum").item()
                out[k] = bool((logits.argmax(-1) == target).all()), loss, len(p)
            i += len(batch)
        return out

    @torch.no_grad()
    def generate(self, prompts, n, stop=(TK.IM_E, TK.EOT)):
        """Greedy continuation of every prompt by up to n tokens, the stop token included."""
        starts = [len(p) for p in prompts]
        x = torch.zeros(len(prompts), max(starts) + n, dtype=torch.long, device=self.device)
        for i, p in enumerate(prompts):
            x[i, : len(p)] = torch.tensor(p)
        length = torch.tensor(starts, device=self.device)
        done = torch.zeros(len(prompts), dtype=torch.bool, device=self.device)
        row = torch.arange(len(prompts), device=self.device)
        for _ in range(n):
            h = self.hidden(x[:, : int(length.max())])
            t = self.model.logits(h[row, length - 1]).argmax(-1)
            x[row[~done], length[~done]] = t[~done]
            length = torch.where(done, length, length + 1)
            for s in stop:
                done |= t == s
            if done.all():
                break
        return [x[i, starts[i] : int(length[i])].tolist() for i in range(len(prompts))]

    @torch.no_grad()
    def loss(self, tokens, window):
        """-> (sum of losses, number of tokens, mean loss by eighth of the window) over windows side by side."""
        tokens = np.asarray(tokens, np.int64)
        pieces = [tokens[i : i + window + 1] for i in range(0, len(tokens) - 1, window)]
        full = [c for c in pieces if len(c) == window + 1]
        rest = [c for c in pieces if 2 <= len(c) < window + 1]
        size = max(1, 65536 // window)
        total, n, eighths = 0.0, 0, []
        for group in [full[i : i + size] for i in range(0, len(full), size)] + [[r] for r in rest]:
            x = torch.from_numpy(np.stack(group)).to(self.device)
            h = self.hidden(x[:, :-1].contiguous())
            for r in range(len(group)):
                loss = F.cross_entropy(self.model.logits(h[r]).float(), x[r, 1:], reduction="none")
                total += loss.sum().item()
                n += loss.numel()
                if len(group[r]) == window + 1:
                    eighths.append(loss.view(8, -1).mean(1).cpu())
        return total, n, torch.stack(eighths).mean(0).tolist() if eighths else []


def cells(env):
    """name -> generator of one instance; a name with `!` also takes instances shorter than half of the length."""
    niah = lambda mode, typ, depth, full: (
        lambda r, n: TK.t_niah(env, r, n, mode, typ, r.random() if depth else None, True, full)
    )
    return {
        "niah_single_number": niah("single", "number", True, False),
        "niah_single_word": niah("single", "word", True, False),
        "niah_single_hex": niah("single", "uuid", True, False),
        "niah_single_sentence": niah("single", "number", True, True),
        "niah_multikey": niah("multikey", "number", False, False),
        "niah_multivalue": niah("multivalue", "number", False, False),
        "niah_multiquery": niah("multiquery", "number", False, False),
        "niah_dense": niah("dense", "number", False, False),
        "passkey": lambda r, n: TK.t_passkey(env, r, n, r.random()),
        "json_kv": lambda r, n: TK.t_json(env, r, n, True),
        "var_track_4hop": lambda r, n: TK.t_vt(env, r, n, 4, 1, True),
        "var_track_2x3": lambda r, n: TK.t_vt(env, r, n, 3, 2, True),
        "bio_qa": lambda r, n: TK.t_bio(env, r, n),
        "lines": lambda r, n: TK.t_lines(env, r, n),
        "prefix_suffix": lambda r, n: TK.t_prefix(env, r, n),
        "cloze": lambda r, n: TK.t_cloze(env, r, n),
        "!dialog": lambda r, n: TK.t_dialog(env, r, n),
    }


def short_cells(env):
    """Tasks of up to 1024 or 2048 tokens."""
    return {
        f"!{n}": lambda r, length, n=n: TK.TASKS[n][0](env, r, length)
        for n in ("count", "minmax", "icl", "copy", "defs")
    }


def instances(name, make, length, count, seed=0):
    """`count` instances of a cell, the same for every model; fewer where the generator finds none."""
    rng = random.Random(f"{name}-{length}-{seed}-heldout")
    rows, tries = [], 0
    while len(rows) < count and tries < count * 10:
        tries += 1
        try:
            r = make(rng, length)
        except (IndexError, ValueError):
            r = None
        if r is not None and len(r[0]) <= length and len(r[0]) > (length * 0.5 if "!" not in name else 0):
            rows.append(r)
    return rows


def retrieval(env, scorer, lengths, count, only=None, quick=False):
    """-> {cell@length: [per cent exact, instances, mean loss of answer tokens]}"""
    out = {}

    def cell(name, make, length, n=count):
        if only and name.lstrip("!") not in only:
            return
        rows = instances(name, make, length, n)
        if not rows:
            return
        results = scorer.answers(rows)
        exact = round(100 * sum(r[0] for r in results) / len(results), 1)
        loss = sum(r[1] for r in results) / sum(r[2] for r in results)
        out[f"{name}@{length}"] = [exact, len(rows), round(loss, 5)]
        mean = sum(len(r[0]) for r in rows) // len(rows)
        print(f"{name:24s} {length:5d} {exact:6.1f}%  n={len(rows)}  loss {loss:.4f}  mean length {mean}", flush=True)

    for length in lengths:
        for name, make in cells(env).items():
            cell(name, make, length, 2 * count if name == "niah_single_number" and length >= 4096 else count)
    for length in (1024,) if quick else (1024, 2048):
        if only or length <= max(lengths):
            for name, make in short_cells(env).items():
                cell(name, make, length)
    return out


def normalized(s):
    s = re.sub(r"\b(a|an|the)\b", " ", "".join(c for c in s.lower() if c not in string.punctuation))
    return " ".join(s.split())


def f1(a, b):
    a, b = normalized(a).split(), normalized(b).split()
    common = sum((collections.Counter(a) & collections.Counter(b)).values())
    return 0.0 if not common else 2 * common / (len(a) + len(b))


def squad(env, scorer, work, count):
    """Exact match and F1 on SQuAD dev, with no and with ten other paragraphs around the right one."""
    questions = [json.loads(line) for line in open(work + "/raw/squad-dev.jsonl")]
    contexts = list(dict.fromkeys(q["context"] for q in questions))
    rng = random.Random(11)
    pick = rng.sample(questions, count)
    out = {}
    for others in (0, 10):
        prompts = []
        for q in pick:
            shown = rng.sample([c for c in contexts if c != q["context"]], others) + [q["context"]]
            rng.shuffle(shown)
            text = "Read the text and answer my questions.\n\n" + "\n\n".join(c.strip() for c in shown)
            text += "\n\n" + q["question"].strip() + " Answer with the words of the text."
            prompts.append(env.user + env.E(text) + [TK.IM_E, env.nl] + env.asst)
        exact = score = 0
        samples = []
        for i in range(0, len(prompts), 25):
            for q, g in zip(pick[i : i + 25], scorer.generate(prompts[i : i + 25], 24)):
                a = env.tok.decode([t for t in g if t > 3]).strip()
                exact += any(normalized(a) == normalized(b) for b in q["answers"])
                score += max(f1(a, b) for b in q["answers"])
                samples.append((q["question"], a, q["answers"][0]))
        result = dict(em=round(100 * exact / len(pick), 1), f1=round(100 * score / len(pick), 1), n=len(pick),
                      mean_tokens=sum(map(len, prompts)) // len(prompts))  # fmt: skip
        out[f"squad_dev_distractors_{others}"] = result
        print("squad", others, result, samples[:5], flush=True)
    return out


def perplexity(env, scorer, work, windows=(2048, 8192), limit=None):
    """WikiText-2 test and held-out general text; `limit` takes only the first tokens of each."""
    out = {}
    wiki = open(work + "/raw/wikitext2-test.txt").read()
    general = open(work + "/raw/heldout.txt").read()
    texts = {
        "wikitext2_test": (env.tok.encode(wiki, add_special_tokens=False).ids, len(wiki.encode()), len(wiki.split()) + wiki.count("\n")),
        "heldout": (np.load(work + "/heldout.npy"), len(general.encode()), None),
    }  # fmt: skip
    for name, (tokens, size, words) in texts.items():
        for window in windows:
            nll, n, eighths = scorer.loss(tokens[:limit], window)
            r = dict(ppl_token=round(math.exp(nll / n), 3))
            if limit is None:
                if words:
                    r["ppl_word"] = round(math.exp(nll / words), 2)
                r["bits_per_byte"] = round(nll / math.log(2) / size, 4)
            r.update(tokens=n, loss_by_eighth=[round(x, 3) for x in eighths])
            out[f"{name}_ctx{window}"] = r
            print(name, window, r, flush=True)
    return out


def chat_samples(env, scorer, tokens=130):
    out = []
    for users in CHATS:
        said = []
        for text in users:
            said.append(text)
            ids = []
            for j, x in enumerate(said):
                ids += (env.user if j % 2 == 0 else env.asst) + env.E(x) + [TK.IM_E, env.nl]
            g = scorer.generate([ids + env.asst], tokens)[0]
            said.append(env.tok.decode([t for t in g if t > 3]))
        out.append(said)
        print("CHAT", json.dumps(said), flush=True)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work")
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--count", type=int, help="instances a cell")
    parser.add_argument("--lengths", type=lambda s: [int(x) for x in s.split(",")])
    parser.add_argument("--tasks", type=lambda s: s.split(","))
    parser.add_argument("--parts", type=lambda s: s.split(","), default=["retrieval", "squad", "text", "chat"])
    parser.add_argument("--text-tokens", type=int, help="perplexity of the first tokens of each text only")
    parser.add_argument("--threads", type=int)
    o = parser.parse_args()
    if o.threads:
        torch.set_num_threads(o.threads)
    start = time.time()
    torch.manual_seed(0)
    env, scorer = D.make_env(o.work, held=True), Scorer(o.model, o.device)
    results = {}
    if "retrieval" in o.parts:
        lengths = o.lengths or ((2048, 8192) if o.quick else LENGTHS)
        results.update(retrieval(env, scorer, lengths, o.count or (40 if o.quick else 100), o.tasks, o.quick))
    if "squad" in o.parts:
        results.update(squad(env, scorer, o.work, 100 if o.quick else 300))
    if "text" in o.parts:
        results.update(perplexity(env, scorer, o.work, (2048,) if o.text_tokens else (2048, 8192), o.text_tokens))
    if "chat" in o.parts:
        results["samples"] = chat_samples(env, scorer)
    json.dump(results, open(o.out, "w"), indent=1)
    print("evaluated in", round(time.time() - start, 1), "s", flush=True)


if __name__ == "__main__":
    main()
