"""Codes, parameters and decoded numbers that authors' code makes of seeded random rows.

usage: python make_codes.py CHECKOUTS       a folder with checkouts named as below; writes codes.json

    KIVI      github.com/jy-yuan/KIVI          commit 150def8 (MIT)
    KVQuant   github.com/SqueezeAILab/KVQuant  commit 941b20b
    GEAR      github.com/opengear-project/GEAR commit 4ca6495
    ZipCache  github.com/ThisisBillhe/ZipCache commit 196dc2c (MIT)

    python -m venv venv && venv/bin/pip install torch==2.15.0 numpy scikit-learn

Everything runs in f32. Inputs are drawn again by the test (draw.py, `rows`); codes are one digit of base 32 an element.
"""

import pathlib
import sys

import torch
from draw import digits, module, mulberry32, numbers, rows, write

TOKENS = 64


def kivi(checkout):
    """Codes [tokens][width]; scale and minimum, K [groups][width], V [tokens][groups]."""
    pack = module(checkout, "quant/new_pack.py")
    for seed, (bits, group, width) in enumerate([(2, 32, 64), (4, 32, 32), (2, 64, 64)], start=21):
        x = rows(seed, TOKENS, width).view(1, 1, TOKENS, width)
        for plane, encode, dim in [("k", pack.quant_and_pack_kcache, 2), ("v", pack.quant_and_pack_vcache, 3)]:
            if plane == "v" and group > width:
                continue
            code, scale, least = encode(x.clone(), group, bits)
            yield {
                "method": "kivi",
                "options": {"bits": bits, "group": group},
                **{"seed": seed, "plane": plane, "width": width},
                "codes": digits(pack.unpack_tensor(code, bits, dim)),
                "scale": numbers(scale),
                "offset": numbers(least),
            }


def book(seed, bits):
    random = mulberry32(seed)
    return sorted(1.8 * next(random) - 0.9 for _ in range(2**bits))


def kvquant(checkout):
    """Decoded [tokens][width]: keys by given ranges with outliers, values by their own; Q-Norm at 2 bits."""
    authors = module(checkout, "quant/kvquant/simquant_module_quantizer.py", sklearn__cluster=["KMeans"])
    width = 32
    for seed, bits in enumerate([2, 3, 4], start=31):
        x = rows(seed, TOKENS, width)
        # Ranges whose middle and half width are f16 numbers, as they are stored.
        far = x.abs().max(0).values
        half = (0.7 * far).half().float()
        middle = (0.1 * far).half().float()
        least, greatest = middle - half, middle + half
        lut = book(seed, bits)
        norm = {"norm": True, "normscale": torch.tensor(1.05), "normoffset": torch.tensor(-0.02)} if bits == 2 else {}
        given = {"bits": bits, "lut": [lut], **norm}
        mask = authors.get_outliers(x, 0, greatest, least)
        k = authors.quant_fn_nuq_recon(
            x.clone(), qchannel=0, include_sparse=True, outlier_mask=mask, maxval=greatest, minval=least, **given
        )
        v = authors.quant_fn_nuq_recon(x.clone(), qchannel=-1, dynamicquantization=True, **given)
        shared = {"method": "kvquant", "options": {"bits": bits}, "seed": seed, "width": width, "lut": lut}
        if norm:
            shared |= {"stretch": 1.05, "shift": -0.02}
        yield {**shared, "plane": "k", "least": numbers(least), "greatest": numbers(greatest), "decoded": numbers(k)}
        yield {**shared, "plane": "v", "decoded": numbers(v)}


def gear(checkout):
    """The pair A B [tokens][width] of an error, from the first numbers that our kernels start with."""
    authors = module(checkout, "GEARLM/GEARLM/Simulated/compress_function.py")
    width = 16
    for seed, (rank, rounds) in enumerate([(2, 3), (4, 2)], start=41):
        x = rows(seed, TOKENS, width)
        state, start = 0x9E3779B9, []
        for _ in range(rank * width):
            state = (state * 1664525 + 1013904223) % 2**32
            start.append((state >> 8) / 2**24)
        first = torch.tensor(start).view(rank, width).T.contiguous()
        # Its second argument only has to be there.
        pair = authors.fake_poweriteration(x.view(1, 1, TOKENS, width), rounds, rank, "cpu", [first], [torch.zeros(1)])
        options = {"rank": rank, "rounds": rounds}
        yield {"method": "gear", "options": options, "seed": seed, "width": width, "decoded": numbers(pair)}


def zipcache(checkout):
    """Codes [tokens][width]; keys with parameters a channel, values with parameters a token and a factor a channel."""
    authors = module(checkout, "zipcache/models/CompressUtils/compress_function.py")
    width = 32
    unpack = {2: authors.transfer_2bit_to_8bit_batchwise, 4: lambda codes: torch.cat((codes & 15, codes >> 4), dim=-1)}
    for seed, bits in enumerate([2, 4], start=51):
        x = rows(seed, TOKENS, width).view(1, 1, TOKENS, width)
        shared = {"method": "zipcache", "options": {"bits": bits}, "seed": seed, "width": width}
        code, _, least, scale = authors.true_channel_wise_quantize(x.clone(), bits)
        k = {"codes": digits(unpack[bits](code)), "scale": numbers(scale), "offset": numbers(least)}
        yield {**shared, "plane": "k", **k}
        code, least, scale, factors = authors.true_channel_tokenwise_quantize(x.clone(), bits)
        v = {"codes": digits(unpack[bits](code)), "scale": numbers(scale), "offset": numbers(least)}
        yield {**shared, "plane": "v", **v, "factors": numbers(factors)}


def main(folder):
    folder = pathlib.Path(folder)
    parts = {"KIVI": kivi, "KVQuant": kvquant, "GEAR": gear, "ZipCache": zipcache}
    cases = [case for name, make in parts.items() for case in make(folder / name)]
    write("codes.json", cases)


main(sys.argv[1])
