"""Unpacks the text, trains the byte-level BPE tokenizer (8192), tokenizes everything to uint16 .npy files.

usage: python prep.py ARCHIVE_DIR WORK_DIR [tokenizer.json]
ARCHIVE_DIR holds *.7z (text) and the 7zz binary; documents inside a .txt are split by a line with byte 0x1e.
"""

import collections
import glob
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
CORPORA = ("books", "edu", "kids", "tech", "wiki", "heldout")


def unpack(source, raw):
    os.makedirs(raw, exist_ok=True)
    tool = os.path.join(source, "7zz")
    extract = lambda f: subprocess.run([tool, "x", "-y", "-o" + raw, f], check=True, stdout=subprocess.DEVNULL)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(extract, sorted(glob.glob(source + "/*.7z"))))
    for archive in glob.glob(raw + "/*.tar"):
        subprocess.run(["tar", "xf", archive, "-C", raw], check=True)


def tokenizer_text(raw):
    """Pieces of text that the tokenizer is trained on."""
    files = [raw + "/kids.txt"] + sorted(glob.glob(raw + "/edu-*.txt"))
    files += sorted(glob.glob(raw + "/books-*.txt"))[:2] + [raw + "/tech.txt"]
    for file in files:
        text = open(file, encoding="utf-8").read()
        for i in range(0, len(text), 20000):
            yield text[i : i + 20000]
    for line in open(raw + "/chat.jsonl"):
        yield "\n".join(json.loads(line)["m"])
    for i, line in enumerate(open(raw + "/sgd.jsonl")):
        if i % 3 == 0:
            yield "\n".join(json.loads(line)["m"])


def train_tokenizer(raw, out):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    pattern = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pattern])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8192, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False, min_frequency=2,
    )  # fmt: skip
    tokenizer.train_from_iterator(tokenizer_text(raw), trainer)
    tokenizer.save(out)


def encode_file(arguments):
    """(text file, tokenizer, out) -> shuffled documents as token ids, each followed by token 0."""
    file, tokenizer_file, out = arguments
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(tokenizer_file)
    encode = lambda s: np.asarray(tokenizer.encode(s, add_special_tokens=False).ids, dtype=np.uint16)
    documents = open(file, encoding="utf-8").read().split("\n\x1e\n")
    random.Random(file).shuffle(documents)
    ids = []
    for document in documents:
        document = document.strip()
        if len(document) < 20:
            continue
        paragraphs = document.split("\n\n")
        block, size, first = [], 0, True
        for i, paragraph in enumerate(paragraphs):  # encode in blocks that end at a paragraph
            block.append(paragraph)
            size += len(paragraph)
            if size > 40000 or i == len(paragraphs) - 1:
                ids.append(encode(("" if first else "\n\n") + "\n\n".join(block)))
                block, size, first = [], 0, False
        ids.append(np.zeros(1, np.uint16))
    joined = np.concatenate(ids)
    np.save(out, joined)
    return os.path.basename(file), len(joined)


def word_lists(raw):
    """Frequent plain words of the corpus, by WordNet's parts of speech."""
    text = open(raw + "/kids.txt").read() + open(sorted(glob.glob(raw + "/edu-*.txt"))[0]).read()
    count = collections.Counter(re.findall(r"\b[a-z]{3,10}\b", text))
    by_part = collections.defaultdict(set)
    for word, part, _, _ in json.load(open(raw + "/wordnet.json")):
        if re.fullmatch(r"[a-z]{3,10}", word) and count[word] >= 8:
            by_part[part].add(word)
    nouns, adjectives = sorted(by_part["noun"]), sorted(by_part["adj"] - by_part["noun"])
    return {"words": sorted(set(nouns) | set(adjectives) | by_part["verb"]), "nouns": nouns, "adjs": adjectives}


def main():
    source, work = sys.argv[1:3]
    start = time.time()
    elapsed = lambda: round(time.time() - start, 1)
    raw = work + "/raw"
    os.makedirs(work, exist_ok=True)
    unpack(source, raw)
    print("unpacked", elapsed(), flush=True)
    tokenizer = work + "/tokenizer.json"
    if len(sys.argv) > 3 and os.path.exists(sys.argv[3]):
        shutil.copy(sys.argv[3], tokenizer)
    else:
        train_tokenizer(raw, tokenizer)
    print("tokenizer", elapsed(), flush=True)
    # WikiText keeps its spaced-out punctuation
    with open(raw + "/wiki.txt", "w") as f:
        f.write(open(raw + "/wikivalid.txt").read().replace("\n = ", "\n\x1e\n = "))
    corpus = lambda f: os.path.basename(f).split(".")[0].split("-")[0]
    files = [f for f in sorted(glob.glob(raw + "/*.txt")) if corpus(f) in CORPORA]
    with ProcessPoolExecutor(16) as pool:
        jobs = [(f, tokenizer, work + "/" + os.path.basename(f)[:-4] + ".npy") for f in files]
        results = list(pool.map(encode_file, jobs))
    for group in ("books", "edu"):
        parts = sorted(glob.glob(f"{work}/{group}-*.npy"))
        np.save(f"{work}/{group}.npy", np.concatenate([np.load(p) for p in parts]))
        for p in parts:
            os.remove(p)
    words = word_lists(raw)
    json.dump(words, open(work + "/words.json", "w"))
    print("words", *[len(v) for v in words.values()])
    for result in results:
        print(*result)
    print("prepared", elapsed(), flush=True)


if __name__ == "__main__":
    main()
