"""Synthetic long-context tasks in ChatML, generated on the fly.

Every generator builds one conversation over one shared context and returns
(ids, codes): token ids and one code per token (0 no loss, 1 text loss, 2 answer loss).
Contexts are put together from token slices of the text corpora, repeated noise
sentences, or task records, so a wanted length in tokens is met closely.
"""

import re

import numpy as np

from words import *

EOT, IM_S, IM_E, PAD = 0, 1, 2, 3


class Env:
    """Tokenizer, corpora and word lists shared by all generators."""

    def __init__(self, encode, bins, words, nouns, adjs, sgd=None, ends=None, nl=None):
        self.E = encode
        self.bins = bins  # name -> uint16 token array
        self.words, self.nouns, self.adjs = words, nouns, adjs
        self.sgd = sgd or []
        self.nl = encode("\n")[0] if nl is None else nl
        self.ends = set(ends) if ends is not None else set()
        for e in (".", "!", "?"):
            self.ends.add(encode(e)[0])
        self.noise = [encode(" " + s) for s in NOISE]
        self.user = [IM_S] + encode("user\n")
        self.asst = [IM_S] + encode("assistant\n")
        self.sys = [IM_S] + encode("system\n")
        self.endarr = np.zeros(65536, bool)
        for e in self.ends:
            self.endarr[e] = True

    # ---- filler -------------------------------------------------------
    def natural(self, rng, L, names=None):
        """About L tokens of running text that starts at a paragraph and ends at a sentence."""
        b = self.bins[rng.choice(names or self.fill_names)]
        for _ in range(20):
            p = rng.randrange(0, max(1, len(b) - L - 600))
            w = np.asarray(b[p : p + L + 500])
            st = np.flatnonzero((w[:-1] == self.nl) & (w[1:] != self.nl))
            if not len(st):
                continue
            w = w[st[0] + 1 : st[0] + 1 + L]
            if (w < 4).any():  # crosses a document end
                k = np.flatnonzero(w < 4)
                if k[0] < L // 2:
                    continue
                w = w[: k[0]]
            e = np.flatnonzero(self.endarr[w])
            if len(e) and e[-1] > len(w) * 0.6:
                return w[: e[-1] + 1].tolist()
        return list(self.noise[0]) * max(1, L // len(self.noise[0]))

    def filler(self, rng, L, kind=None):
        """-> (tokens, code) ; code 1 for natural text"""
        if L <= 0:
            return [], 0
        kind = kind or ("text" if rng.random() < 0.75 else "noise")
        if kind == "noise":
            n = rng.choice(self.noise)
            out = n * (L // len(n) + 1)
            m = max(1, L // len(n))
            return out[: m * len(n)], 0
        return self.natural(rng, L), 1


def insert(env, rng, fill, code, units, depths=None):
    """Put units (token lists that start with a space) after random sentence ends of fill."""
    ends = [i + 1 for i, t in enumerate(fill) if t in env.ends] or [len(fill)]
    ends.append(0)
    if depths is None:
        pos = sorted(rng.choice(ends) for _ in units)
    else:
        pos = [min(ends, key=lambda e: abs(e - d * len(fill))) for d in depths]
        order = sorted(range(len(units)), key=lambda i: pos[i])
        units = [units[i] for i in order]
        pos = sorted(pos)
    ids, codes, last = [], [], 0
    for p, u in zip(pos, units):
        if p == 0:
            u = u + [env.nl] * 2
        ids += fill[last:p]
        codes += [code] * (p - last)
        ids += u
        codes += [0] * len(u)
        last = p
    ids += fill[last:]
    codes += [code] * (len(fill) - last)
    return ids, codes


SYSTEMS = [
    "You are a helpful assistant.",
    "You are Kvasir, a small and helpful language model.",
    "Answer the questions about the text.",
    "You answer briefly and exactly.",
]


def wrap(env, rng, head, ctx, ccodes, qas, q_first=False):
    """One conversation: head + context + first question, then the other questions as further turns."""
    E = env.E
    ids, codes = [], []

    def add(t, c=0):
        ids.extend(t)
        codes.extend([c] * len(t))

    nl = [env.nl]
    if rng.random() < 0.12:
        add(env.sys + E(rng.choice(SYSTEMS)) + [IM_E] + nl)
    for i, (q, a) in enumerate(qas):
        add(env.user)
        if i == 0:
            if q_first:
                add(E(q) + nl + nl)
            if head:
                add(E(head) + nl + nl)
            ids.extend(ctx)
            codes.extend(ccodes)
            if not q_first or rng.random() < 0.5:
                add(nl + nl + E(q))
        else:
            add(E(q))
        add([IM_E] + nl + env.asst)
        add(E(a) + [IM_E], 2)
        add(nl)
    return ids, codes


def qa_cost(env, qas):
    """tokens that questions and answers take, at most"""
    return sum(len(env.E(q)) + len(env.E(a)) + 12 for q, a in qas) + 24


# ---- value makers -----------------------------------------------------
def number(rng, lo=4, hi=7):
    """a number of lo to hi digits, as text"""
    n = rng.randint(lo, hi)
    return str(rng.randrange(10 ** (n - 1), 10**n))


def hexs(rng, n=None):
    """n hexadecimal digits; a common length where n is not given"""
    n = n or rng.choice([6, 8, 8, 8, 12, 16])
    return "".join(rng.choice("0123456789abcdef") for _ in range(n))


def uuid(rng):
    h = hexs(rng, 32)
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def word(env, rng):
    return rng.choice(env.words)


def pair(env, rng):
    return rng.choice(env.adjs) + "-" + rng.choice(env.nouns)


def made(rng, n=2):
    """a made-up word of n syllables"""
    return "".join(rng.choice(SYL) for _ in range(n))


def letters(rng, n):
    return "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(n))


def person(rng):
    return rng.choice(FIRST) + " " + rng.choice(LAST)


def value(env, rng, typ):
    """what a needle holds"""
    if typ == "number":
        return number(rng)
    if typ == "word":
        return word(env, rng) if rng.random() < 0.5 else pair(env, rng)
    if typ == "uuid":
        return hexs(rng) if rng.random() < 0.7 else uuid(rng)
    return number(rng)


def distinct(f, n):
    """up to n different values of f; fewer where f runs out"""
    out, seen, t = [], set(), 0
    while len(out) < n and t < n * 20:
        v = f()
        t += 1
        if v not in seen:
            seen.add(v)
            out.append(v)
    return out


def and_list(x):
    return ", ".join(x)


# ---- tasks --------------------------------------------------------------
NEEDLE = [  # statement, question, answer
    (
        "The special magic {t} for {k} is: {v}.",
        "What is the special magic {t} for {k}?",
        "The special magic {t} for {k} is {v}.",
    ),
    (
        "One of the special magic {t}s for {k} is: {v}.",
        "What is the special magic {t} for {k} mentioned in the text?",
        "The special magic {t} for {k} is {v}.",
    ),
    ("The secret {t} of {k} is {v}.", "What is the secret {t} of {k}?", "The secret {t} of {k} is {v}."),
    ("Remember that the {t} for {k} is {v}.", "Which {t} belongs to {k}?", "The {t} for {k} is {v}."),
    ("The access code for {k} is {v}.", "What is the access code for {k}?", "The access code for {k} is {v}."),
    (
        "{k} has the identification {t} {v}.",
        "What is the identification {t} of {k}?",
        "The identification {t} of {k} is {v}.",
    ),
]
ONLY = [" Answer with the {t} only.", " Reply with only the {t}.", " Give just the {t}."]
HEADS = [
    "Read the text below and answer the question.",
    "Some special magic {t}s are hidden within the following text. Make sure to memorize them. I will quiz you about them afterwards.",
    "There is important information hidden in the text below. Find it and remember it.",
    "Here is a long text.",
    "",
    "",
]


def key(env, rng, style):
    """what a needle is named by"""
    if style == "pair":
        return pair(env, rng)
    if style == "word":
        return word(env, rng)
    if style == "person":
        return person(rng)
    if style == "city":
        return rng.choice(CITY)
    if style == "hex":
        return hexs(rng, 8)
    return made(rng, 3)


def t_niah(env, rng, L, mode=None, typ=None, depth=None, plain=False, full=None):
    """needle(s) in a haystack: single, multikey, multivalue, multiquery, dense (the whole haystack is needles)"""
    mode = mode or rng.choices(["single", "multikey", "multivalue", "multiquery", "dense"], [3, 4, 2, 2, 2])[0]
    typ = typ or rng.choices(["number", "word", "uuid"], [5, 3, 2])[0]
    tn = {"number": "number", "word": "word", "uuid": "code"}[typ]
    style = "pair" if plain else rng.choice(["pair", "pair", "word", "person", "city", "hex", "made"])
    st, q, a = NEEDLE[0] if plain else rng.choice(NEEDLE)
    unit = lambda k, v: env.E(" " + st.format(t=tn, k=k, v=v))
    cost = len(unit(key(env, rng, style), value(env, rng, typ))) + 3
    if mode == "single":
        nk = rng.choice([1, 1, 2, 3]) if not plain else 1
    elif mode == "multikey":
        nk = rng.choice([3, 4, 6, 8, 12, 16]) if not plain else 4
    elif mode == "multivalue":
        nk = rng.choice([1, 2, 3])
    elif mode == "multiquery":
        nk = rng.choice([4, 5, 6, 8])
    else:
        nk = 4000
    nk = max(1, min(nk, int((L - 200) * (0.95 if mode == "dense" else 0.5) / cost)))
    keys = distinct(lambda: key(env, rng, style), nk)
    kv = {k: [value(env, rng, typ)] for k in keys}
    if mode == "multivalue":
        for k in keys[: max(1, len(keys))]:
            kv[k] = distinct(lambda: value(env, rng, typ), rng.choice([2, 3, 4]))
            while cost * sum(map(len, kv.values())) > (L - 150) * 0.6 and len(kv[k]) > 1:
                kv[k].pop()
    full = (rng.random() < 0.5) if full is None else full

    def one(k):
        vs = kv[k]
        if len(vs) > 1 or mode == "multivalue":
            return (
                "What are all the special magic {t}s for {k} mentioned in the text?".format(t=tn, k=k)
                if st in (NEEDLE[0][0], NEEDLE[1][0])
                else "List every {t} given for {k} in the text.".format(t=tn, k=k)
            ), None
        qq = q.format(t=tn, k=k)
        if full:
            return qq, a.format(t=tn, k=k, v=vs[0])
        return qq + (ONLY[0] if plain else rng.choice(ONLY)).format(t=tn), vs[0]

    asked = keys[:]
    rng.shuffle(asked)
    if mode == "multiquery":
        n = min(len(asked), rng.choice([2, 3, 4]))
        asked = asked[:n]
        qas = [
            (
                "What are the special magic {t}s for {k}?".format(
                    t=tn, k=", ".join(asked[:-1]) + " and " + asked[-1] if n > 1 else asked[0]
                )
                if st in (NEEDLE[0][0], NEEDLE[1][0])
                else "Give the {t}s for {k}.".format(
                    t=tn, k=", ".join(asked[:-1]) + " and " + asked[-1] if n > 1 else asked[0]
                ),
                "\n".join(f"{k}: {kv[k][0]}" for k in asked),
            )
        ]
        rest = [k for k in keys if k not in asked]
        if rest and rng.random() < 0.5:
            qas += [one(k) for k in rest[:3]]
    else:
        nq = 1 if plain else rng.choice([1, 2, 3, 4, 6]) if mode != "dense" else rng.choice([2, 4, 6, 8])
        qas = [one(k) for k in asked[:nq]]
    items = [(k, v) for k in keys for v in kv[k]]
    if mode == "dense":
        rng.shuffle(items)
        ctx = []
        for i, (k, v) in enumerate(items):
            u = env.E(st.format(t=tn, k=k, v=v))
            if len(ctx) + len(u) > L - 60 - sum(len(env.E(x[0])) + 40 for x in qas):
                items = items[:i]
                break
            ctx += ([env.nl] if ctx else []) + u
        have = {k for k, _ in items}
        qas = [one(k) for k in asked if k in have][: len(qas)]
        if not qas:
            return None
        codes = [0] * len(ctx)
    else:
        units = [unit(k, v) for k, v in items]
        c = sum(map(len, units)) + sum(len(env.E(x[0])) + (len(env.E(x[1])) if x[1] else 60) + 14 for x in qas) + 60
        if L - c < 40:
            return None
        fill, code = env.filler(rng, L - c, "text" if plain else None)
        pos_units = list(zip(items, units))
        rng.shuffle(pos_units)
        # answers for many values are in text order: tag the units to read the order back
        ends = [i + 1 for i, t in enumerate(fill) if t in env.ends] + [0]
        if depth is not None and len(units) == 1:
            pos = [min(ends, key=lambda e: abs(e - depth * len(fill)))]
        else:
            pos = sorted(rng.choice(ends) for _ in units)
        ctx, codes, last = [], [], 0
        for p, (_, u) in zip(pos, pos_units):
            if p == 0:
                u = u + [env.nl] * 2
            ctx += fill[last:p] + u
            codes += [code] * (p - last) + [0] * len(u)
            last = p
        ctx += fill[last:]
        codes += [code] * (len(fill) - last)
        items = [x for x, _ in pos_units]
    qas2 = []
    for k, (qq, aa) in zip([None] * len(qas), qas):
        if aa is None:
            kk = [x for x in keys if re.search(r"(?<![\w-])" + re.escape(x) + r"(?![\w-])", qq)][-1]
            aa = and_list([v for k2, v in items if k2 == kk])
        qas2.append((qq, aa))
    head = (HEADS[1] if plain else rng.choice(HEADS)).format(t=tn)
    return wrap(env, rng, head, ctx, codes, qas2, q_first=(not plain) and rng.random() < 0.12)


def t_passkey(env, rng, L, depth=None):
    """a pass key among repeated sentences or running text"""
    v = number(rng, 5, 6)
    u = env.E(f" The pass key is {v}. Remember it. {v} is the pass key.")
    qa = [("What is the pass key?", f"The pass key is {v}.")]
    n = L - len(u) - qa_cost(env, qa) - 40
    if n < 20:
        return None
    fill, code = env.filler(rng, n, "noise" if rng.random() < 0.7 else "text")
    ctx, codes = insert(env, rng, fill, code, [u], None if depth is None else [depth])
    return wrap(
        env,
        rng,
        "There is important information hidden inside a lot of irrelevant text. Find it and memorize it. I will quiz you about it.",
        ctx,
        codes,
        qa,
    )


def t_json(env, rng, L, plain=False):
    """look-ups in one large JSON object of random keys and values"""
    ks = "hex" if plain else rng.choice(["hex", "hex", "uuid", "word", "pair", "made", "person"])
    vs = "hex" if plain else rng.choice(["hex", "uuid", "number", "word", "person", "city"])

    def mk(s):
        if s == "hex":
            return hexs(rng, 8)
        if s == "uuid":
            return uuid(rng)
        if s == "number":
            return number(rng)
        if s == "word":
            return word(env, rng)
        if s == "pair":
            return pair(env, rng)
        if s == "city":
            return rng.choice(CITY)
        if s == "person":
            return person(rng)
        return made(rng, 3)

    nq = 1 if plain else max(1, min(rng.choice([1, 2, 4, 6, 8]), (L - 60) // 130))
    nl, ctx, items, seen = [env.nl], env.E("{"), [], set()
    avail = L - 60 - nq * 75
    if avail < 60:
        return None
    while True:
        k = mk(ks)
        if k in seen:
            if len(seen) > 40 and ks in ("word",):
                break
            if len(seen) > 3000:
                break
            continue
        v = mk(vs)
        u = nl + env.E(f' "{k}": "{v}",')
        if len(ctx) + len(u) > avail:
            break
        ctx += u
        items.append((k, v))
        seen.add(k)
        if not plain and rng.random() < 0.0015:
            break
    if not items:
        return None
    # last record without a comma
    u = env.E(f' "{items[-1][0]}": "{items[-1][1]}",')
    ctx = ctx[: -len(u)] + env.E(f' "{items[-1][0]}": "{items[-1][1]}"') + nl + env.E("}")
    Q = [
        'Extract the value corresponding to the key "{k}" from the JSON object above.',
        'What is the value of the key "{k}"?',
        'Which value belongs to "{k}"?',
    ]
    q0 = Q[0] if plain else rng.choice(Q)
    full = (not plain) and rng.random() < 0.3
    qas = []
    for k, v in rng.sample(items, min(nq, len(items))):
        qas.append(
            (q0.format(k=k), f'"{k}": "{v}"' if full else v)
            if not full
            else (q0.format(k=k) + " Answer with the key and the value.", f'"{k}": "{v}"')
        )
    return wrap(
        env,
        rng,
        "Here is a JSON object with many keys." if plain or rng.random() < 0.6 else "",
        ctx,
        [0] * len(ctx),
        qas,
    )


def t_lines(env, rng, L):
    """register lines and phone books"""
    kind = rng.choice(["line", "phone", "table", "price"])
    nq = max(1, min(rng.choice([2, 3, 4, 6]), (L - 50) // 90))
    avail = L - 50 - nq * 55
    if avail < 60:
        return None
    ctx, items, seen = [], [], set()
    while True:
        if kind == "line":
            k = pair(env, rng)
            v = number(rng, 5, 5)
            s = f"line {k}: REGISTER_CONTENT is <{v}>"
            q, a = f"What is the <REGISTER_CONTENT> in line {k}?", f"The <REGISTER_CONTENT> in line {k} is <{v}>."
        elif kind == "phone":
            k = person(rng)
            v = f"{rng.randrange(200, 999)}-{rng.randrange(1000, 9999)}"
            s = f"{k}: {v}"
            q, a = f"What is the phone number of {k}?", f"{v}"
        elif kind == "table":
            k = person(rng)
            v = rng.choice(CITY)
            w = str(rng.randrange(18, 90))
            s = f"{k} | {w} | {v}"
            if rng.random() < 0.5:
                q, a = f"In which city does {k} live?", v
            else:
                q, a = f"How old is {k}?", w
        else:
            k = rng.choice(env.adjs) + " " + rng.choice(env.nouns)
            v = f"{rng.randrange(1, 400)}.{rng.randrange(10, 99)}"
            s = f"- {k}: ${v}"
            q, a = f"How much does the {k} cost?", f"The {k} costs ${v}."
        if k in seen:
            continue
        u = ([env.nl] if ctx else []) + env.E(s)
        if len(ctx) + len(u) > avail:
            break
        ctx += u
        seen.add(k)
        items.append((q, a))
        if len(items) > 3 and rng.random() < 0.0015:
            break
    if len(items) < 1:
        return None
    head = {
        "line": "Below is a record of lines. Each line begins with its name and holds a number.",
        "phone": "Phone book:",
        "table": "Name | Age | City",
        "price": "Price list:",
    }[kind]
    return wrap(env, rng, head, ctx, [0] * len(ctx), rng.sample(items, min(nq, len(items))))


def t_prefix(env, rng, L):
    """find the string that starts with a prefix (and ends with a suffix)"""
    both = rng.random() < 0.4
    n = rng.choice([12, 16, 20])
    p = rng.choice([4, 5, 6])
    alpha = rng.choice(["abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyz0123456789", "0123456789"])
    nq = max(1, min(rng.choice([1, 2, 4, 6]), (L - 40) // (4 * n + 60)))
    avail = L - 40 - nq * (2 * n + 40)
    if avail < 80:
        return None
    ctx, items, pre = [], [], set()
    while True:
        s = "".join(rng.choice(alpha) for _ in range(n))
        if s[:p] in pre:
            continue
        u = ([env.nl] if ctx else []) + env.E(s)
        if len(ctx) + len(u) > avail:
            break
        ctx += u
        pre.add(s[:p])
        items.append(s)
        if len(items) > 3 and rng.random() < 0.002:
            break
    if not items:
        return None
    qas = []
    for s in rng.sample(items, min(nq, len(items))):
        q = f"Find the string that starts with {s[:p]}" + (f" and ends with {s[-p:]}" if both else "") + "."
        qas.append((q, s))
    return wrap(env, rng, "Here is a list of strings.", ctx, [0] * len(ctx), qas)


def t_vt(env, rng, L, hops=None, chains=None, plain=False):
    """variable tracking"""
    hops = hops or rng.choice([1, 2, 2, 3, 3, 4, 4])
    chains = chains or rng.choice([1, 2, 2, 3, 4])
    nlet = 5 if plain else rng.choice([2, 3, 4, 5, 5])
    names = distinct(lambda: letters(rng, nlet), (hops + 1) * chains)
    if len(names) < (hops + 1) * chains:
        return None
    ch = []
    for c in range(chains):
        vs = names[c * (hops + 1) : (c + 1) * (hops + 1)]
        ch.append((number(rng, 5, 5), vs))
    var = "VAR " if plain or rng.random() < 0.8 else ""
    seqs = []
    for v, vs in ch:
        seqs.append([f" {var}{vs[0]} = {v}."] + [f" {var}{b} = {var}{a}." for a, b in zip(vs, vs[1:])])
    # random interleaving that keeps the order inside each chain
    units = []
    pool = [i for i, s in enumerate(seqs) for _ in s]
    rng.shuffle(pool)
    idx = [0] * len(seqs)
    for i in pool:
        units.append(env.E(seqs[i][idx[i]]))
        idx[i] += 1
    qas = []
    order = list(range(chains))
    rng.shuffle(order)
    for c in order[: 1 if plain else rng.choice([1, 1, 2, 3])]:
        v, vs = ch[c]
        if plain or rng.random() < 0.75:
            qas.append((f"Find all variables that are assigned the value {v} in the text above.", and_list(vs)))
        else:
            x = rng.choice(vs)
            qas.append((f"What is the value of the variable {x}?", v))
    n = L - sum(map(len, units)) - qa_cost(env, qas) - 40
    if n < 20:
        return None
    fill, code = env.filler(rng, n, "noise" if plain or rng.random() < 0.6 else "text")
    ctx, codes = insert(env, rng, fill, code, units)
    return wrap(
        env,
        rng,
        "Memorize and track the chain(s) of variable assignments hidden in the following text.",
        ctx,
        codes,
        qas,
    )


def t_count(env, rng, L):
    """most frequent words in a list"""
    k = rng.choice([1, 2, 3])
    L = min(L, rng.choice([256, 512, 1024, 2048]))
    n = int((L - 90) / 2.6)
    if n < 30:
        return None
    hi = distinct(lambda: word(env, rng), k)
    freq = max(5, int(n * rng.choice([0.1, 0.15, 0.2]) / k))
    lo = [w for w in distinct(lambda: word(env, rng), max(6, (n - k * freq) // 2)) if w not in hi]
    lst = [h for i, h in enumerate(hi) for _ in range(freq + (k - i) * max(1, freq // 6))]
    while len(lst) < n:
        lst.append(rng.choice(lo))
    rng.shuffle(lst)
    ctx = env.E(" ".join(lst))
    if len(ctx) > L - 60:
        return None
    q = (
        f"What are the {k} most common words in the above list?"
        if k > 1
        else "What is the most common word in the above list?"
    )
    # counts decide the order
    c = {h: lst.count(h) for h in hi}
    a = sorted(hi, key=lambda h: -c[h])
    return wrap(
        env,
        rng,
        "Below is a list of words. Some of them appear more often than others. Memorize the ones that appear most often.",
        ctx,
        [0] * len(ctx),
        [(q, and_list(a))],
    )


def t_minmax(env, rng, L):
    """largest, smallest, median, first and last of a list of numbers"""
    L = min(L, rng.choice([128, 256, 512, 1024, 2048]))
    d = rng.choice([2, 3, 4, 5])
    n = max(5, int((L - 110) / (d + 2.2)))
    nums = [rng.randrange(10 ** (d - 1), 10**d) for _ in range(n)]
    if len(nums) % 2 == 0:
        nums = nums[:-1]
    sep = rng.choice([", ", " ", "\n"])
    ctx = env.E(sep.join(map(str, nums)))
    if len(ctx) > L - 50:
        return None
    s = sorted(nums)
    ops = (
        [("largest", s[-1]), ("smallest", s[0])]
        + ([("median", s[len(s) // 2])] if n < 40 else [])
        + [("first", nums[0]), ("last", nums[-1])]
    )
    rng.shuffle(ops)
    qas = [
        (f"What is the {o} number in the list?", f"The {o} number in the list is {v}.")
        for o, v in ops[: rng.choice([1, 2, 3])]
    ]
    return wrap(env, rng, "Here is a list of numbers.", ctx, [0] * len(ctx), qas)


def t_icl(env, rng, L):
    """many-shot classification with made-up labels"""
    k = rng.choice([2, 3, 4, 6])
    cats = rng.sample(list(CATS), k)
    labs = distinct(lambda: made(rng, 2), k)
    nq = rng.choice([2, 4, 6])
    L = min(L, rng.choice([300, 600, 1200, 2400, 5000]))
    avail = L - 60 - nq * 30
    T = rng.choice(["Input: {x}\nLabel: {y}\n", "{x} -> {y}", "Word: {x} | Class: {y}"])
    ctx = []
    while True:
        i = rng.randrange(k)
        u = ([env.nl] if ctx else []) + env.E(T.format(x=rng.choice(CATS[cats[i]]), y=labs[i]))
        if len(ctx) + len(u) > avail:
            break
        ctx += u
    if len(ctx) < 20:
        return None
    qas = []
    for _ in range(nq):
        i = rng.randrange(k)
        x = rng.choice(CATS[cats[i]])
        qas.append((f'Which label does "{x}" get?', labs[i]))
    return wrap(env, rng, "Learn the labels from these examples.", ctx, [0] * len(ctx), qas)


def t_copy(env, rng, L):
    """exact repeat of a text, a random list, or one named paragraph"""
    m = rng.choice(["text", "list", "para", "para"])
    if m == "text":
        n = min((L - 50) // 2, rng.choice([30, 60, 120, 250, 500]))
        if n < 20:
            return None
        t = env.natural(rng, n)
        q = env.E("Repeat the following text exactly.")
        ids = env.user + q + [env.nl] * 2 + t + [IM_E, env.nl] + env.asst
        c = [0] * len(ids)
        ids += t + [IM_E]
        c += [2] * (len(t) + 1)
        return ids + [env.nl], c + [0]
    if m == "list":
        n = min((L - 50) // 7, rng.choice([5, 10, 20, 40, 80]))
        if n < 3:
            return None
        f = rng.choice([lambda: word(env, rng), lambda: number(rng), lambda: hexs(rng, 6), lambda: made(rng, 3)])
        s = rng.choice([", ", " ", "\n"]).join(f() for _ in range(n))
        r = wrap(
            env, rng, "Copy the list exactly as it is.", env.E(s), [0] * len(env.E(s)), [("Write the list again.", s)]
        )
        return r if len(r[0]) <= L else None
    n = max(2, min(12, L // 150))
    per = (L - 120 - 60) // n
    if per < 25:
        return None
    per = min(per, 150)
    ps = [env.natural(rng, rng.randrange(20, max(21, min(per, 120)))) for _ in range(n)]
    ctx = []
    for i, p in enumerate(ps):
        ctx += ([env.nl] * 2 if ctx else []) + env.E(f"Paragraph {i + 1}:") + [env.nl] + p
    i = rng.randrange(n)
    ids = (
        env.user
        + env.E("Read these paragraphs.")
        + [env.nl] * 2
        + ctx
        + [env.nl] * 2
        + env.E(f"Repeat paragraph {i + 1} exactly.")
        + [IM_E, env.nl]
        + env.asst
    )
    c = [0] * len(ids)
    ids = ids + ps[i] + [IM_E]
    c += [2] * (len(ps[i]) + 1)
    return (ids + [env.nl], c + [0]) if len(ids) < L else None


# ---- people: short biographies and questions about them -----------------
def bio(env, rng):
    """-> name, a short biography, its (question, answer) pairs"""
    f = rng.choice(FIRST)
    n = f + " " + rng.choice(LAST)
    he = rng.random() < 0.5
    P, p, o = ("He", "his", "him") if he else ("She", "her", "her")
    c, j, fd, co, pt, hb, age, yr, mo = (
        rng.choice(CITY),
        rng.choice(JOB),
        rng.choice(FOOD),
        rng.choice(COLOR),
        rng.choice(PET),
        rng.choice(HOBBY),
        rng.randrange(18, 80),
        rng.randrange(1935, 2006),
        rng.choice(MONTH),
    )
    c2 = rng.choice(CITY)
    art = "an" if j[0] in "aeiou" else "a"
    facts = [
        (
            rng.choice([f"{n} was born in {c2} in {yr}.", f"Born in {c2} in {yr}, {n} grew up in a quiet street."]),
            [
                (f"Where was {n} born?", f"{n} was born in {c2}."),
                (f"In what year was {n} born?", f"{n} was born in {yr}."),
            ],
        ),
        (
            rng.choice([f"{P} works as {art} {j}.", f"{f} is {art} {j}.", f"{P} earns {p} living as {art} {j}."]),
            [
                (f"What is the job of {n}?", f"{n} is {art} {j}."),
                (f"What does {n} do for a living?", f"{n} works as {art} {j}."),
            ],
        ),
        (
            rng.choice([f"{P} lives in {c}.", f"Today {f} lives in {c}.", f"{p.capitalize()} home is in {c}."]),
            [
                (f"Where does {n} live?", f"{n} lives in {c}."),
                (f"In which city does {n} live now?", f"{n} lives in {c}."),
            ],
        ),
        (
            rng.choice([f"{P} likes {hb}.", f"In {p} free time, {f} enjoys {hb}."]),
            [
                (f"What does {n} like to do?", f"{n} likes {hb}."),
                (f"What is the hobby of {n}?", f"The hobby of {n} is {hb}."),
            ],
        ),
        (
            rng.choice([f"{p.capitalize()} favorite food is {fd}.", f"Most of all, {f} likes to eat {fd}."]),
            [(f"What is the favorite food of {n}?", f"The favorite food of {n} is {fd}.")],
        ),
        (
            rng.choice([f"{p.capitalize()} favorite color is {co}.", f"{f} likes the color {co} best."]),
            [(f"What is the favorite color of {n}?", f"The favorite color of {n} is {co}.")],
        ),
        (
            rng.choice([f"{P} has {pt}.", f"At home, {f} keeps {pt}."]),
            [(f"Which pet does {n} have?", f"{n} has {pt}.")],
        ),
        (
            f"{p.capitalize()} birthday is in {mo}.",
            [(f"In which month is the birthday of {n}?", f"The birthday of {n} is in {mo}.")],
        ),
    ]
    k = rng.choice([3, 4, 5, 6])
    keep = [facts[0]] + rng.sample(facts[1:], k - 1)
    if rng.random() < 0.3:
        keep[0] = (f"{n} is {age} years old.", [(f"How old is {n}?", f"{n} is {age} years old.")])
    return n, " ".join(x[0] for x in keep), [q for x in keep for q in x[1]]


def short_ans(a, rng):
    return a


def t_bio(env, rng, L):
    """people described in short paragraphs, alone or hidden in running text"""
    mode = rng.choice(["list", "hidden", "hidden"])
    nq = max(1, min(rng.choice([1, 2, 3, 4, 5]), L // 90))
    avail = L - 40 - nq * 36
    if avail < 80:
        return None
    people, units, seen, tot = [], [], set(), 0
    maxn = 400 if mode == "list" else rng.choice([1, 2, 4, 8])
    while len(people) < maxn:
        n, s, qs = bio(env, rng)
        if n in seen:
            continue
        u = env.E(s)
        if tot + len(u) + 2 > (avail if mode == "list" else avail * 0.7):
            break
        seen.add(n)
        people.append((n, qs))
        units.append(u)
        tot += len(u) + 2
        if mode == "list" and rng.random() < 0.008 and len(people) > 2:
            break
    if not people:
        return None
    if mode == "list":
        ctx = []
        for u in units:
            ctx += ([env.nl] * 2 if ctx else []) + u
        codes = [0] * len(ctx)
    else:
        fill, code = env.filler(rng, avail - tot, "text")
        us = [[env.nl] * 2 + u + [env.nl] * 2 for u in units]
        ctx, codes = insert(env, rng, fill, code, us)
    qs = [q for n, q in people for q in q]
    qas = rng.sample(qs, min(nq, len(qs)))
    return wrap(
        env, rng, rng.choice(["", "Read the text and answer my questions.", "Use the text to answer."]), ctx, codes, qas
    )


def t_defs(env, rng, L):
    """glossary of terms (openly licensed textbooks and WordNet)"""
    ds = env.defs
    nq = max(1, min(rng.choice([1, 2, 3, 4]), L // 160))
    avail = L - 40 - nq * 70
    if avail < 60:
        return None
    ctx, items, seen = [], [], set()
    while True:
        t, d = rng.choice(ds)
        if t in seen:
            continue
        u = ([env.nl] if ctx else []) + env.E(f"{t}: {d}")
        if len(ctx) + len(u) > avail:
            break
        ctx += u
        seen.add(t)
        if len(env.E(d)) < 60:
            items.append(
                (rng.choice([f'What does "{t}" mean?', f'How is "{t}" defined in the list?', f'Define "{t}".']), d)
            )
        if len(items) > 2 and rng.random() < 0.008:
            break
    if not items:
        return None
    return wrap(env, rng, "Glossary:", ctx, [0] * len(ctx), rng.sample(items, min(nq, len(items))))


_CAP = re.compile(r"\b([A-Z][a-z]+(?: [A-Z][a-z]+){0,2}|\d{4}|\d[\d,.]*\d)\b")


def t_cloze(env, rng, L):
    """natural text: name what stands in a gap of one of its sentences, or how a sentence goes on"""
    nq = max(1, min(rng.choice([2, 3, 4, 5]), L // 150))
    avail = L - 40 - nq * 60
    if avail < 120:
        return None
    names = rng.choice([["edu"], ["edu"], ["books"], ["kids"]])
    paras, tot, ctx = [], 0, []
    k = rng.choice([1, 2, 4, 8, 12])
    per = max(60, min(400, avail // k))
    t = env.natural(rng, avail, names) if rng.random() < 0.5 else None
    if t is None:
        while tot + per + 2 < avail and len(paras) < 60:
            p = env.natural(rng, per, names)
            paras.append(p)
            tot += len(p) + 2
            ctx += ([env.nl] * 2 if ctx else []) + p
        t = ctx
    txt = env.D(t)
    sents = [s.strip() for s in re.split(r"(?<=[.!?])\s+", txt)]
    sents = [s for s in sents if 40 < len(s) < 220 and "\n" not in s and sents.count(s) == 1]
    rng.shuffle(sents)
    qas = []
    for s in sents:
        if len(qas) >= nq:
            break
        m = [x for x in _CAP.finditer(s) if x.start() > 0]
        if m and rng.random() < 0.8:
            x = rng.choice(m)
            gap = s[: x.start()] + "____" + s[x.end() :]
            qas.append((f"Fill in the blank with the words used in the text: {gap}", x.group(1)))
        elif len(s.split()) > 10:
            w = s.split()
            c = rng.randrange(5, len(w) - 3)
            qas.append((f"How does the sentence go on that begins with: {' '.join(w[:c])}", " ".join(w[c:])))
    if not qas:
        return None
    return wrap(env, rng, rng.choice(["", "Read the text carefully."]), t, [1] * len(t), qas)


def t_year(env, rng, L):
    """natural text: which year or number goes with a sentence (question without the sentence's wording order)"""
    avail = L - 150
    if avail < 150:
        return None
    t = env.natural(rng, avail, ["edu"])
    txt = env.D(t)
    sents = [s.strip() for s in re.split(r"(?<=[.!?])\s+", txt) if 40 < len(s) < 200 and "\n" not in s]
    qas = []
    for s in sents:
        m = re.match(r"^In (1[5-9]\d\d|20[0-2]\d), (.*)$", s)
        if m and "19" not in m.group(2) and "18" not in m.group(2):
            r = m.group(2).rstrip(".")
            qas.append((f"In what year did this happen: {r[0].upper() + r[1:]}?", m.group(1)))
        m = re.match(r"^([A-Z][^,;]{3,40}?) (is|was|were|are) ([^,;]{10,80})\.$", s)
        if (
            m
            and m.group(1).split()[0]
            not in (
                "It",
                "This",
                "That",
                "He",
                "She",
                "They",
                "There",
                "These",
                "What",
                "Those",
                "Here",
                "We",
                "You",
                "I",
            )
            and len(qas) < 6
        ):
            v = m.group(2)
            sub = m.group(1)
            sub = sub[0].lower() + sub[1:] if sub.split()[0] in ("The", "A", "An", "One", "In", "Many", "Some") else sub
            qas.append((f"What does the text say {sub} {v}?", m.group(3)))
    if not qas:
        return None
    rng.shuffle(qas)
    return wrap(env, rng, rng.choice(["", "Answer from the text."]), t, [1] * len(t), qas[:4])


SLOTQ = {
    "city": "Which city does the user mean?",
    "cuisine": "Which cuisine does the user want?",
    "date": "For which date?",
    "time": "At what time?",
    "restaurant_name": "Which restaurant is it?",
    "destination": "What is the destination?",
    "origin": "Where does the trip start?",
    "movie_name": "Which movie is it?",
    "song_name": "Which song is it?",
    "artist": "Which artist?",
    "hotel_name": "Which hotel is it?",
    "event_name": "Which event is it?",
    "departure_date": "What is the departure date?",
    "contact_name": "Which contact is meant?",
    "address": "What address is given?",
    "location": "Which location is meant?",
    "genre": "Which genre does the user like?",
    "amount": "What amount is it?",
    "doctor_name": "Which doctor is it?",
    "stylist_name": "Which hair stylist is it?",
    "destination_city": "What is the destination city?",
    "origin_city": "From which city does the user leave?",
    "pickup_city": "In which city is the car picked up?",
    "property_name": "Which property is it?",
}


def t_dialog(env, rng, L):
    """conversations as documents, then questions about what was said"""
    if not env.sgd:
        return None
    avail = L - 120
    ctx, items, fails = [], [], 0
    if avail < 150:
        return None
    while fails < 8:
        d = rng.choice(env.sgd)
        nm = person(rng)
        m = d["m"]
        s = f"Call with {nm}:\n" + "\n".join(("User: " if j % 2 == 0 else "Agent: ") + u for j, u in enumerate(m))
        u = ([env.nl] * 2 if ctx else []) + env.E(s)
        if len(ctx) + len(u) > avail:
            fails += 1
            continue
        ctx += u
        for k, v in d["st"].items():
            if k in SLOTQ and v in s:
                items.append((f"In the call with {nm}: {SLOTQ[k]}", v))
        if rng.random() < 0.03:
            break
    if not items:
        return None
    return wrap(
        env,
        rng,
        "Here are the notes of some calls.",
        ctx,
        [0] * len(ctx),
        rng.sample(items, min(len(items), rng.choice([1, 2, 3, 4]))),
    )


def t_induct(env, rng, L):
    """plain repetition of random tokens: seeds the copy circuit early on"""
    n = min((L - 30) // 2, rng.choice([16, 32, 64, 128, 256, 512]))
    if n < 8:
        return None
    t = [rng.randrange(300, env.V) for _ in range(n)]
    ids = env.user + env.E("Repeat:") + [env.nl] + t + [IM_E, env.nl] + env.asst
    c = [0] * len(ids)
    return ids + t + [IM_E, env.nl], c + [2] * (n + 1) + [0]


TASKS = {
    "niah": (t_niah, 5.0),
    "passkey": (t_passkey, 0.6),
    "json": (t_json, 3.0),
    "lines": (t_lines, 1.6),
    "prefix": (t_prefix, 1.2),
    "vt": (t_vt, 2.6),
    "count": (t_count, 0.5),
    "minmax": (t_minmax, 0.5),
    "icl": (t_icl, 0.6),
    "copy": (t_copy, 1.0),
    "bio": (t_bio, 2.2),
    "defs": (t_defs, 0.8),
    "cloze": (t_cloze, 2.2),
    "year": (t_year, 0.8),
    "dialog": (t_dialog, 0.7),
    "induct": (t_induct, 0.3),
}
NAMES = list(TASKS)
WEIGHTS = [TASKS[n][1] for n in NAMES]


def sample(env, rng, L, name=None):
    """one instance of at most L tokens of a task drawn by weight, or of the named one; None after twelve failures"""
    for _ in range(12):
        n = name or rng.choices(NAMES, WEIGHTS)[0]
        r = TASKS[n][0](env, rng, L)
        if r is not None and 8 < len(r[0]) <= L:
            return r
    return None
