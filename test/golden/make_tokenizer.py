"""Reference token ids of the texts in awkward.py.

usage: python make_tokenizer.py mini tokenizer.json        the bundled model
       python make_tokenizer.py tiny                       ../models/gguf: llama-bpe, qwen2 and SentencePiece vocabularies
       python make_tokenizer.py smollm NAME FILE.gguf      a byte-level vocabulary behind SmolLM's pre-tokenizer
       python make_tokenizer.py spm NAME FILE.gguf         a SentencePiece vocabulary of the file

tokenizer-texts.json holds the texts; tokenizer-<name>.json holds, by index of the text,
  ids      token ids; the texts of special tokens become those tokens; no token is put before or after; null where two
           references disagree (for SentencePiece, transformers reads the same file as a check)
  plain    ids where such texts are taken as plain text, given only where they differ
  decoded  text of `ids` with special tokens shown, given only where it differs from the text
The texts run through the tokenizers library, or through sentencepiece with a model built from pieces and scores.
"""

import json
import pathlib
import re
import sys

import gguf
from awkward import TEXTS
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

GOLDEN = pathlib.Path(__file__).parent
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
PATTERN = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def write(name, source, reference, encode, encode_plain, decode, check=None):
    ids = [encode(t) for t in TEXTS]
    plain = [encode_plain(t) for t in TEXTS]
    decoded = [decode(i) for i in ids]
    for i, text in enumerate(TEXTS):
        if check and check(text) != ids[i]:
            print("references disagree:", repr(text))
            ids[i] = plain[i] = None
    out = dict(
        source=source, reference=reference, ids=ids,
        plain={i: p for i, (p, q) in enumerate(zip(plain, ids)) if p != q},
        decoded={i: d for i, (d, t) in enumerate(zip(decoded, TEXTS)) if d != t},
    )  # fmt: skip
    path = GOLDEN / f"tokenizer-{name}.json"
    path.write_text(json.dumps(out, separators=(",", ":")) + "\n")
    print(
        path.name,
        sum(len(i or []) for i in ids),
        "tokens,",
        len(out["plain"]),
        "differ as plain text,",
        len(out["decoded"]),
        "decode differently",
    )


def write_fast(name, source, tokenizer, check=None):
    """A Tokenizer of the tokenizers library."""

    def encode(plain):
        def run(text):
            tokenizer.encode_special_tokens = plain
            return tokenizer.encode(text, add_special_tokens=False).ids

        return run

    import tokenizers

    decode = lambda ids: tokenizer.decode(ids, skip_special_tokens=False)
    write(name, source, f"tokenizers {tokenizers.__version__}", encode(False), encode(True), decode, check)


def transformers_reading(path):
    """Encodes as transformers does after reading the same GGUF file."""
    from transformers import AutoTokenizer

    path = pathlib.Path(path)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).backend_tokenizer
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def vocabulary(path):
    fields = gguf.GGUFReader(path).fields
    get = lambda key: fields[f"tokenizer.ggml.{key}"].contents() if f"tokenizer.ggml.{key}" in fields else None
    return get("tokens"), get("token_type"), get("scores"), get("merges")


def byte_level(path, split, nfc=False, ignore_merges=False):
    """The tokenizer.json that SmolLM, Llama 3 or Qwen2 have, over the vocabulary of a GGUF file."""
    tokens, types, _, merges = vocabulary(path)
    pairs = [tuple(m.split(" ")) for m in merges]
    tokenizer = Tokenizer(
        models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=pairs, ignore_merges=ignore_merges)
    )
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, types) if kind == gguf.TokenType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return tokenizer


def pattern(digits):
    """Llama 3 and Qwen2 split by one pattern that differs in how many digits stay together."""
    split = pre_tokenizers.Split(Regex(PATTERN.replace("DIGITS", digits)), behavior="isolated")
    return [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]


def digits_then_gpt2():
    return [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]


def sentencepiece_model(path):
    """-> (processor, {text of a control token: id})"""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb

    tokens, types, scores, _ = vocabulary(path)
    T = gguf.TokenType
    kinds = {T.NORMAL: 1, T.UNKNOWN: 2, T.CONTROL: 3, T.USER_DEFINED: 4, T.UNUSED: 5, T.BYTE: 6}
    model = pb.ModelProto()
    for token, kind, score in zip(tokens, types, scores):
        # user-defined pieces meet the text after spaces have become U+2581
        piece = token.replace(" ", "▁") if kind == T.USER_DEFINED else token
        # sentencepiece wants exactly one unknown piece
        model.pieces.add(piece=piece, score=score, type=2 if token == "<unk>" else kinds[kind])
    model.trainer_spec.model_type = pb.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = False
    model.normalizer_spec.remove_extra_whitespaces = False
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    control = {
        t: i for i, (t, kind) in enumerate(zip(tokens, types)) if kind in (T.CONTROL, T.UNKNOWN) and t != "<unk>"
    }
    return processor, control


def write_spm(name, source, path, check=None):
    import sentencepiece

    processor, control = sentencepiece_model(path)
    # the longest special text first, as llama.cpp and the tokenizers library find them
    splitter = re.compile("(" + "|".join(re.escape(t) for t in sorted(control, key=len, reverse=True)) + ")")
    names = {i: t for t, i in control.items()}

    def encode(text):
        ids = []
        for part in splitter.split(text):
            ids += [control[part]] if part in control else processor.encode(part)
        return ids

    def decode(ids):
        out, run = [], []
        for i in [*ids, None]:
            if i is None or i in names:
                out.append(decode_run(run))
                run = []
                if i is not None:
                    out.append(names[i])
            else:
                run.append(i)
        return "".join(out)

    def decode_run(run):
        """Pieces as bytes: decode() of sentencepiece would drop a leading space."""
        data = b""
        for i in run:
            data += (
                bytes([int(processor.id_to_piece(i)[3:5], 16)])
                if processor.is_byte(i)
                else processor.id_to_piece(i).replace("▁", " ").encode()
            )
        return data.decode("utf-8", "replace")

    write(name, source, f"sentencepiece {sentencepiece.__version__}", encode, processor.encode, decode, check)


def main():
    (GOLDEN / "tokenizer-texts.json").write_text(json.dumps(TEXTS, indent=0) + "\n")
    command, *rest = sys.argv[1:]
    models_folder = GOLDEN.parent / "models" / "gguf"
    if command == "mini":
        write_fast("kvasir-mini", "tokenizer.json of kvasir-mini", Tokenizer.from_file(rest[0]))
    elif command == "tiny":
        llama3, qwen2 = models_folder / "llama3-rope.gguf", models_folder / "qwen2.gguf"
        write_fast(
            "gguf-llama3-rope", "gguf/llama3-rope.gguf", byte_level(llama3, pattern(r"\p{N}{1,3}"), ignore_merges=True)
        )
        write_fast("gguf-qwen2", "gguf/qwen2.gguf", byte_level(qwen2, pattern(r"\p{N}"), nfc=True))
        write_spm("gguf-gemma3", "gguf/gemma3.gguf", models_folder / "gemma3.gguf")
    elif command == "smollm":
        name, path = rest
        write_fast(name, pathlib.Path(path).name, byte_level(path, digits_then_gpt2()))
    elif command == "spm":
        name, path = rest
        write_spm(name, pathlib.Path(path).name, path, transformers_reading(path))


if __name__ == "__main__":
    main()
