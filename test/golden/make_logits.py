"""Golden logits of the tiny Hugging Face folders, and of a kvasir-mini folder where one is given.

usage: python make_logits.py                                     every folder under ../models
       python make_logits.py --mini FOLDER --text FILE.txt       logits-kvasir-mini.safetensors, prompts from the text
       python make_logits.py --mini FOLDER --text FILE.txt --gguf kvasir-mini.gguf
                                                                 the same with the weights of the bundled file, dequantized:
                                                                 logits-kvasir-mini-gguf.safetensors
"""

import argparse

import torch
from references import float64_distance, pick_prompts, record, write
from tiny_gguf import read_back
from tiny_models import CONFIGS, MODELS
from transformers import AutoModelForCausalLM, AutoTokenizer, __version__

LENGTHS = [1, 7, 64, 65, 1500]
CONTINUED = (7, 65)


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def tiny():
    for seed, name in enumerate(CONFIGS):
        model = load(MODELS / name)
        prompts = pick_prompts(model, LENGTHS, CONTINUED, 2000 + seed)
        tensors = record(model, prompts, CONTINUED)
        noise = max(float64_distance(model, ids) for ids in prompts[-2:])
        spread = tensors["65.logits"].std().item()
        write(name, tensors, model=name, seed=2000 + seed, transformers=__version__,
              float64_distance=f"{noise:.2e}", logit_std=f"{spread:.2f}")  # fmt: skip


def text_prompts(tokenizer, text):
    """Consecutive, non-overlapping pieces of a text, one of each length."""
    prompts, at = [], 3000
    for n in LENGTHS:
        prompts.append(tokenizer(text[at : at + 10 * n + 100], add_special_tokens=False).input_ids[:n])
        at += 10 * n + 100
    return prompts


def mini(folder, text_file, gguf_file=None):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = text_prompts(tokenizer, open(text_file, encoding="utf-8").read())
    model, name, weights = load(folder), "kvasir-mini", "bf16 weights"
    if gguf_file:
        state = read_back(gguf_file, model.config.to_dict(), {k: v.shape for k, v in model.named_parameters()})
        model.load_state_dict(state, strict=False)
        name, weights = "kvasir-mini-gguf", "weights of the GGUF file"
    tensors = record(model, prompts, CONTINUED, top=20)
    write(name, tensors, model=f"kvasir-mini, {weights}", text="held-out general text", transformers=__version__)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mini")
    parser.add_argument("--text")
    parser.add_argument("--gguf")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.mini:
        mini(options.mini, options.text, options.gguf)
    else:
        tiny()


if __name__ == "__main__":
    main()
