"""The model: Llama layout, written for training speed; parameter names follow the Hugging Face checkpoint."""

import torch
import torch.nn as nn
import torch.nn.functional as F

CONFIG = dict(
    hidden=512, layers=10, heads=8, kv_heads=4, head_dim=64, inter=1408, vocab=8192, eps=1e-5, theta=100000.0, max_pos=8192
)  # fmt: skip
# expand: repeat K and V per query head instead of asking the attention kernel for groups
ATTENTION = {"expand": False}
# Hugging Face name of each parameter of a block
NAMES = {
    "input_layernorm": "ln1", "post_attention_layernorm": "ln2", "self_attn.q_proj": "q", "self_attn.k_proj": "k",
    "self_attn.v_proj": "v", "self_attn.o_proj": "o", "mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.down_proj": "down",
}  # fmt: skip


def rope_tables(length, device, head_dim=64, theta=CONFIG["theta"]):
    """-> cos, sin [length, head_dim], float32; channel i is paired with i + head_dim / 2."""
    inverse = 1.0 / (theta ** (torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim))
    angles = torch.outer(torch.arange(length, device=device, dtype=torch.float32), inverse)
    angles = torch.cat([angles, angles], -1)
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    x = x.float()
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


class Block(nn.Module):
    """Attention and SwiGLU, each behind an RMS norm and added to the stream."""

    def __init__(self, c):
        super().__init__()
        hidden, inter = c["hidden"], c["inter"]
        self.heads, self.kv_heads, self.head_dim, self.eps = c["heads"], c["kv_heads"], c["head_dim"], c["eps"]
        self.ln1 = nn.Parameter(torch.ones(hidden))
        self.ln2 = nn.Parameter(torch.ones(hidden))
        matrix = lambda rows, columns, std: nn.Parameter(torch.randn(rows, columns) * std)
        residual = 0.02 / (2 * c["layers"]) ** 0.5
        self.q = matrix(self.heads * self.head_dim, hidden, 0.03)
        self.k = matrix(self.kv_heads * self.head_dim, hidden, 0.03)
        self.v = matrix(self.kv_heads * self.head_dim, hidden, 0.02)
        self.o = matrix(hidden, self.heads * self.head_dim, residual)
        self.gate = matrix(inter, hidden, 0.02)
        self.up = matrix(inter, hidden, 0.02)
        self.down = matrix(hidden, inter, residual)

    def forward(self, x, cos, sin):
        batch, length, hidden = x.shape
        dtype = x.dtype
        heads = lambda w, n: F.linear(h, w.to(dtype)).view(batch, length, n, self.head_dim).transpose(1, 2)
        h = F.rms_norm(x, (hidden,), self.ln1.to(dtype), self.eps)
        q, k, v = heads(self.q, self.heads), heads(self.k, self.kv_heads), heads(self.v, self.kv_heads)
        q, k = rotate(q, cos, sin).to(dtype), rotate(k, cos, sin).to(dtype)
        if ATTENTION["expand"]:
            group = self.heads // self.kv_heads
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + F.linear(a.transpose(1, 2).reshape(batch, length, hidden), self.o.to(dtype))
        h = F.rms_norm(x, (hidden,), self.ln2.to(dtype), self.eps)
        return x + F.linear(
            F.silu(F.linear(h, self.gate.to(dtype))) * F.linear(h, self.up.to(dtype)), self.down.to(dtype)
        )


class Model(nn.Module):
    """Embedding, blocks, norm; the head shares the embedding."""

    def __init__(self, c=CONFIG):
        super().__init__()
        self.c = c
        self.emb = nn.Parameter(torch.randn(c["vocab"], c["hidden"]) * 0.02)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.ln = nn.Parameter(torch.ones(c["hidden"]))

    def hidden(self, ids, cos, sin, dtype=torch.bfloat16):
        """ids [batch, length] -> the stream after the last block, before the final norm."""
        x = F.embedding(ids, self.emb).to(dtype)
        for block in self.blocks:
            x = block(x, cos, sin)
        return x

    def logits(self, x):
        return F.linear(F.rms_norm(x, (self.c["hidden"],), self.ln.to(x.dtype), self.c["eps"]), self.emb.to(x.dtype))

    def parameters_by_hf_name(self):
        named = {"model.embed_tokens.weight": self.emb, "model.norm.weight": self.ln}
        for i, block in enumerate(self.blocks):
            named.update({f"model.layers.{i}.{hf}.weight": getattr(block, own) for hf, own in NAMES.items()})
        return named

    def hf_state(self, dtype=torch.bfloat16):
        return {k: v.detach().to(dtype).contiguous().cpu() for k, v in self.parameters_by_hf_name().items()}

    def load_hf(self, state):
        with torch.no_grad():
            for name, parameter in self.parameters_by_hf_name().items():
                parameter.copy_(state[name])


def head_loss(x, ln, emb, target, code, weight: float, eps: float):
    """Mean loss over text tokens (code 1) plus `weight` times the mean over answer tokens (code 2); and both means."""
    x = F.rms_norm(x, (x.shape[-1],), ln.to(x.dtype), eps)
    logits = F.linear(x.view(-1, x.shape[-1]), emb.to(x.dtype)).float()
    loss = F.cross_entropy(logits, target.view(-1), reduction="none")
    c = code.view(-1)
    text, answer = (c == 1).float(), (c == 2).float()
    text_loss = (loss * text).sum() / text.sum().clamp(min=1)
    answer_loss = (loss * answer).sum() / answer.sum().clamp(min=1)
    return text_loss + weight * answer_loss, text_loss.detach(), answer_loss.detach()
