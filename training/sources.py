"""Reads files out of git copies of the sources, kept as <folder>/<owner>+<name>/repo, and evens out their characters."""

import os
import subprocess
import threading

FOLDER = os.environ.get("KV_SOURCES", "sources").rstrip("/") + "/"
# typographic characters -> the plain ones that the model knows
PLAIN = {
    "\r\n": "\n", "\r": "\n", "\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'", "\u2026": "...", "\u2014": "--",
    "\u2013": "-", "\u00a0": " ", "\u200b": "", "\ufeff": "", "\u2011": "-", "\u2212": "-", "\u02bc": "'",
}  # fmt: skip


def directory(repo):
    path = FOLDER + repo + "/repo"
    return path + "/.git" if os.path.isdir(path + "/.git") else path


def git(repo, *arguments):
    """Output of a git command as text."""
    result = subprocess.run(["git", "-C", directory(repo), *arguments], capture_output=True)
    return result.stdout.decode("utf-8", "replace")


def tree(repo, revision="HEAD"):
    """-> (path, blob, size) of every file."""
    out = []
    for line in git(repo, "ls-tree", "-r", "-l", "-z", revision).split("\0"):
        if line:
            meta, path = line.split("\t", 1)
            _, kind, blob, size = meta.split()
            if kind == "blob" and size not in ("BAD", "-"):
                out.append((path, blob, int(size)))
    return out


def contents(repo, blobs):
    """The bytes of one blob after the other; None for a missing one."""
    command = ["git", "-C", directory(repo), "cat-file", "--batch"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask():
        for blob in blobs:
            process.stdin.write((blob + "\n").encode())
        process.stdin.close()

    threading.Thread(target=ask, daemon=True).start()
    for _ in blobs:
        header = process.stdout.readline().split()
        if header[1] == b"missing":
            yield None
            continue
        data = process.stdout.read(int(header[2]))
        process.stdout.read(1)
        yield data


def files(repo, wanted, revision="HEAD"):
    """-> (path, bytes or None) of the files whose path is wanted."""
    found = [x for x in tree(repo, revision) if wanted(x[0])]
    return zip([x[0] for x in found], contents(repo, [x[1] for x in found]))


def plain(text):
    for special, simple in PLAIN.items():
        text = text.replace(special, simple)
    return text


def decoded(data):
    return plain(data.decode("utf-8", "replace"))
