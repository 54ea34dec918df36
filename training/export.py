"""Writes the Hugging Face files and the golden references. usage: python export.py WORK_DIR MODEL.safetensors OUT_DIR [--device cpu]"""

import argparse
import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file

import model as M

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 8192, "hidden_size": 512,
    "intermediate_size": 1408, "num_hidden_layers": 10, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64,
    "hidden_act": "silu", "max_position_embeddings": 8192, "initializer_range": 0.02, "rms_norm_eps": 1e-5,
    "rope_theta": 100000.0, "rope_scaling": None, "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False,
    "tie_word_embeddings": True, "use_cache": True, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 3,
    "torch_dtype": "bfloat16",
}  # fmt: skip
GENERATION = {"bos_token_id": 0, "eos_token_id": [2, 0], "pad_token_id": 3, "do_sample": False, "max_new_tokens": 256}
TOKENIZER = {
    "tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False, "add_bos_token": False, "add_eos_token": False,
    "clean_up_tokenization_spaces": False, "model_max_length": 8192, "bos_token": SPECIAL[0], "eos_token": SPECIAL[2],
    "unk_token": SPECIAL[0], "pad_token": SPECIAL[3],
    "added_tokens_decoder": {
        str(i): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
        for i, t in enumerate(SPECIAL)
    },
    "chat_template": TEMPLATE,
}  # fmt: skip
SPECIAL_MAP = {
    "bos_token": SPECIAL[0], "eos_token": SPECIAL[2], "unk_token": SPECIAL[0], "pad_token": SPECIAL[3],
    "additional_special_tokens": SPECIAL[1:3],
}  # fmt: skip
TOKENIZER_CASES = (
    "Hello world! 12345 it's  fine.\n\n\tTabs\u00e9 \u4f60\u597d \U0001f600", '{"a1b2": [1, 2.5]}',
    "The <|im_start|> token and  spaces   ", "don't DON'T we'll\r\nnew",
)  # fmt: skip
KV_LAYERS, KV_TOKENS = (0, 5), 300


def dump(folder, name, value):
    json.dump(value, open(f"{folder}/{name}", "w"), indent=2)


def write_folder(work, weights, out):
    os.makedirs(out, exist_ok=True)
    dump(out, "config.json", CONFIG)
    dump(out, "generation_config.json", GENERATION)
    dump(out, "tokenizer_config.json", TOKENIZER)
    dump(out, "special_tokens_map.json", SPECIAL_MAP)
    shutil.copy(work + "/tokenizer.json", out + "/tokenizer.json")
    state = {k: v.to(torch.bfloat16).contiguous() for k, v in load_file(weights).items()}
    save_file(state, out + "/model.safetensors", metadata={"format": "pt"})


def golden_prompts(tokenizer, held_out):
    """-> (name, text) of six prompts: chats, a needle, a JSON look-up, plain text."""
    chat = lambda messages: tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ask = lambda text: chat([{"role": "user", "content": text}])
    fill = held_out[3000:6000]
    k, k2 = fill.rfind(". ", 0, 700) + 1, fill.rfind(". ", 0, 1600) + 1
    needle = fill[:k] + " The special magic number for sleepy-otter is: 4071936." + fill[k:k2]
    memorize = "Some special magic numbers are hidden within the following text. Make sure to memorize them. I will quiz you about them afterwards.\n\n"
    question = "\n\nWhat is the special magic number for sleepy-otter? Answer with the number only."
    keys = 'Here is a JSON object with many keys.\n\n{\n "3fa1c09b": "77be02d1",\n "c0ffee12": "5a5a90fe",\n "9b1d44e0": "e2c81a37"\n}\n\n'
    turns = ["You are a helpful assistant.", "My name is Otto.", "Nice to meet you, Otto!", "What is my name?"]
    roles = ["system", "user", "assistant", "user"]
    return [
        ("greeting", ask("Hello! What is your name?")),
        ("story", ask("Tell me a story about a fox.")),
        ("needle", ask(memorize + needle.strip() + question)),
        ("json", ask(keys + 'Extract the value corresponding to the key "c0ffee12" from the JSON object above.')),
        ("multi_turn", chat([{"role": r, "content": t} for r, t in zip(roles, turns)])),
        ("plain_text", "The history of the city began when a small group of"),
    ]


