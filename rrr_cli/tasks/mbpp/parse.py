"""Which code a turn of a model holds. Pure: reads a text, runs nothing, and takes any text.

A block stands between fences: a line that starts with three or more ` or ~, and one of at least as many that is
indented no deeper and says nothing else. What is indented deeper (in a docstring) is text, and a block that isn't
closed goes to the end. Where code parses only if a fence is text too (in a docstring at the margin), it is text.

Read in this order; the first that defines what the tests ask for is taken, else the first that holds anything:

1. blocks marked as Python; 2. what follows the last [BEGIN], up to [DONE]; 3. other blocks; 4. the text itself, where
it is code, with or without prose around it; 5. blocks whose fence stands within a line; 6. the text, if it has a def.

Of several blocks the last one that defines a wanted name is the answer ("draft, then fixed"): tests and examples of its
use in later blocks aren't run. What it doesn't define itself (a helper, an import) comes from the other blocks.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
import textwrap
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

MAX_TEXT = 100_000  # characters of a turn that are read
MAX_FENCES, MAX_BLOCKS = 400, 50
MAX_CODE = 20_000  # characters of a block that are parsed
FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
AT_MARGIN = re.compile(r"^(?:`{3,}|~{3,})[^\n]*$", re.MULTILINE)
OPENS_LATE = re.compile(r"^([^\n`]*\S[ \t]*)(```[ \t]*(?:python|py)3?)[ \t]*$", re.MULTILINE | re.IGNORECASE)
WITHIN = re.compile(r"```[ \t]*(?:python|py)3?\b(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
PYTHON = re.compile(r"[{.\s]*(?:python|py|ipython|pycon)[\d.]*\b[}\s]*(.*)", re.IGNORECASE | re.DOTALL)
#: Lines of nothing but tags or LaTeX around code, and marks of a turn's end.
MARKUP = re.compile(
    r"^[ \t]*(?:</?\w[^<>\n]*>[ \t]*)+$|^[ \t]*\\(?:begin|end)\{[^\n]*$|<[|｜][^<>|｜\n]{1,40}[|｜]>", re.MULTILINE)
STARTS_CODE = re.compile(r"(?:async\s+def|def|class|import|from)\s+\w|@\w|\w+\s*=\s*lambda\b")
DEFINES = re.compile(r"\b(?:def|lambda)\b")
BINDS = re.compile(r"^(?:(?:async[ \t]+)?def[ \t]+|class[ \t]+)(\w+)|^(\w+)[ \t]*(?::[^=\n]*)?=(?!=)", re.MULTILINE)
IMPORTS = (ast.Import, ast.ImportFrom)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Block(NamedTuple):
    """The code between two fences, and whether the fence says that it is Python."""

    code: str
    python: bool


def code_of(text: str, wanted: Collection[str] = ()) -> str | None:
    """The code in a turn that defines the `wanted` names, by the rule above; None where there is none."""
    first: str | None = None
    for blocks in _readings(text[-MAX_TEXT:].replace("\r\n", "\n")):
        code = _joined(blocks[-MAX_BLOCKS:], wanted) if blocks else None
        if code and not _names(code).isdisjoint(wanted):
            return _up_to_fence(code) or code
        first = first or code if code is not None else first
    return first


def codes_in(text: str, wanted: Collection[str], most: int) -> list[str]:
    """At most `most` codes in a free text that define one of the wanted names: what `code_of` reads; then each block
    that does, with what it needs of the others, and functions that begin within a line, the last first."""
    text = text[-MAX_TEXT:].replace("\r\n", "\n")
    if not DEFINES.search(text):
        return []
    codes = dict.fromkeys(one for one in (code_of(text, wanted),) if one and not _names(one).isdisjoint(wanted))
    tries = 2 * most
    for blocks in (*_readings(text), _within_lines(text, wanted)):
        blocks = blocks[-MAX_BLOCKS:]
        mains = [i for i in reversed(range(len(blocks))) if not _names(blocks[i]).isdisjoint(wanted)][:tries]
        tries -= len(mains)
        codes |= dict.fromkeys(_joined([*blocks[:i], *blocks[i + 1:], blocks[i]], wanted) for i in mains)
    return list(codes)[:most]


def _within_lines(text: str, wanted: Collection[str]) -> list[str]:
    """The wanted functions that begin within a line, each up to a backtick or to the end of what is indented."""
    begins = re.compile(rf"(?<=[^\n])\b(def[ \t]+(?:{'|'.join(map(re.escape, wanted)) or '(?!)'})[ \t]*\([^`\n]*"
                        r"(?:\n[ \t]+[^`\n]*)*)")
    codes = [match[1].rstrip(" \t\n.") for match in begins.finditer(text)][-MAX_BLOCKS:]
    return [code for code in codes if _parsed(code)]


def _readings(text: str) -> Iterator[list[str]]:
    """The readings of the module's head, each as a list of codes."""
    blocks = [one for block in _blocks(text) for one in _within(block)]
    yield [block.code for block in blocks if block.python]
    begin = text.rfind("[BEGIN]")
    yield [_trimmed(text[begin + len("[BEGIN]"):].split("[DONE]")[0])] if begin >= 0 else []
    yield [block.code for block in blocks if not block.python and block.code]
    bare = _trimmed(MARKUP.sub("", text.split("[DONE]")[0]))
    is_code = bool(DEFINES.search(bare) and _parsed(bare))
    parts = [bare] if is_code else map(_without_prose, AT_MARGIN.split(MARKUP.sub("", text))[:MAX_BLOCKS])
    yield [code for code in parts if code]
    moved, count = OPENS_LATE.subn(r"\1\n\2", text)
    yield [block.code for block in _blocks(moved) if block.python] if count else []
    yield [_trimmed(code) for code in WITHIN.findall(text) if DEFINES.search(code)]
    yield [bare] if DEFINES.search(bare) else []


