"""GGUF block quantizers that look at the error they make.

`fit` searches the scales of a group of columns with the least weighted squared error, rounding of the stored scales
included. `quantize` goes from group to group; where it is given the second moments of the inputs it moves the error of
every column on to the columns that are still to come (Frantar et al., GPTQ, 2022), with the scales of each group fitted to
what has arrived there. The result is plain GGUF; `gguf.quants.dequantize` reads it back.
"""

from dataclasses import dataclass
from typing import Callable

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

# type -> (bits, has a minimum); blocks of 32
PLAIN = {Q.Q4_0: (4, False), Q.Q4_1: (4, True), Q.Q5_0: (5, False), Q.Q5_1: (5, True), Q.Q8_0: (8, False)}
f16 = lambda a: a.astype(np.float16).astype(np.float32)


def symmetric(x, w, low, high, steps=12, round_scale=f16):
    """x, w [..., n] -> (scale [...], codes [..., n] in low..high) of the least sum w (x - scale * code)^2."""
    extreme = np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)[..., 0]
    best_error = np.full(x.shape[:-1], np.inf, np.float32)
    best_scale = np.zeros(x.shape[:-1], np.float32)
    for sign in (1, -1):
        for step in range(-steps, steps + 1):
            # the extreme value takes the code `low` (sign 1) or its opposite
            with np.errstate(divide="ignore", invalid="ignore"):
                inverse = np.nan_to_num(sign * (low - 0.1 * step * abs(low) / 16) / extreme, posinf=0, neginf=0)
            for _ in range(2):
                code = np.clip(np.rint(x * inverse[..., None]), low, high)
                square = (w * code * code).sum(-1)
                scale = round_scale(np.where(square > 0, (w * x * code).sum(-1) / np.where(square > 0, square, 1), 0))
                with np.errstate(divide="ignore"):
                    inverse = np.where(scale != 0, 1 / np.where(scale != 0, scale, 1), 0)
            code = np.clip(np.rint(x * inverse[..., None]), low, high)
            error = (w * (x - scale[..., None] * code) ** 2).sum(-1)
            better = error < best_error
            best_error = np.where(better, error, best_error)
            best_scale = np.where(better, scale, best_scale)
    with np.errstate(divide="ignore"):
        inverse = np.where(best_scale != 0, 1 / np.where(best_scale != 0, best_scale, 1), 0)
    return best_scale, np.clip(np.rint(x * inverse[..., None]), low, high)


def affine(x, w, high, steps=7, round_scale=f16, lowest_is_zero=False):
    """x, w [..., n] -> (scale, minimum [...], codes in 0..high) of the least sum w (x - scale * code - minimum)^2.

    With `lowest_is_zero` the minimum is never positive (K-quants store its magnitude)."""
    top, bottom = x.max(-1), x.min(-1)
    if lowest_is_zero:
        bottom = np.minimum(bottom, 0)
    total = w.sum(-1)
    mean_x = (w * x).sum(-1) / total
    best = [np.full(x.shape[:-1], np.inf, np.float32), np.zeros_like(top), np.zeros_like(top)]
    for shrink_top in range(steps):
        for shrink_bottom in range(steps):
            span = top - bottom
            m = bottom + span * 0.03 * (shrink_bottom - 1)
            scale = (top - span * 0.03 * (shrink_top - 1) - m) / high
            for _ in range(2):
                inverse = np.where(scale > 0, 1 / np.where(scale > 0, scale, 1), 0)
                code = np.clip(np.rint((x - m[..., None]) * inverse[..., None]), 0, high)
                mean_code = (w * code).sum(-1) / total
                variance = (w * code * code).sum(-1) / total - mean_code**2
                covariance = (w * code * x).sum(-1) / total - mean_code * mean_x
                fitted = np.where(variance > 1e-9, covariance / np.where(variance > 1e-9, variance, 1), 0)
                m_fitted = mean_x - fitted * mean_code
                if lowest_is_zero:
                    through_zero = (w * code * x).sum(-1) / np.maximum((w * code * code).sum(-1), 1e-30)
                    fitted = np.where(m_fitted > 0, through_zero, fitted)
                    m_fitted = np.minimum(m_fitted, 0)
                scale, m = round_scale(np.maximum(fitted, 0)), round_scale(m_fitted)
            inverse = np.where(scale > 0, 1 / np.where(scale > 0, scale, 1), 0)
            code = np.clip(np.rint((x - m[..., None]) * inverse[..., None]), 0, high)
            error = (w * (x - scale[..., None] * code - m[..., None]) ** 2).sum(-1)
            better = error < best[0]
            best = [np.where(better, new, old) for new, old in zip((error, scale, m), best)]
    _, scale, m = best
    inverse = np.where(scale > 0, 1 / np.where(scale > 0, scale, 1), 0)
    return scale, m, np.clip(np.rint((x - m[..., None]) * inverse[..., None]), 0, high)


