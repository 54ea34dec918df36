"""Tiny random models, one per architecture and RoPE variant, as Hugging Face folders.

usage: python tiny_models.py            writes ../models/<name>/

Weights are random but scaled so that attention is peaked, logits spread over several units and every
norm, bias and window matters. Configurations are written as the hub's files are (rope_theta and
rope_scaling at the top level), except where `rope_parameters` is meant to be read.
"""

import json
import pathlib
import re
import shutil

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM

MODELS = pathlib.Path(__file__).parent.parent / "models"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
VOCAB = 320
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SENTENCES = [
    "The cache keeps the keys and the values of the words that came before.",
    "A page holds up to sixty-four tokens, and a view lists the pages in order.",
    "Then the river ran down to the sea, and the wind went over the hills.",
    "There is a number hidden in the text; find it and write it down: 40719.",
    "When the budget is small, the method keeps what the last question looks at.",
    "for (let i = 0; i < n; i++) { sum += a[i] * b[i]; }",
]

BASE = dict(
    vocab_size=VOCAB, hidden_size=64, num_hidden_layers=2, max_position_embeddings=4096,
    initializer_range=0.02, attention_dropout=0.0, use_cache=True,
    bos_token_id=0, eos_token_id=2, pad_token_id=3,
)  # fmt: skip
LLAMA = dict(
    BASE, architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", rms_norm_eps=1e-5,
    attention_bias=False, mlp_bias=False, rope_theta=10000.0, rope_scaling=None, intermediate_size=96,
)  # fmt: skip

CONFIGS = {
    # group of 2, untied head, two shards
    "llama": dict(LLAMA, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False),
    # group of 8 (one KV head); 512 / wavelength falls below, between and above the two factors
    "llama3-rope": dict(
        LLAMA, num_attention_heads=8, num_key_value_heads=1, head_dim=16, tie_word_embeddings=True, rope_theta=500000.0,
        rope_scaling=dict(
            factor=8.0, high_freq_factor=4.0, low_freq_factor=1.0, original_max_position_embeddings=512, rope_type="llama3"
        ),
    ),
    # group of 1; the older key `type`; float32 on disk
    "llama-linear": dict(
        LLAMA, num_attention_heads=4, num_key_value_heads=4, head_dim=16, tie_word_embeddings=True, intermediate_size=40,
        rope_scaling=dict(type="linear", factor=4.0),
    ),
    "llama-yarn": dict(
        LLAMA, num_attention_heads=2, num_key_value_heads=1, head_dim=32, tie_word_embeddings=True,
        rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=1024),
    ),
    # heads x head_dim is not hidden; a window on every layer
    "mistral": dict(
        BASE, architectures=["MistralForCausalLM"], model_type="mistral", hidden_act="silu", rms_norm_eps=1e-5,
        num_attention_heads=4, num_key_value_heads=2, head_dim=24, intermediate_size=96, rope_theta=1000000.0,
        sliding_window=100, tie_word_embeddings=False,
    ),
    # q, k, v biases; a window that is present but switched off
    "qwen2": dict(
        BASE, architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_act="silu", rms_norm_eps=1e-6,
        num_attention_heads=4, num_key_value_heads=2, intermediate_size=96, rope_theta=1000000.0,
        sliding_window=32, use_sliding_window=False, max_window_layers=2, tie_word_embeddings=True,
    ),
    # q and k norms; the RoPE settings in `rope_parameters`
    "qwen3": dict(
        BASE, architectures=["Qwen3ForCausalLM"], model_type="qwen3", hidden_act="silu", rms_norm_eps=1e-4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=32, intermediate_size=80, attention_bias=False,
        sliding_window=None, use_sliding_window=False, max_window_layers=2, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0),
    ),
    # local and global layers, two RoPE bases, scaling on the global one only, softmax scale unlike 1/sqrt(head_dim)
    "gemma3": dict(
        BASE, architectures=["Gemma3ForCausalLM"], model_type="gemma3_text", hidden_activation="gelu_pytorch_tanh",
        rms_norm_eps=1e-6, num_attention_heads=4, num_key_value_heads=1, head_dim=16, intermediate_size=64,
        attention_bias=False, rope_theta=1000000.0, rope_local_base_freq=10000.0,
        rope_scaling=dict(rope_type="linear", factor=8.0), sliding_window=32, query_pre_attn_scalar=24,
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
        attn_logit_softcapping=None, final_logit_softcapping=None, tie_word_embeddings=True,
    ) | dict(num_hidden_layers=4),
}  # fmt: skip
DTYPES = {"llama-linear": torch.float32, "qwen2": torch.float16}


