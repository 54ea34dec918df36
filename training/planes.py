"""Packs a file of bf16 numbers for a size-limited transfer: low bytes raw, high bytes through LZMA, cut into parts. And back.

usage: python planes.py pack FILE PREFIX
       python planes.py unpack PREFIX FILE
"""

import glob
import lzma
import struct
import sys
from concurrent.futures import ThreadPoolExecutor

PART = 15 << 20
STREAMS = 16


def pack(file, prefix):
    data = open(file, "rb").read()
    low, high = data[0::2], data[1::2]
    pieces = [high[i * len(high) // STREAMS : (i + 1) * len(high) // STREAMS] for i in range(STREAMS)]
    with ThreadPoolExecutor(STREAMS) as pool:
        packed = list(pool.map(lambda b: lzma.compress(b, preset=1), pieces))
    header = struct.pack("<QI", len(data), STREAMS) + b"".join(struct.pack("<I", len(p)) for p in packed)
    blob = header + b"".join(packed)
    for name, stream in (("lo", low), ("hi", blob)):
        for i in range(0, len(stream), PART):
            open(f"{prefix}.{name}{i // PART}", "wb").write(stream[i : i + PART])
    print("packed", len(data), len(low), len(blob))


def unpack(prefix, file):
    join = lambda name: b"".join(open(f, "rb").read() for f in sorted(glob.glob(f"{prefix}.{name}[0-9]")))
    low, blob = join("lo"), join("hi")
    size, streams = struct.unpack_from("<QI", blob)
    lengths = struct.unpack_from(f"<{streams}I", blob, 12)
    at, high = 12 + 4 * streams, b""
    for n in lengths:
        high += lzma.decompress(blob[at : at + n])
        at += n
    data = bytearray(size)
    data[0::2], data[1::2] = low, high
    open(file, "wb").write(data)
    print("unpacked", size)


if __name__ == "__main__":
    {"pack": pack, "unpack": unpack}[sys.argv[1]](*sys.argv[2:4])