def half_bytes(a):
    """[rows] -> bytes of the float16 values [rows, 2]"""
    return np.ascontiguousarray(a.astype(np.float16))[:, None].view(np.uint8)


@dataclass
class Grid:
    """Values that a group of columns can take: step * code + offset, code in low..high."""

    step: np.ndarray  # [rows, columns]
    offset: np.ndarray | float
    low: int
    high: int
    pack: Callable[[np.ndarray], np.ndarray]  # codes [rows, columns] -> bytes [rows, n]

    def codes(self, x, columns=slice(None)):
        step = self.step[:, columns]
        offset = self.offset if np.isscalar(self.offset) else self.offset[:, columns]
        return np.clip(np.rint(np.divide(x - offset, step, out=np.zeros_like(x), where=step != 0)), self.low, self.high)

    def values(self, codes, columns=slice(None)):
        offset = self.offset if np.isscalar(self.offset) else self.offset[:, columns]
        return self.step[:, columns] * codes + offset


def fit_plain(x, w, qtype):
    """One block of 32 columns a row."""
    bits, has_minimum = PLAIN[qtype]
    wide = lambda a: np.repeat(a[:, None], 32, 1)
    if has_minimum:
        scale, minimum, _ = affine(x, w, 2**bits - 1)
        return Grid(wide(scale), wide(minimum), 0, 2**bits - 1, lambda c: pack_plain(qtype, scale, minimum, c))
    if bits == 8:
        scale, _ = symmetric(x, w, -127, 127, steps=4)
        return Grid(wide(scale), 0.0, -127, 127, lambda c: pack_plain(qtype, scale, None, c))
    zero = 2 ** (bits - 1)
    scale, _ = symmetric(x, w, -zero, zero - 1)
    return Grid(wide(scale), 0.0, -zero, zero - 1, lambda c: pack_plain(qtype, scale, None, c + zero))


def pack_plain(qtype, scale, minimum, code):
    """Scales [rows], codes [rows, 32] (unsigned; signed for Q8_0) -> bytes [rows, block size]."""
    bits, has_minimum = PLAIN[qtype]
    parts = [half_bytes(scale)]
    if has_minimum:
        parts.append(half_bytes(minimum))
    if bits == 8:
        return np.concatenate([*parts, code.astype(np.int8).view(np.uint8)], -1)
    code = code.astype(np.uint8)
    if bits == 5:
        parts.append(np.packbits(code >> 4, axis=-1, bitorder="little"))
    low = code & 15
    return np.concatenate([*parts, low[:, :16] | (low[:, 16:] << 4)], -1)


def neighbours(error, integers, low, high):
    """Each integer scale or one of its neighbours, whichever has the least error."""
    best, best_error = integers, error(integers)
    for delta in (-1, 1, -2, 2):
        tried = np.clip(integers + delta, low, high)
        tried_error = error(tried)
        better = tried_error < best_error
        best, best_error = np.where(better, tried, best), np.where(better, tried_error, best_error)
    return best


def fit_q6_k(x, w):
    """256 columns: 16 blocks of 16 with int8 scales under one float16 scale, codes of 6 bits."""
    rows = len(x)
    x, w = x.reshape(rows, 16, 16), w.reshape(rows, 16, 16)
    scale, _ = symmetric(x, w, -32, 31, steps=8, round_scale=lambda a: a)
    extreme = np.take_along_axis(scale, np.abs(scale).argmax(-1)[:, None], -1)[:, 0]
    d = f16(extreme / -128)
    integers = np.clip(np.rint(scale / np.where(d != 0, d, 1)[:, None]), -128, 127) * (d != 0)[:, None]

    def grid(s):
        return Grid(np.repeat(d[:, None] * s, 16, 1), 0.0, -32, 31, lambda c: pack_q6_k(d, s, c))

    def error(s):
        g, flat = grid(s), x.reshape(rows, 256)
        return (w * (x - g.values(g.codes(flat)).reshape(x.shape)) ** 2).sum(-1)

    return grid(neighbours(error, integers, -128, 127))