def _up_to_fence(code: str) -> str | None:
    """Code that doesn't parse, up to a fence that stands within a line or before words, if that parses."""
    if "```" not in code or _parsed(code):
        return None
    ends = [fence.start() for fence in re.finditer("```", code)][:8]
    cuts = (_trimmed(code[:end]) for end in ends)
    return next((cut for cut in cuts if _parsed(cut) and DEFINES.search(cut)), None)


def _blocks(text: str) -> list[Block]:
    fences = list(FENCE.finditer(text))[:MAX_FENCES]
    blocks, at = list[Block](), 0
    for i, fence in enumerate(fences):
        if fence.start() < at:
            continue
        python = PYTHON.fullmatch(fence[3])
        info = fence.start(3) + (python.start(1) if python else 0)
        closed = re.compile(rf"(.*?){fence[2][0]}{{{len(fence[2])},}}").match(text, info, fence.end())
        if closed:
            blocks.append(Block(closed[1].strip(), bool(python)))
            at = fence.end()
            continue
        start = info if STARTS_CODE.match(text, info, fence.end()) and python else fence.end()
        end, at = _end(text, start, fence, fences[i + 1:])
        blocks.append(Block(_without_prompts(_trimmed(_dedented(text[start:end], fence[1]))), bool(python)))
    return blocks


def _within(block: Block) -> list[Block]:
    """The blocks in a block of a text that isn't code, such as ````markdown; else the block."""
    is_text = not block.python and "```" in block.code and not _parsed(block.code)
    return (_blocks(block.code) if is_text else []) or [block]


def _end(text: str, start: int, fence: re.Match[str], later: Sequence[re.Match[str]]) -> tuple[int, int]:
    """Where the code that starts at `start` ends, and where the text goes on: at the first fence that closes it, or, if
    that one stands in a docstring, at the first after which the code parses."""
    ends = []
    for other in later:
        if other[2][0] == fence[2][0] and len(other[2]) >= len(fence[2]) and len(other[1]) <= len(fence[1]):
            if not other[3].strip():
                ends.append((other.start(), other.end()))
            elif PYTHON.fullmatch(other[3]):  # a new block begins: the last one wasn't closed
                ends.append((other.start(), other.start()))
    code = text[start : ends[0][0]] if ends else ""
    if code.count('"""') % 2 or code.count("'''") % 2:
        tried = [*ends[:8], (len(text), len(text))]
        ends = [end for end in tried if _parsed(_dedented(text[start : end[0]], fence[1]))] or ends
    return ends[0] if ends else (len(text), len(text))


def _joined(blocks: Sequence[str], wanted: Collection[str]) -> str:
    """The last block that defines a wanted name, after what it needs of the others; else the last one."""
    main = next((i for i in reversed(range(len(blocks))) if not _names(blocks[i]).isdisjoint(wanted)), None)
    if main is None or len(blocks) == 1:
        return blocks[-1]
    tree = _parsed(blocks[main])
    if tree is None:
        return blocks[main]
    others = [one for i, code in enumerate(blocks) if i != main for one in _statements(code)]
    have = _bound_by(tree)
    missing = sorted((_used(tree) | set(wanted)) - have)
    taken: set[int] = set()
    while missing:
        name = missing.pop()
        index = next((i for i in reversed(range(len(others))) if name in others[i].binds), None)
        if index is not None and index not in taken and name not in have:
            taken.add(index)
            have |= others[index].binds
            missing += sorted(others[index].uses - have)
    taken |= {i for i, other in enumerate(others) if "*" in other.binds}
    return "\n\n".join([*(others[i].text for i in sorted(taken)), blocks[main]])


