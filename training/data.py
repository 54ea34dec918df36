"""Row generator: worker processes that mix text, chat and task rows of T + 1 tokens."""

import json
import os
import random

import numpy as np

import tasks as TK
from chatgen import talk

# share of each corpus in running text
TEXT_SHARES = {"edu": 0.36, "books": 0.42, "kids": 0.12, "tech": 0.08, "wiki": 0.02}


def make_env(work, held=False):
    """Tokenizer, corpora and word lists of a work folder; with `held`, the held-out text stands in for every corpus."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(work + "/tokenizer.json")
    cache = {}

    def encode(s):
        if len(s) >= 24:
            return tokenizer.encode(s, add_special_tokens=False).ids
        ids = cache.get(s)
        if ids is None:
            ids = tokenizer.encode(s, add_special_tokens=False).ids
            if len(cache) < 200000:
                cache[s] = ids
        return list(ids)

    names = ["heldout"] if held else list(TEXT_SHARES)
    bins = {n: np.load(f"{work}/{n}.npy", mmap_mode="r") for n in names}
    if held:
        bins.update({"edu": bins["heldout"], "kids": bins["heldout"], "books": bins["heldout"]})
    words = json.load(open(work + "/words.json"))
    # sentence ends followed by a closing quote count as ends, too
    ends = [tokenizer.token_to_id(t) for t in ('."', '!"', '?"', ".)", ".'", "!'", "?'")]
    env = TK.Env(encode, bins, words["words"], words["nouns"], words["adjs"], ends=[e for e in ends if e is not None])
    env.tok = tokenizer
    env.D = lambda ids: tokenizer.decode(list(map(int, ids)), skip_special_tokens=False)
    env.V = tokenizer.get_vocab_size()
    env.fill_names = ["edu", "books", "kids"] if held else ["edu", "edu", "books", "books", "kids", "tech"]
    raw = work + "/raw/"
    env.sgd = [json.loads(line) for line in open(raw + "sgd.jsonl")]
    env.defs = [x for x in json.load(open(raw + "defs.json")) if len(x[1]) < 160]
    env.alldefs = env.defs
    env.wn = [x for x in json.load(open(raw + "wordnet.json")) if len(x[0]) < 18]
    env.chat = {}
    for line in open(raw + "chat.jsonl"):
        c = json.loads(line)
        env.chat.setdefault(c["s"], []).append(c["m"])
    return env


def chat_ids(env, messages, system=None):
    """Messages, user first and in turn -> (ids, codes); answers and their end token get the text loss."""
    ids, codes = [], []
    newline = [env.nl]
    if system:
        ids += env.sys + env.E(system) + [TK.IM_E] + newline
        codes = [0] * len(ids)
    for i, text in enumerate(messages):
        if i % 2 == 0:
            turn = env.user + env.E(text) + [TK.IM_E] + newline
            ids += turn
            codes += [0] * len(turn)
        else:
            answer = env.E(text) + [TK.IM_E]
            ids += env.asst + answer + newline
            codes += [0] * len(env.asst) + [1] * len(answer) + [0]
    return ids, codes


def chat_sample(env, rng):
    """One chat: small talk, booking dialogues, role play, word problems, or a word's meaning."""
    k = rng.random()
    if k < 0.46:
        messages = talk(rng, env)
    elif k < 0.62:
        messages = rng.choice(env.sgd)["m"]
    elif k < 0.76:
        messages = rng.choice(env.chat["role"])
    elif k < 0.86:
        messages = rng.choice(env.chat["gsm"])
    elif k < 0.89:
        messages = rng.choice(env.chat["conv"])
    elif k < 0.92:
        messages = rng.choice(env.chat["cbot"])
    else:
        word, _, gloss, example = rng.choice(env.wn)
        gloss = gloss[0].upper() + gloss[1:] + "."
        question = [f'What does "{word}" mean?', f'Define "{word}".', f'What is the meaning of the word "{word}"?']
        messages = [rng.choice(question), gloss]
        if example and rng.random() < 0.7:
            sentence = example[0].upper() + example[1:] + ("" if example[-1] in ".!?" else ".")
            messages += [f'Use "{word}" in a sentence.', sentence]
    return chat_ids(env, messages, rng.choice(TK.SYSTEMS[:2]) if rng.random() < 0.15 else None)


def text_row(env, rng, n):
    name = rng.choices(list(TEXT_SHARES), list(TEXT_SHARES.values()))[0]
    text = env.bins[name]
    at = rng.randrange(0, len(text) - n - 1)
    return np.asarray(text[at : at + n])


def task_length(rng, length, progress, phase):
    """Wanted length of a task: growing through phase 1, spread up to the row in phase 2."""
    if phase == 1:
        most = (
            200
            if progress < 0.06
            else 384
            if progress < 0.14
            else 700
            if progress < 0.28
            else 1200
            if progress < 0.5
            else length
        )
        return rng.randrange(64, most) if rng.random() < 0.6 else rng.randrange(most // 2, most)
    r = rng.random()
    if r < 0.18:
        return rng.randrange(96, 1024)
    if r < 0.36:
        return rng.randrange(1024, 2048)
    if r < 0.62:
        return rng.randrange(2048, 4200)
    return rng.randrange(4000, length)


def row(env, rng, length, progress, phase, mix):
    """-> ids, codes [length + 1]; `mix` gives the shares of text rows and of chat rows, the rest are tasks."""
    n = length + 1
    ids, codes = np.zeros(n, np.uint16), np.zeros(n, np.uint8)
    k = rng.random()
    if k < mix[0]:
        ids[:] = text_row(env, rng, n)
        codes[:] = 1
        return ids, codes
    chat = k < mix[0] + mix[1]
    i = 0
    while i < n:
        left = n - i
        if not chat and left > 120:
            sample = TK.sample(env, rng, min(left, task_length(rng, length, progress, phase)))
            if sample is not None:
                m = len(sample[0])
                ids[i : i + m], codes[i : i + m] = sample
                i += m
                if i < n:
                    ids[i] = codes[i] = 0
                    i += 1
                continue
        if left > 40:
            chat_tokens, chat_codes = chat_sample(env, rng)
            m = min(left, len(chat_tokens))
            ids[i : i + m], codes[i : i + m] = chat_tokens[:m], chat_codes[:m]
            i += m
            if i < n:
                i += 1
        else:
            ids[i:] = text_row(env, rng, left)
            codes[i:] = 1
            i = n
    return ids, codes


def worker(work, seed, length, phase, mix, chunk, queue, progress, stop):
    """Puts (ids, codes) [chunk, length + 1] into the queue until told to stop."""
    try:
        os.nice(3)
    except OSError:
        pass
    env = make_env(work)
    rng = random.Random(seed)
    while not stop.value:
        ids = np.empty((chunk, length + 1), np.uint16)
        codes = np.empty((chunk, length + 1), np.uint8)
        for j in range(chunk):
            while True:
                try:
                    ids[j], codes[j] = row(env, rng, length, progress.value, phase, mix)
                    break
                except (IndexError, ValueError, KeyError, ZeroDivisionError, TypeError):
                    # a generator now and then meets a length or a text that it cannot fill: draw again
                    if os.environ.get("KV_DEBUG"):
                        raise
        queue.put((ids, codes))
