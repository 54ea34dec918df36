"""Tiny GGUF files: one per block type (llama), one per further architecture, with golden logits.

usage: python tiny_gguf.py            writes ../models/gguf/<name>.gguf and logits-gguf-<name>.safetensors

The goldens are transformers in float32 on the weights that the gguf package dequantizes from the written file.
Block types that the package can write are quantized from random weights; K-quants are random valid blocks,
so every bit of scales, minima and codes counts.
"""

import json
import math
import re

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from references import pick_prompts, record, write
from tiny_models import CHAT_TEMPLATE, CONFIGS, LLAMA, MODELS, SPECIAL, VOCAB, fill, train_tokenizer
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, __version__

LENGTHS = [1, 7, 33, 300]
CONTINUED = (7, 33)
NARROW = dict(LLAMA, num_attention_heads=4, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)
WIDE = dict(
    LLAMA, hidden_size=256, intermediate_size=256, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
    head_dim=64, tie_word_embeddings=True,
)  # fmt: skip

# name -> (configuration, type of the matrices)
FILES = {
    "f16": (NARROW | dict(tie_word_embeddings=False), Q.F16),
    "bf16": (NARROW, Q.BF16),
    "q4_0": (NARROW, Q.Q4_0),
    "q4_1": (NARROW, Q.Q4_1),
    "q5_0": (NARROW, Q.Q5_0),
    "q5_1": (NARROW | dict(tie_word_embeddings=False), Q.Q5_1),
    "q8_0": (NARROW, Q.Q8_0),
    "q4_k": (WIDE, Q.Q4_K),
    "q5_k": (WIDE, Q.Q5_K),
    "q6_k": (WIDE, Q.Q6_K),
    # Llama 3 scaling as the tensor rope_freqs.weight
    "llama3-rope": (CONFIGS["llama3-rope"], Q.Q8_0),
    # linear scaling as metadata; float32 matrices
    "llama-linear": (CONFIGS["llama-linear"] | dict(num_hidden_layers=1), Q.F32),
    # YaRN scaling as metadata
    "qwen2": (
        CONFIGS["qwen2"]
        | dict(rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=1024)),
        Q.Q8_0,
    ),
    "qwen3": (CONFIGS["qwen3"] | dict(intermediate_size=96), Q.Q8_0),
    # five local layers, then a global one: the pattern is not in the file
    "gemma3": (
        {k: v for k, v in CONFIGS["gemma3"].items() if k != "layer_types"}
        | dict(num_hidden_layers=6, sliding_window_pattern=6, intermediate_size=32, query_pre_attn_scalar=16),
        Q.Q8_0,
    ),
}  # fmt: skip

