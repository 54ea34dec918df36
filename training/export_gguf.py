"""Writes a GGUF file from the Hugging Face folder of kvasir-mini.

usage: python export_gguf.py HF_FOLDER OUT.gguf --type Q8_0
       python export_gguf.py HF_FOLDER OUT.gguf --types results/types.json --calibration CALIBRATION.npz
       python export_gguf.py HF_FOLDER OUT.gguf --type Q5_0 --plain

--types holds a GGUF type per matrix (choose_types.py), --type one for all. With a calibration file (calibrate.py) errors are
weighed by it and carried forward; --plain takes the quantizers of the gguf package instead, as most files are made.
The GGUF types F32, F16 and BF16 keep the weights as they are. Rows of q and k are stored interleaved, as the llama
architecture of GGUF wants them; quantization goes row by row, so their order does not matter to it.
"""

import argparse
import json
import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q
from safetensors.torch import load_file

import blocks
import choose_types

# Digits one by one, then the GPT-2 pattern: llama.cpp knows this pre-tokenizer by the name of the first model that had it
PRE_TOKENIZER = "smollm"
PARTS = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def gguf_name(name):
    top = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in top:
        return top[name]
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{PARTS[part]}.weight"


def interleave(rows, heads):
    """Rows of each head from halves (i, i + d/2) to neighbours (2i, 2i + 1)."""
    return np.ascontiguousarray(rows.reshape(heads, 2, len(rows) // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape))


def add_metadata(w, config):
    w.add_type(gguf.GGUFType.MODEL)
    w.add_name("Kvasir Mini")
    w.add_basename("kvasir-mini")
    w.add_size_label("34M")
    w.add_description("Finds things in contexts of up to 8,192 tokens; made to show what a method does to a KV cache.")
    w.add_organization("Kvasir")
    w.add_license("apache-2.0")
    w.add_languages(["en"])
    w.add_tags(["text-generation"])
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(config["num_attention_heads"])
    w.add_head_count_kv(config["num_key_value_heads"])
    w.add_key_length(config["head_dim"])
    w.add_value_length(config["head_dim"])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_rope_dimension_count(config["head_dim"])
    w.add_rope_freq_base(config["rope_theta"])
    w.add_vocab_size(config["vocab_size"])


def add_tokenizer(w, folder, config):
    """Byte-level BPE: tokens by id, their types, merges, the tokens that begin and end, and the chat template."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.get)
    assert [vocabulary[t] for t in tokens] == list(range(config["vocab_size"]))
    special = {t["content"] for t in tokenizer["added_tokens"] if t["special"]}
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(PRE_TOKENIZER)
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    w.add_bos_token_id(vocabulary[settings["bos_token"]])
    w.add_eos_token_id(vocabulary[settings["eos_token"]])
    w.add_eot_token_id(vocabulary["<|im_end|>"])
    w.add_unk_token_id(vocabulary[settings["unk_token"]])
    w.add_pad_token_id(vocabulary[settings["pad_token"]])
    w.add_add_bos_token(settings["add_bos_token"])
    w.add_add_eos_token(settings["add_eos_token"])
    w.add_chat_template(settings["chat_template"])


def encode(name, x, qtype, calibration, plain, cache):
    """-> (array, raw type or None) for GGUFWriter.add_tensor"""
    if qtype == Q.F32:
        return x, None
    if qtype == Q.F16:
        return x.astype(np.float16), None
    if cache and qtype.name in cache.get(name, {}):
        return cache[name][qtype.name][2], qtype
    if plain or qtype == Q.BF16:
        return gguf.quants.quantize(x, qtype), qtype
    moments = choose_types.moments_of(name, calibration) if calibration else None
    return blocks.quantize(x, qtype, moments), qtype


def export(folder, out, type_of, calibration=None, plain=False, cache=None):
    """type_of: name of a matrix -> GGUF type."""
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text())
    w = gguf.GGUFWriter(out, "llama")
    add_metadata(w, config)
    used = [type_of(n) for n in load_file(folder / "model.safetensors") if "norm" not in n]
    w.add_file_type(getattr(gguf.LlamaFileType, "MOSTLY_" + max(set(used), key=used.count), gguf.LlamaFileType.GUESSED))
    add_tokenizer(w, folder, config)
    for name, tensor in load_file(folder / "model.safetensors").items():
        x = tensor.float().numpy()
        qtype = Q.F32 if x.ndim == 1 else Q[type_of(name)]
        data, raw = encode(name, x, qtype, calibration, plain, cache)
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if part in name:
                data = interleave(data, config[heads])
        w.add_tensor(gguf_name(name), data, raw_dtype=raw)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return pathlib.Path(out).stat().st_size


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("out")
    parser.add_argument("--type")
    parser.add_argument("--types")
    parser.add_argument("--calibration")
    parser.add_argument("--plain", action="store_true")
    o = parser.parse_args()
    chosen = json.loads(pathlib.Path(o.types).read_text()) if o.types else None
    calibration = np.load(o.calibration) if o.calibration else None
    size = export(o.folder, o.out, lambda n: chosen[n] if chosen and n in chosen else o.type, calibration, o.plain)
    print(o.out, size, "bytes,", "fits" if size <= 24 * 1024 * 1024 else "more than 24 MiB")


if __name__ == "__main__":
    main()