@dataclass(frozen=True)
class _Statement:
    """A statement at the top of a block that gives names."""

    text: str
    binds: set[str]
    uses: set[str]


def _statements(code: str) -> Iterator[_Statement]:
    """Definitions, imports and assignments: nothing that only does something."""
    tree, lines = _parsed(code), code.split("\n")
    for node in tree.body if tree else ():
        if isinstance(node, (*DEFINITIONS, *IMPORTS, ast.Assign, ast.AnnAssign)):
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
            yield _Statement("\n".join(lines[first - 1 : node.end_lineno]), _bound_by(node), _used(node))


def _names(code: str) -> set[str]:
    """The names that code defines at its margin, also where it doesn't parse."""
    return {name for pair in BINDS.findall(code) for name in pair if name}


def _bound_by(node: ast.stmt | ast.Module) -> set[str]:
    """The names that a statement at the top, or a module, binds."""
    if isinstance(node, DEFINITIONS):
        return {node.name}
    if isinstance(node, IMPORTS):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, ast.Module):
        return {name for child in node.body for name in _bound_by(child)}
    inner = {name for child in ast.walk(node) if isinstance(child, DEFINITIONS) for name in (child.name,)}
    return inner | {child.id for child in ast.walk(node) if isinstance(child, ast.Name) and _stores(child)}


def _used(node: ast.AST) -> set[str]:
    """The names that it reads and binds nowhere: no parameter, no variable of its own, no built-in."""
    parts = list(ast.walk(node))
    own = {part.arg for part in parts if isinstance(part, ast.arg)} | set(dir(builtins))
    own |= {part.name for part in parts if isinstance(part, DEFINITIONS) and part is not node}
    own |= {part.id for part in parts if isinstance(part, ast.Name) and _stores(part)}
    return {part.id for part in parts if isinstance(part, ast.Name)} - own


def _stores(name: ast.Name) -> bool:
    return not isinstance(name.ctx, ast.Load)


def _parsed(code: str) -> ast.Module | None:
    if len(code) > MAX_CODE:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes in its strings, which are the model's affair
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _without_prose(text: str) -> str | None:
    """The part of a text that is code: from the first line that starts like code to the last paragraph that parses."""
    lines = text.split("\n") if DEFINES.search(text) else []
    start = next((i for i, line in enumerate(lines) if STARTS_CODE.match(line)), None)
    if start is None:
        return None
    paragraphs = re.split(r"\n(?=[ \t]*\n)", "\n".join(lines[start:]))
    for end in range(len(paragraphs), max(0, len(paragraphs) - 20), -1):
        code = _trimmed("\n".join(paragraphs[:end]))
        if _parsed(code) and DEFINES.search(code):
            return code
    return None


def _without_prompts(code: str) -> str:
    """A session of the interpreter without its prompts and what it printed."""
    if not code.lstrip().startswith(">>> "):
        return code
    return "\n".join(line[4:] for line in code.split("\n") if line.startswith((">>> ", "... ")) or line == "...")


def _dedented(code: str, margin: str) -> str:
    """Lines without the indentation of their fence."""
    return re.sub(rf"^[ \t]{{1,{len(margin)}}}", "", code, flags=re.MULTILINE) if margin else code


def _trimmed(code: str) -> str:
    return textwrap.dedent(code).strip("\r\n ")


@lru_cache(maxsize=10_000)
def wanted_names(tests: tuple[str, ...], imports: str, setup: str) -> frozenset[str]:
    """The names that the tests ask the code for: neither built in, imported, nor set up."""
    trees = [tree for test in (*tests, setup) if (tree := _parsed(test))]
    before = [node for node in getattr(_parsed(imports), "body", []) if isinstance(node, IMPORTS)]
    names = set[str]().union(*map(_used, trees)).difference(*map(_bound_by, [*trees, *before]))
    # A function may have the name of a built-in or of a module.
    return frozenset(names - sys.stdlib_module_names or names or _all_names(trees))


def _all_names(trees: Sequence[ast.Module]) -> set[str]:
    return {part.id for tree in trees for part in ast.walk(tree) if isinstance(part, ast.Name)}


def static_fault(code: str, tests: tuple[str, ...], imports: str, setup: str) -> str:
    """Why a reference can't pass, as far as reading it tells; "" where that tells nothing."""
    tree, wanted = _parsed(code), wanted_names(tests, imports, setup)
    if tree is None:
        return "it isn't Python"
    missing = wanted - _bound_by(tree)
    if wanted and missing == wanted and not any("*" in _bound_by(node) for node in tree.body):
        return f"the tests ask for {', '.join(sorted(missing))}, which it doesn't define"
    return ""
