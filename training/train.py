"""Trains the model. usage: python train.py WORK_DIR RUN_DIR --p1 SECONDS --p2 SECONDS"""

import argparse
import json
import math
import multiprocessing as mp
import os
import queue
import threading
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import data as D
import model as M

BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
# phase -> (length of a row, shares of text and chat rows, seed, rows a chunk)
PHASES = {1: (2048, (0.52, 0.16), 1, 16), 2: (8192, (0.20, 0.12), 2, 4)}


class Feed:
    """A pool of worker processes -> pinned batches on the GPU."""

    def __init__(self, work, phase, tokens, workers, progress):
        self.context = mp.get_context("spawn")
        length, mix, seed, self.chunk = PHASES[phase]
        self.rows = tokens // length
        self.chunks = self.context.Queue(maxsize=max(4, 512 // self.chunk if length < 4000 else 48))
        self.stop = self.context.Value("b", 0)
        arguments = lambda i: (work, seed * 1000 + i, length, phase, mix, self.chunk, self.chunks, progress, self.stop)
        self.processes = [self.context.Process(target=D.worker, args=arguments(i), daemon=True) for i in range(workers)]
        for p in self.processes:
            p.start()
        self.batches = queue.Queue(maxsize=6)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stop.value:
            parts = [self.chunks.get() for _ in range(self.rows // self.chunk)]
            ids = torch.from_numpy(np.concatenate([p[0] for p in parts]).astype(np.int32)).pin_memory()
            codes = torch.from_numpy(np.concatenate([p[1] for p in parts])).pin_memory()
            self.batches.put((ids, codes))

    def next(self):
        """-> inputs, targets, codes of the targets [rows, length]"""
        ids, codes = self.batches.get()
        ids = ids.cuda(non_blocking=True).long()
        codes = codes.cuda(non_blocking=True)
        return ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), codes[:, 1:].contiguous()

    def close(self):
        self.stop.value = 1
        for p in self.processes:
            p.terminate()


def orthogonalize(g):
    """Five Newton-Schulz steps towards the nearest orthogonal matrix (Jordan et al., Muon, 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        s = x @ x.mT
        x = a * x + (b * s + c * (s @ s)) @ x
    return x.mT if tall else x


class Muon:
    """Momentum, then an orthogonalized step, for matrices; equal shapes run as one batch."""

    def __init__(self, parameters, decay):
        groups = {}
        for p in parameters:
            groups.setdefault(tuple(p.shape), []).append(p)
        self.groups = [(ps, torch.zeros(len(ps), *shape, device="cuda")) for shape, ps in groups.items()]
        self.decay = decay

    @torch.no_grad()
    def step(self, rate, momentum):
        for parameters, buffer in self.groups:
            gradient = torch.stack([p.grad for p in parameters])
            buffer.lerp_(gradient, 1 - momentum)
            update = gradient.lerp(buffer, momentum)
            update = orthogonalize(update).float() * (0.2 * max(update.shape[-2:]) ** 0.5)
            torch._foreach_mul_(parameters, 1 - rate * self.decay)
            torch._foreach_add_(parameters, list(update.unbind(0)), alpha=-rate)


def time_attention(length, batch, backend, expand, repeats=5):
    """Milliseconds of one forward and backward pass."""
    make = lambda heads: torch.randn(batch, heads, length, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    q, k, v = make(8), make(4), make(4)

    def once():
        if expand:
            k2, v2 = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
            out = F.scaled_dot_product_attention(q, k2, v2, is_causal=True)
        else:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        out.backward(torch.ones_like(out))

    with sdpa_kernel(backend):
        once()
        torch.cuda.synchronize()
        start = time.time()
        for _ in range(repeats):
            once()
        torch.cuda.synchronize()
    return (time.time() - start) / repeats * 1000


def fastest_attention():
    """-> (name of the backend, expand K and V), the fastest at 8192 tokens."""
    best = None
    for length, batch in ((2048, 64), (8192, 16)):
        for name, backend in BACKENDS.items():
            for expand in (False, True):
                try:
                    t = time_attention(length, batch, backend, expand)
                except Exception as e:  # a kernel that this GPU does not have
                    print("attention", length, name, expand, "failed", str(e)[:120], flush=True)
                    continue
                print(f"attention {length} {name} expand={expand}: {t:.1f} ms", flush=True)
                if length == 8192 and (best is None or t < best[0]):
                    best = (t, name, expand)
    return best[1:]


def save(model, folder, name):
    from safetensors.torch import save_file

    os.makedirs(folder, exist_ok=True)
    save_file(model.hf_state(), f"{folder}/tmp.safetensors", metadata={"format": "pt"})
    os.replace(f"{folder}/tmp.safetensors", f"{folder}/{name}")


def options():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("work")
    p.add_argument("run")
    p.add_argument("--p1", type=float, default=750, help="seconds of phase 1")
    p.add_argument("--p2", type=float, default=650, help="seconds of phase 2")
    p.add_argument("--tok", type=int, default=131072, help="tokens a step")
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--nw", type=int, default=12, help="worker processes")
    p.add_argument("--init", default="", help="weights to start from")
    p.add_argument(
        "--attn", default="", help="flash or cudnn, with ',expand' for repeated K and V; measured where not given"
    )
    p.add_argument("--smoke", type=int, default=0, help="stop each phase after so many steps")
    p.add_argument("--start", type=float, default=0.0, help="where on the cosine to begin, in shares of the whole")
    return p.parse_args()


def main():
    torch.backends.cuda.matmul.allow_tf32 = True
    torch._dynamo.config.automatic_dynamic_shapes = False
    torch._dynamo.config.cache_size_limit = 32
    o = options()
    os.makedirs(o.run, exist_ok=True)
    torch.manual_seed(1)
    start = time.time()
    progress = mp.get_context("spawn").Value("d", 0.0)
    feeds = {1: Feed(o.work, 1, o.tok, o.nw, progress)} if o.p1 > 0 else {}
    backend, M.ATTENTION["expand"] = (
        (o.attn.split(",")[0], o.attn.endswith("expand")) if o.attn else fastest_attention()
    )
    print("attention:", backend, "expand" if M.ATTENTION["expand"] else "gqa", flush=True)
    model = M.Model().cuda()
    if o.init:
        from safetensors.torch import load_file

        model.load_hf(load_file(o.init))
    print("parameters", sum(p.numel() for p in model.parameters()) / 1e6, flush=True)
    for block in model.blocks:
        block.compile(dynamic=False)
    head = torch.compile(M.head_loss, dynamic=False)
    muon = Muon([p for b in model.blocks for p in b.parameters() if p.ndim == 2], 0.1)
    norms = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": [model.emb], "weight_decay": 0.01}, {"params": norms, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=o.lr, betas=(0.9, 0.95), eps=1e-10, fused=True)
    log = open(o.run + "/log.jsonl", "a")
    total, step, used, tokens = o.p1 + o.p2, 0, 0.0, 0
    for phase, seconds in ((1, o.p1), (2, o.p2)):
        if seconds <= 0:
            continue
        if phase not in feeds:
            feeds[phase] = Feed(o.work, phase, o.tok, o.nw, progress)
        cos, sin = M.rope_tables(PHASES[phase][0], "cuda")
        end, first, losses = used + seconds, True, []
        while used < end:
            ids, target, codes = feeds[phase].next()
            step_start = time.time()
            done = min(1.0, (used + o.start * total) / (total * (1 + o.start)))
            progress.value = min(1.0, used / max(1, o.p1)) if phase == 1 else 1.0
            rate = o.lr * min(1.0, (step + 1) / 150) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
            for g in adam.param_groups:
                g["lr"] = rate
            with sdpa_kernel(BACKENDS[backend]):
                x = model.hidden(ids, cos, sin)
                loss, text_loss, task_loss = head(x, model.ln, model.emb, target, codes, 0.7, 1e-5)
                loss.backward()
            torch.nn.utils.clip_grad_norm_([model.emb], 1.0)
            muon.step(rate, 0.85 + 0.1 * min(1, step / 300))
            adam.step()
            for p in model.parameters():
                p.grad = None
            step += 1
            tokens += ids.numel()
            losses.append((text_loss, task_loss))
            if first or step % 50 == 0:
                torch.cuda.synchronize()
            if first:
                # the first step of a phase compiles: its time is not counted
                first, base, base_time, last = False, used, time.time(), time.time()
                print(f"phase {phase} first step {last - step_start:.1f}s (total {last - start:.0f}s)", flush=True)
                continue
            used = base + time.time() - base_time
            if step % 50 == 0 or used >= end:
                now, n = time.time(), len(losses)
                means = [torch.stack([x[i] for x in losses]).mean().item() for i in (0, 1)]
                losses = []
                r = dict(step=step, phase=phase, t=round(now - start, 1), lr=round(rate, 6), text=round(means[0], 4),
                         task=round(means[1], 4), tok_s=int(n * ids.numel() / (now - last)), tokens=tokens,
                         q=feeds[phase].batches.qsize())  # fmt: skip
                last = now
                log.write(json.dumps(r) + "\n")
                log.flush()
                if step % 200 == 0 or o.smoke or used >= end:
                    print(json.dumps(r), flush=True)
                if step % 1000 == 0:
                    save(model, o.run, "ckpt.safetensors")
            if phase == 1 and o.p2 > 0 and 2 not in feeds and used > end - 25:
                feeds[2] = Feed(o.work, 2, o.tok, o.nw, progress)
            if o.smoke and step % o.smoke == 0:
                break
        feeds[phase].close()
    torch.cuda.synchronize()
    save(model, o.run, "model.safetensors")
    print(
        "DONE", step, tokens, round(time.time() - start, 1), "mem", torch.cuda.max_memory_allocated() >> 20, flush=True
    )
    open(o.run + "/DONE", "w").write("1")
    # worker processes may hang on a full queue
    os._exit(0)


if __name__ == "__main__":
    main()