@torch.no_grad()
def golden_logits(hf, tokenizer, held_out, device):
    """The 20 highest logits at the last three positions and 32 greedy tokens of every prompt."""
    out = []
    for name, text in golden_prompts(tokenizer, held_out):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        x = torch.tensor([ids], device=device)
        logits = hf(x).logits[0].float()
        last = []
        for q in (-3, -2, -1):
            v, i = logits[q].topk(20)
            last.append({"position": len(ids) + q, "ids": i.tolist(), "logits": [round(z, 5) for z in v.tolist()]})
        for _ in range(32):
            x = torch.cat([x, hf(x).logits[:, -1:].argmax(-1)], 1)
        greedy = x[0, len(ids) :].tolist()
        out.append(
            dict(name=name, text=text, ids=ids, top20=last, greedy_ids=greedy, greedy_text=tokenizer.decode(greedy))
        )
        print(name, len(ids), repr(tokenizer.decode(greedy))[:200], flush=True)
    return out


@torch.no_grad()
def golden_cache(hf, tokenizer, held_out, device, out):
    """K before and after RoPE and V of two layers of a 300-token text. -> (ids [1, n], logits [n, V])"""
    ids = tokenizer(held_out[20000:24000], add_special_tokens=False).input_ids[:KV_TOKENS]
    x = torch.tensor([ids], device=device)
    captured, hooks = {}, []

    def capture(key):
        def hook(module, inputs, output):
            captured[key] = output[0].view(KV_TOKENS, 4, 64).transpose(0, 1).contiguous()

        return hook

    for layer in KV_LAYERS:
        attention = hf.model.layers[layer].self_attn
        hooks.append(attention.k_proj.register_forward_hook(capture(f"layer{layer}.k_pre_rope")))
        hooks.append(attention.v_proj.register_forward_hook(capture(f"layer{layer}.v")))
    result = hf(x, use_cache=True)
    for layer in KV_LAYERS:
        captured[f"layer{layer}.k_post_rope"] = result.past_key_values.layers[layer].keys[0].contiguous()
    for hook in hooks:
        hook.remove()
    logits = result.logits[0]
    tensors = {k: v.half().cpu() for k, v in captured.items()}
    tensors["ids"] = torch.tensor(ids, dtype=torch.int32)
    tensors["logits_last"] = logits[-1].float().cpu()
    tensors["nll"] = torch.nn.functional.cross_entropy(logits[:-1].float(), x[0, 1:], reduction="none").cpu()
    layout = (
        "k/v: [kv_head, token, head_dim], float16 of float32 values; ids int32; logits_last: float32 logits at the last position; "
        "nll: float32 loss of each next token"
    )
    save_file(tensors, out + "/golden.safetensors", metadata={"layout": layout})
    return x, logits


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work")
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    o = parser.parse_args()
    write_folder(o.work, o.model, o.out)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    tokenizer = AutoTokenizer.from_pretrained(o.out)
    hf = (
        AutoModelForCausalLM.from_pretrained(o.out, dtype=torch.float32, attn_implementation="eager")
        .to(o.device)
        .eval()
    )
    held_out = open(o.work + "/raw/heldout.txt").read()
    note = (
        "float32 weights upcast from the bf16 checkpoint, float32 eager attention, one forward pass over the whole sequence; "
        "greedy continuation without a stop token"
    )
    golden = {"model": "kvasir-mini", "note": note, "prompts": golden_logits(hf, tokenizer, held_out, o.device)}
    x, logits = golden_cache(hf, tokenizer, held_out, o.device, o.out)
    golden["kv_prompt"] = {"file": "golden.safetensors", "tokens": KV_TOKENS, "layers": list(KV_LAYERS)}
    # the training code against the Hugging Face model
    own = M.Model().to(o.device)
    own.load_hf(load_file(o.out + "/model.safetensors"))
    cos, sin = M.rope_tables(KV_TOKENS, o.device)
    with torch.no_grad():
        difference = own.logits(own.hidden(x, cos, sin, torch.float32))[0] - logits
    golden["training_code_vs_hf_max_abs_logit_diff"] = float(difference.abs().max())
    print("difference", golden["training_code_vs_hf_max_abs_logit_diff"])
    encode = lambda t: tokenizer(t, add_special_tokens=False).input_ids
    golden["tokenizer_cases"] = [{"text": t, "ids": encode(t)} for t in TOKENIZER_CASES]
    dump(o.out, "golden.json", golden)


if __name__ == "__main__":
    main()