def pack_q6_k(d, scales, codes):
    q = (codes + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low, high = q & 15, q >> 4
    ql = np.concatenate([low[:, :, 0] | low[:, :, 2] << 4, low[:, :, 1] | low[:, :, 3] << 4], -1).reshape(-1, 128)
    qh = (high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6).reshape(-1, 64)
    return np.concatenate([ql, qh, scales.astype(np.int8).view(np.uint8), half_bytes(d)], -1)


def fit_q5_k(x, w):
    """256 columns: 8 blocks of 32 with scales and minima of 6 bits under two float16 scales, codes of 5 bits."""
    rows = len(x)
    x, w = x.reshape(rows, 8, 32), w.reshape(rows, 8, 32)
    scale, minimum, _ = affine(x, w, 31, round_scale=lambda a: a, lowest_is_zero=True)
    d, dmin = f16(scale.max(-1) / 63), f16((-minimum).max(-1) / 63)
    integers = lambda a, unit: np.clip(np.rint(a / np.where(unit > 0, unit, 1)[:, None]), 0, 63) * (unit > 0)[:, None]
    scales, minima = integers(scale, d), integers(-minimum, dmin)

    def grid(s, m):
        step, offset = np.repeat(d[:, None] * s, 32, 1), np.repeat(-dmin[:, None] * m, 32, 1)
        return Grid(step, offset, 0, 31, lambda c: pack_q5_k(d, dmin, s, m, c))

    def error(s, m):
        g, flat = grid(s, m), x.reshape(rows, 256)
        return (w * (x - g.values(g.codes(flat)).reshape(x.shape)) ** 2).sum(-1)

    for _ in range(2):
        scales = neighbours(lambda s: error(s, minima), scales, 0, 63)
        minima = neighbours(lambda m: error(scales, m), minima, 0, 63)
    return grid(scales, minima)


def pack_q5_k(d, dmin, scales, minima, codes):
    q = codes.astype(np.uint8).reshape(-1, 4, 2, 32)
    ql = (q[:, :, 0] & 15 | (q[:, :, 1] & 15) << 4).reshape(-1, 128)
    qh = np.bitwise_or.reduce((q >> 4).reshape(-1, 8, 32) << np.arange(8, dtype=np.uint8)[:, None], axis=1)
    s, m = scales.astype(np.uint8), minima.astype(np.uint8)
    packed = [s[:, :4] | s[:, 4:] >> 4 << 6, m[:, :4] | m[:, 4:] >> 4 << 6, s[:, 4:] & 15 | (m[:, 4:] & 15) << 4]
    return np.concatenate([half_bytes(d), half_bytes(dmin), *packed, qh, ql], -1)


def fit(x, w, qtype):
    """x [rows, block of the type], w of the same shape -> Grid."""
    special = {Q.Q5_K: fit_q5_k, Q.Q6_K: fit_q6_k}.get(qtype)
    return special(x, w) if special else fit_plain(x, w, qtype)


def quantize(x, qtype, moments=None, damping=0.01):
    """x [rows, columns] float32 -> uint8 [rows, bytes of a row].

    moments: None (all errors count alike), [columns] (mean squares of the inputs: a weighted search) or
    [columns, columns] (second moments of the inputs: the search, and errors carried forward)."""
    x = np.array(x, np.float32)
    columns = x.shape[1]
    moments = np.ones(columns, np.float32) if moments is None else np.asarray(moments, np.float64)
    square = moments if moments.ndim == 1 else np.diag(moments)
    weight = (square / square.mean()).astype(np.float32)
    carry = None
    if moments.ndim == 2:
        damped = moments + damping * square.mean() * np.eye(columns)
        carry = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)  # upper triangle
    width = gguf.GGML_QUANT_SIZES[qtype][0]
    out = []
    for start in range(0, columns, width):
        end = start + width
        grid = fit(x[:, start:end], np.broadcast_to(weight[start:end], (len(x), width)), qtype)
        if carry is None:
            out.append(grid.pack(grid.codes(x[:, start:end])))
            continue
        codes, errors = np.zeros((len(x), width), np.float32), np.zeros((len(x), width), np.float32)
        for i in range(width):
            j, one = start + i, slice(i, i + 1)
            codes[:, one] = grid.codes(x[:, j : j + 1], one)
            errors[:, one] = (x[:, j : j + 1] - grid.values(codes[:, one], one)) / carry[j, j]
            x[:, j + 1 : end] -= errors[:, one] * carry[j, j + 1 : end]
        x[:, end:] -= errors @ carry[start:end, end:]
        out.append(grid.pack(codes))
    return np.concatenate(out, -1)
