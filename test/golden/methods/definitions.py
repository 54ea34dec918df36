"""Some functions and classes of a file, without what the file imports: for code that stands among a model's and a GPU's."""

import ast
import math
import pathlib
import types
import typing

import numpy
import torch


def definitions(file, names, **given):
    """A namespace with the named functions, classes and methods (`Class.method`) of a file, and `given` for what they refer
    to. Classes come without their bases. It is the globals of what it holds: set and read their state there."""
    wanted = {}
    for name in names:
        outer, _, inner = name.partition(".")
        wanted.setdefault(outer, set()).update({inner} - {""})
    body = []
    for node in ast.parse(pathlib.Path(file).read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in wanted:
            members = wanted.pop(node.name)
            if isinstance(node, ast.ClassDef):
                node.bases = []
                if members:
                    node.body = [part for part in node.body if getattr(part, "name", None) in members]
                    assert {part.name for part in node.body} == members, f"{file} lacks some of {node.name}"
            body.append(node)
    assert not wanted, f"{file} lacks {sorted(wanted)}"
    space = types.ModuleType(pathlib.Path(file).stem)
    known = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional, "np": numpy, "math": math}
    vars(space).update({name: getattr(typing, name) for name in ("List", "Optional", "Tuple")})
    vars(space).update(known | given)
    exec(compile(ast.Module(body, []), str(file), "exec"), vars(space))
    return space
