"""Sentence BLEU (nltk 3.10.4, smoothing method 4) and ROUGE-Lsum (rouge-score 0.1.2) of random texts: scorers.json.

pip install nltk==3.10.4 rouge-score==0.1.2 && python make.py
"""
import json, pathlib, random
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_score import rouge_scorer

rng = random.Random(11)
smooth = SmoothingFunction().method4
rouge = rouge_scorer.RougeScorer(["rougeLsum"], use_stemmer=False)


def text(words, lines):
    return "\n".join(" ".join(rng.choice(words) for _ in range(rng.randrange(0, 9))) for _ in range(lines))


def edited(source, words):
    tokens = source.split(" ")
    for _ in range(rng.randrange(0, 6)):
        at = rng.randrange(len(tokens))
        what = rng.randrange(3)
        if what == 0: tokens[at] = rng.choice(words)
        elif what == 1: tokens.insert(at, rng.choice(words))
        elif len(tokens) > 1: del tokens[at]
    return " ".join(tokens)


cases = []
for i in range(60):
    words = ["The", "the", "cat", "Cat.", "sat", "on", "a", "mat,", "x+1", "in", "42", "of"][: rng.choice([3, 6, 12])]
    reference = text(words, rng.randrange(1, 5))
    written = edited(reference, words) if i % 2 else text(words, rng.randrange(1, 5))
    bleu = sentence_bleu([reference.split()], written.split(), smoothing_function=smooth) if written.split() else 0
    cases.append({"written": written, "reference": reference, "bleu": float(bleu),
                  "rouge": rouge.score(reference, written)["rougeLsum"].fmeasure})
pathlib.Path(__file__).with_name("scorers.json").write_text(json.dumps(cases, indent=1) + "\n")