LAYER = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "input_layernorm": "attn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
NORMS = {"post_attention_layernorm": "ffn_norm"}
GEMMA_NORMS = {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip


def gguf_name(name, gemma):
    """Hugging Face parameter name -> GGUF tensor name."""
    top = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in top:
        return top[name]
    layer, part, kind = re.fullmatch(r"model\.layers\.(\d+)\.(.*)\.(weight|bias)", name).groups()
    return f"blk.{layer}.{(LAYER | (GEMMA_NORMS if gemma else NORMS))[part]}.{kind}"


def interleave(w, heads):
    """Rows of each head from halves (i, i + d/2) to neighbours (2i, 2i + 1), as the llama architecture stores q and k."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(w.shape)


def deinterleave(w, heads):
    return w.reshape(heads, w.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)


def random_blocks(shape, qtype, std, rng):
    """Random valid K-quant blocks [rows, bytes] whose values spread by about `std`."""
    rows, columns = shape
    block, size = gguf.GGML_QUANT_SIZES[qtype]
    out = rng.integers(0, 256, (rows, columns // block, size), dtype=np.uint8)
    half = lambda x: np.asarray(x, np.float16).view(np.uint8).reshape(rows, columns // block, 2)
    spread = lambda: rng.uniform(0.7, 1.3, (rows, columns // block))
    if qtype == Q.Q6_K:  # d * scale (int8) * code (-32..31)
        out[..., 208:] = half(std / 1370 * spread())
    else:  # d * scale * code - dmin * minimum, scales and minima of 6 bits
        code = 15 if qtype == Q.Q4_K else 31
        unit = std / (32 * code / 2)
        out[..., 0:2] = half(unit * spread())
        out[..., 2:4] = half(unit * code / 2 * spread())
    return out.reshape(rows, -1)


def rope_factors(scaling, theta, dim):
    """rope_freqs.weight: what each frequency of Llama 3 scaling is divided by."""
    low = scaling["original_max_position_embeddings"] / scaling["low_freq_factor"]
    high = scaling["original_max_position_embeddings"] / scaling["high_freq_factor"]
    out = []
    for i in range(0, dim, 2):
        wavelength = 2 * math.pi * theta ** (i / dim)
        if wavelength < high:
            out.append(1.0)
        elif wavelength > low:
            out.append(scaling["factor"])
        else:
            smooth = (scaling["original_max_position_embeddings"] / wavelength - scaling["low_freq_factor"]) / (
                scaling["high_freq_factor"] - scaling["low_freq_factor"]
            )
            out.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.asarray(out, np.float32)


def add_bpe(w, pre):
    spec = json.loads(train_tokenizer().to_str())["model"]
    tokens = sorted(spec["vocab"], key=spec["vocab"].get)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.NORMAL for t in tokens])
    w.add_token_merges([" ".join(m) for m in spec["merges"]])
    w.add_bos_token_id(0)
    w.add_eos_token_id(2)
    w.add_pad_token_id(3)
    w.add_add_bos_token(False)
    w.add_chat_template(CHAT_TEMPLATE)


def spm_vocabulary():
    """-> (pieces, scores, types) of a small SentencePiece vocabulary with byte fallback."""
    control = ["<pad>", "<eos>", "<bos>", "<unk>"]
    turns = ["<start_of_turn>", "<end_of_turn>"]
    merged = ["▁t", "he", "▁the", "in", "an", "er", "▁a", "re", "on", "▁s", "▁w", "ou", "en", "▁and", "ing", "▁▁"]
    letters = list("▁etaoinsrhldcumfpgwybv.,k1203I'éß你🙂")
    pieces = merged + letters
    pieces += [c for c in 'THSAWBCMxjqzPDNEFLR4567890!?-()"' if c not in pieces][: VOCAB - len(pieces) - 262]
    T = gguf.TokenType
    types = [T.CONTROL] * 3 + [T.UNKNOWN] + [T.CONTROL] * 2 + [T.BYTE] * 256 + [T.NORMAL] * len(pieces)
    scores = [0.0] * 262 + [-float(i) for i in range(len(pieces))]
    return control + turns + [f"<0x{b:02X}>" for b in range(256)] + pieces, scores, types


def add_spm(w):
    pieces, scores, types = spm_vocabulary()
    assert len(pieces) == VOCAB
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list(pieces)
    w.add_token_scores(scores)
    w.add_token_types(types)
    w.add_bos_token_id(2)
    w.add_eos_token_id(1)
    w.add_eot_token_id(5)
    w.add_unk_token_id(3)
    w.add_pad_token_id(0)
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)
    w.add_add_space_prefix(False)
    w.add_chat_template(
        "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) "
        "+ '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    )


def write_gguf(path, name, config, qtype, state):
    """Metadata as llama.cpp's converter writes it, then the tensors."""
    arch = {"gemma3_text": "gemma3"}.get(config["model_type"], config["model_type"])
    w = gguf.GGUFWriter(path, arch)
    w.add_name(f"tiny {name}")
    w.add_file_type(gguf.LlamaFileType.GUESSED)
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(config["num_attention_heads"])
    w.add_head_count_kv(config["num_key_value_heads"])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_vocab_size(config["vocab_size"])
    theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    w.add_rope_freq_base(theta)
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    if arch == "llama":
        w.add_rope_dimension_count(head_dim)
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type") or scaling.get("type")
    if kind == "llama3":
        w.add_tensor("rope_freqs.weight", rope_factors(scaling, theta, head_dim))
    elif kind:
        w.add_rope_scaling_type(gguf.RopeScalingType(kind))
        w.add_rope_scaling_factor(scaling["factor"])
        if kind == "yarn":
            w.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    if arch == "gemma3":
        w.add_sliding_window(config["sliding_window"])
        add_spm(w)
    else:
        add_bpe(w, {"qwen2": "qwen2", "qwen3": "qwen2"}.get(arch, "llama-bpe" if kind == "llama3" else "smollm"))
    rng = np.random.default_rng(sum(map(ord, name)))
    for key, value in state.items():
        a = value.numpy()
        if arch == "llama" and "q_proj" in key:
            a = interleave(a, config["num_attention_heads"])
        if arch == "llama" and "k_proj" in key:
            a = interleave(a, config["num_key_value_heads"])
        if arch == "gemma3" and "norm" in key:
            a = a + 1
        target = gguf_name(key, arch == "gemma3")
        if a.ndim == 1 or qtype == Q.F32:
            w.add_tensor(target, np.ascontiguousarray(a, np.float32))
        elif qtype in (Q.Q4_K, Q.Q5_K, Q.Q6_K):
            w.add_tensor(target, random_blocks(a.shape, qtype, float(a.std()), rng), raw_dtype=qtype)
        elif qtype == Q.F16:
            w.add_tensor(target, a.astype(np.float16))
        else:
            w.add_tensor(target, gguf.quants.quantize(np.ascontiguousarray(a), qtype), raw_dtype=qtype)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def read_back(path, config, names):
    """The file's weights as transformers wants them, dequantized."""
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}
    llama, gemma = config["model_type"] == "llama", config["model_type"].startswith("gemma")
    state = {}
    for key, shape in names.items():
        a = tensors[gguf_name(key, gemma)].reshape(shape)
        if llama and "q_proj" in key:
            a = deinterleave(a, config["num_attention_heads"])
        if llama and "k_proj" in key:
            a = deinterleave(a, config["num_key_value_heads"])
        state[key] = torch.from_numpy(np.array(a - 1 if gemma and "norm" in key else a, np.float32))
    return state


def main():
    torch.set_num_threads(1)
    folder = MODELS / "gguf"
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, (config, qtype)) in enumerate(FILES.items()):
        options = {k: v for k, v in config.items() if k not in ("model_type", "architectures")}
        made = CONFIG_MAPPING[config["model_type"]](**options)
        model = AutoModelForCausalLM.from_config(made, dtype=torch.float32, attn_implementation="eager").eval()
        fill(model, 3000 + seed)
        state = {k: v.detach().clone() for k, v in sorted(model.state_dict().items())}
        if config["tie_word_embeddings"]:
            state.pop("lm_head.weight", None)
        path = folder / f"{name}.gguf"
        write_gguf(path, name, config, qtype, state)
        missing = model.load_state_dict(read_back(path, config, {k: v.shape for k, v in state.items()}), strict=False)
        assert missing.unexpected_keys == [] and set(missing.missing_keys) <= {"lm_head.weight"}, missing
        model.tie_weights()
        prompts = pick_prompts(model, LENGTHS, CONTINUED, 4000 + seed, low=6)
        write(f"gguf-{name}", record(model, prompts, CONTINUED), model=f"gguf/{name}.gguf", seed=4000 + seed,
              transformers=__version__, gguf_bytes=path.stat().st_size)  # fmt: skip


if __name__ == "__main__":
    main()