def fill(model, seed, logit_spread=3.0):
    """Draw every parameter anew, in the order of its name."""
    generator = torch.Generator().manual_seed(seed)
    gemma = model.config.model_type.startswith("gemma")
    hidden = model.config.hidden_size
    # Gemma multiplies embeddings by sqrt(hidden): without smaller ones a token would only predict itself
    embedding = logit_spread / hidden**0.5 / (5.0 if gemma else 1.0)
    normal = lambda p, std: torch.randn(p.shape, generator=generator) * std
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if "norm" in name:
                centre = 1.3 if name.endswith(("q_norm.weight", "k_norm.weight")) else 1.0
                if gemma and name == "model.norm.weight":
                    centre = 5.0
                p.copy_(normal(p, 0.25) + centre - (1.0 if gemma else 0.0))
            elif name.endswith("bias"):
                p.copy_(normal(p, 0.7))
            elif "embed_tokens" in name or "lm_head" in name:
                p.copy_(normal(p, embedding))
            elif "q_proj" in name or "k_proj" in name:
                p.copy_(normal(p, 1.25 / p.shape[1] ** 0.5))
            else:
                p.copy_(normal(p, 1.2 / p.shape[1] ** 0.5))


def train_tokenizer():
    """Byte-level BPE of VOCAB tokens: the four special tokens, 256 bytes and 60 merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    assert tokenizer.get_vocab_size() == VOCAB
    return tokenizer


def dump(path, value):
    """JSON, indented, with lists of plain values on one line (as the formatter of the repository writes it)."""
    text = re.sub(r"(?<=\d)e-0", "e-", json.dumps(value, indent=2, ensure_ascii=False))
    scalar = r'(?:"(?:[^"\\]|\\.)*"|[-+.\w]+)'
    one_line = lambda m: "[" + ", ".join(re.findall(scalar, m.group(1))) + "]"
    path.write_text(re.sub(rf"\[((?:\n\s*{scalar},?)+)\n\s*\]", one_line, text) + "\n")


def write_tokenizer(folder, tokenizer, template_file):
    """tokenizer.json and its configuration; the chat template in it or in a file of its own."""
    dump(folder / "tokenizer.json", json.loads(tokenizer.to_str()))
    added = {
        str(i): dict(content=t, lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
        for i, t in enumerate(SPECIAL)
    }
    config = dict(
        tokenizer_class="PreTrainedTokenizerFast", add_bos_token=False, add_eos_token=False, clean_up_tokenization_spaces=False,
        model_max_length=4096, bos_token=SPECIAL[0], eos_token=SPECIAL[2], unk_token=SPECIAL[0], pad_token=SPECIAL[3],
        added_tokens_decoder=added,
    )  # fmt: skip
    if template_file:
        (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    else:
        config["chat_template"] = CHAT_TEMPLATE
    dump(folder / "tokenizer_config.json", config)
    dump(folder / "generation_config.json", dict(bos_token_id=0, eos_token_id=[2, 0], pad_token_id=3, do_sample=False))


def save_shards(folder, state, parts):
    """One file, or several with an index, as the hub lays them out."""
    if parts == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(state)
    cut = [names[i * len(names) // parts : (i + 1) * len(names) // parts] for i in range(parts)]
    index = {}
    for i, group in enumerate(cut):
        file = f"model-{i + 1:05d}-of-{parts:05d}.safetensors"
        save_file({n: state[n] for n in group}, folder / file, metadata={"format": "pt"})
        index.update({n: file for n in group})
    total = sum(t.numel() * t.element_size() for t in state.values())
    dump(folder / "model.safetensors.index.json", dict(metadata=dict(total_size=total), weight_map=index))


def main():
    torch.set_num_threads(1)
    tokenizer = train_tokenizer()
    for seed, (name, config) in enumerate(CONFIGS.items()):
        folder = MODELS / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        dtype = DTYPES.get(name, torch.bfloat16)
        key = "dtype" if "rope_parameters" in config else "torch_dtype"
        dump(folder / "config.json", dict(config, **{key: str(dtype).removeprefix("torch.")}))
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
        fill(model, 1000 + seed)
        state = {k: v.detach().to(dtype).contiguous() for k, v in sorted(model.state_dict().items())}
        if config["tie_word_embeddings"]:
            state.pop("lm_head.weight", None)
        save_shards(folder, state, 2 if name == "llama" else 1)
        write_tokenizer(folder, tokenizer, template_file=name == "qwen3")
        size = sum(f.stat().st_size for f in folder.iterdir())
        print(f"{name:14s} {sum(t.numel() for t in state.values()):7d} parameters, {size:7d} bytes")


if __name__ == "__main__":
    main()
