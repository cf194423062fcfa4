"""README and docs/ say what the program does: shell lines and queries run, and copies of the code are the code.

A block marked `bash run` is executed line by line, all blocks of a document in one empty folder that holds examples/
and rrr_cli/; `# exit N` behind a line is the exit code that it promises, otherwise 0. A block marked `console run`
shows lines after `$ ` with what they print; its exit code is the one that the heading above it names ("Exit 3: …").
Ids and numbers in what is printed may differ, as they do on another machine.

`python tests/test_docs.py` writes what is copied from the program: listings, tables of options, figures of
benchmarks/results.json, console output.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest

from rrr_cli.errors import RrrError

ROOT = Path(__file__).parent.parent
REFRESH = "type: python tests/test_docs.py"
DOCUMENTS = {str(p.relative_to(ROOT)): p for p in [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]}
TEXTS = {name: path.read_text() for name, path in DOCUMENTS.items()}
EVERYTHING = "\n".join(TEXTS.values())
BLOCK = re.compile(r"(?ms)^```([^\n]*)\n(.*?)^```$")
COPIED = re.compile(r"(?s)<!-- (listing|options|benchmarks): (.+?) -->\n(.*?)<!-- end -->\n")
RUNNING = {name for name, text in TEXTS.items() if re.search(r"(?m)^```(bash|console) run$", text)}


# What there is to describe -------------------------------------------------------------------------------------------


@cache
def commands() -> Mapping[str, Any]:
    """Every command of the command line with its options: "grpo", "tasks check", …"""
    from typer.main import get_command

    from rrr_cli.cli import build_app

    found: dict[str, Any] = {}
    for name in get_command(build_app(None)).commands:
        command = get_command(build_app(name)).commands[name]
        below = getattr(command, "commands", {})
        found |= {f"{name} {sub}": one for sub, one in below.items()} if below else {name: command}
    return {name: command for name, command in found.items() if not command.hidden}


def views() -> list[str]:
    return re.findall(r"(?m)^CREATE VIEW (\w+) AS", (ROOT / "rrr_cli" / "store" / "views.sql").read_text())


def options(command: str) -> list[tuple[str, str, str]]:
    """(flag, default, help) of each option and argument, in the order of --help."""
    rows = []
    for entry in commands()[command].params:
        if "--help" in entry.opts or getattr(entry, "hidden", False):
            continue
        named = entry.opts[0].startswith("-")
        flag = ", ".join(f"`{o}`" for o in [*entry.opts, *entry.secondary_opts]) if named else f"`{entry.name.upper()}`"
        value = entry.default
        shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        default = "" if shown in (None, False, "") else "on" if shown is True else f"`{shown}`"
        rows.append((flag, default, (entry.help or "").replace(f"[{command}]", "[COMMAND]").replace("|", "\\|")))
    return rows


def shared_options() -> list[tuple[str, str, str]]:
    """Options that at least four commands have, with one default and one meaning."""
    counts = Counter(row for name in commands() for row in options(name))
    return [row for row, count in counts.items() if count >= 4]


def report() -> ModuleType:
    """tools/bench/report.py, which makes a table of measured figures."""
    spec = spec_from_file_location("bench_report", ROOT / "tools" / "bench" / "report.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copied(kind: str, name: str) -> str:
    """What stands between `<!-- KIND: NAME -->` and `<!-- end -->`."""
    if kind == "listing":
        return f"```python\n{(ROOT / name).read_text().rstrip()}\n```\n"
    if kind == "benchmarks":
        return f"\n{report().markdown(json.loads((ROOT / name).read_text()))}\n"
    shared = shared_options()
    rows = shared if name == "shared" else [row for row in options(name) if row not in shared]
    body = "\n".join(f"| {flag} | {default} | {help} |" for flag, default, help in rows)
    missing = [] if name == "shared" else [row[0] for row in options(name) if row in shared]
    more = f"\nAnd the [shared ones](#shared-options): {', '.join(missing)}.\n" if missing else ""
    table = f"\n| option | default | meaning |\n|---|---|---|\n{body}\n" if body else "\n"
    return f"{table}{more}\n"


# Shell lines ---------------------------------------------------------------------------------------------------------


def shell_lines(text: str) -> Iterator[str]:
    """The lines of a shell block, those that end in a backslash joined with the next."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line


def simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each `rrr …` in a shell line, those inside `$(…)` as well; a variable becomes 1."""
    inner = re.findall(r"\$\(([^()]*(?:\([^()]*\)[^()]*)*)\)", line)
    for part in inner:
        yield from simple_commands(part)
    for part in inner:
        line = line.replace(f"$({part})", "1")
    lexer = shlex.shlex(re.sub(r"\$\w+", "1", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word[0] in "|;&<>":
            if words[:1] == ["rrr"]:
                yield words[1:]
            elif "rrr_cli" in words:  # python -m rrr_cli
                yield words[words.index("rrr_cli") + 1:]
            words = []
        else:
            words.append(word)


def is_plain(line: str) -> bool:
    """Whether a line is one `rrr` command without anything that only a shell understands."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return line.startswith("rrr ") and "$" not in line and not any(word[0] in "|;&<>" for word in lexer)


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def run_line(line: str, folder: Path) -> Ran:
    """Run one shell line in `folder`: a plain `rrr` command in this process, as torch takes seconds to import."""
    if not is_plain(line):
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(["bash", "-c", line], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True,
                              text=True)
        return Ran(done.returncode, done.stdout, done.stderr)
    from rrr_cli.cli import main

    out, err = io.StringIO(), io.StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(err), patch.object(
            sys, "argv", shlex.split(line, comments=True)):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


def promised_code(line: str, before: str) -> int:
    """The exit code that a line's comment promises, or (console) the heading above it."""
    said = re.search(r"# exit (\d+)", line) or next(
        iter(re.findall(r"(?m)^#+ Exit (\d+)", before)[-1:]), None)
    return 0 if said is None else int(said if isinstance(said, str) else said[1])


def walked(text: str, folder: Path) -> str:
    """The document with the real output in its console blocks, after running all that it says to run.

    Raises AssertionError where a line ends otherwise than it promises.
    """
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / "rrr_cli").symlink_to(ROOT / "rrr_cli")
    result, end = "", 0
    for block in BLOCK.finditer(text):
        kind, body = block[1], block[2]
        if kind == "bash run":
            for line in shell_lines(body):
                ran, code = run_line(line, folder), promised_code(line, "")
                assert ran.code == code, f"{line}\nexit {ran.code}, not {code}\n{ran.err[-2000:]}"
        elif kind == "console run":
            shown = ""
            for line in (line[2:] for line in body.splitlines() if line.startswith("$ ")):
                ran, heading = run_line(line, folder), text[: block.start()]
                code = promised_code(line, heading) if line.startswith("rrr ") else 0
                assert ran.code == code, f"{line}\nexit {ran.code}, not {code}\n{ran.err[-2000:]}"
                errors = [said for said in ran.err.splitlines() if said.startswith("rrr: ")]
                shown += f"$ {line}\n" + "".join(f"{said}\n" for said in (errors or ran.out.splitlines()))
            body = shown
        result += text[end : block.start()] + f"```{kind}\n{body}```"
        end = block.end()
    return result + text[end:]


# Copies are the originals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if COPIED.search(text)])
def test_copies_are_current(name: str):
    for kind, original, text in COPIED.findall(TEXTS[name]):
        assert text == copied(kind, original), f"{name}: {kind} of {original} is out of date; {REFRESH}"


def test_the_files_for_newcomers_are_shown_whole():
    listed = {original for kind, original, _ in COPIED.findall(EVERYTHING) if kind == "listing"}
    assert listed >= {"examples/sorting.py", "rrr_cli/engines/scripted.py"}


@pytest.mark.parametrize("name", sorted(RUNNING))
def test_shell_blocks_run(name: str, tmp_path: Path):
    pytest.importorskip("trl")
    shown = TEXTS[name]
    printed, shown = (re.sub(r"[0-9a-f]{16}|\d+(\.\d+)?", "N", text) for text in (walked(shown, tmp_path), shown))
    assert printed == shown, f"{name}: its console output is out of date; {REFRESH}"


# All is described, and what is described is there --------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(commands()))
def test_command_is_described(name: str):
    reference = TEXTS["docs/commands.md"]
    assert f"\n## rrr {name}\n" in reference
    assert f"<!-- options: {name} -->" in reference
    assert f"`rrr {name}`" in TEXTS["README.md"]


def test_tables_and_views_are_described_and_queried():
    from rrr_cli.records import TABLES

    for name in [*TABLES, *views()]:
        assert f"| `{name}` |" in TEXTS["docs/tables-and-sql.md"], name
        assert any(re.search(rf"\b(from|join|summarize) {name}\b", query) for query in queries()), name


def test_tasks_and_engines_are_described():
    from rrr_cli.engines import ENGINES
    from rrr_cli.tasks import TASKS, load_task

    for name in TASKS:
        assert f"| `{name}` |" in TEXTS["README.md"]
        assert f"\n## {name}\n" in TEXTS["docs/tasks.md"]
        if name not in ("alfworld", "hotpotqa"):  # they need data, or an extra
            row = next(line for line in TEXTS["README.md"].splitlines() if line.startswith(f"| `{name}` |"))
            assert ", ".join(f"`{level}`" for level in load_task(name).levels) in row
    for name in ENGINES:
        assert f"| `{name}` |" in TEXTS["docs/models-and-engines.md"]


def blocks(kind: str) -> list[tuple[str, str]]:
    """(document, text) of each block of a kind, those that are run as well."""
    return [(name, body) for name, text in TEXTS.items() for shown, body in BLOCK.findall(text)
            if shown.split(" ")[0] == kind]


def said_lines() -> list[str]:
    """Every shell line that a document shows."""
    lines = [line for _, body in blocks("bash") for line in shell_lines(body)]
    return lines + [line[2:] for _, body in blocks("console") for line in body.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize(
    "line", sorted({line for line in said_lines() if "rrr" in line and "pip " not in line}), ids=lambda line: line[:70])
def test_a_shown_command_parses(line: str):
    for words in simple_commands(line):
        name = " ".join(words[:2]) if " ".join(words[:2]) in commands() else words[0]
        assert name in commands(), line
        if "exit 2" not in line:
            said = ""
            try:
                commands()[name].make_context(name, words[len(name.split()):])
            except RrrError as error:
                said = f"rrr: {error}"
            assert said in TEXTS["docs/first-errors.md"]


def test_options_in_prose_are_options():
    known = {flag for command in commands().values() for entry in command.params
             for flag in [*entry.opts, *entry.secondary_opts]}
    others = {"--help", "--rows", "--folder", "--quick", "--generation-config", "--threads",
              "--shutdown-timeout"}  # of other programs
    prose = "\n".join(BLOCK.sub("", text) for name, text in TEXTS.items() if name != "CHANGELOG.md")
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", COPIED.sub("", prose))) - known - others == set()


def test_paths_and_links_lead_somewhere():
    for name, text in TEXTS.items():
        here = DOCUMENTS[name].parent
        plain = COPIED.sub("", BLOCK.sub("", text))
        for path in re.findall(r"`((?:examples|tools|tests|rrr_cli|docs)/[\w./-]*)`", plain):
            assert (ROOT / path).exists(), f"{name} names {path}"
        for link in re.findall(r"\]\(([^)\s]+)\)", plain):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            target = (here / path).resolve() if path else DOCUMENTS[name]
            assert target.exists(), f"{name} links to {link}"
            if anchor:
                headings = re.findall(r"(?m)^#+ (.+)$", BLOCK.sub("", target.read_text()))
                anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in anchors, f"{name} links to {link}"


def test_targets_of_make_are_targets():
    targets = set(re.findall(r"(?m)^([a-z][\w-]*):", (ROOT / "Makefile").read_text()))
    assert {line.split()[1] for line in said_lines() if line.startswith("make ")} <= targets


def test_layout_is_current():
    block = next(body for _, body in BLOCK.findall(TEXTS["docs/development.md"]) if body.startswith("rrr_cli/\n"))
    shown = set(re.findall(r"(?m)^  ([\w.]+)/? ", block))
    package = ROOT / "rrr_cli"
    there = {path.parent.name if path.name == "__init__.py" else path.name
             for path in [*package.glob("*.py"), *package.glob("*/__init__.py")]}
    assert shown - {"models"} == there - {"rrr_cli", "__main__.py"}


def test_each_document_is_linked_from_the_readme():
    assert [name for name in TEXTS if name != "README.md" and f"]({name})" not in TEXTS["README.md"]] == []


def test_readme_is_short_and_names_no_index():
    assert len(TEXTS["README.md"].splitlines()) <= 200
    scripts = "\n".join(path.read_text() for path in (ROOT / "examples").iterdir())
    said = re.sub(r"(?m)^rrr: .*", "", EVERYTHING + scripts)  # a message of the program means the installed package
    assert re.findall(r"pip install[^\n]*['\" ]rrr[_-]cli\b[^\n]*", said) == []


# Queries -------------------------------------------------------------------------------------------------------------


@cache
def queries() -> tuple[str, ...]:
    """Every SQL statement that a document shows and doesn't say to be refused."""
    found = [body for _, body in blocks("sql")]
    for line in (line for _, body in blocks("bash") for line in shell_lines(body)):
        given = [commands()["sql"].make_context("sql", words[1:]).params for words in simple_commands(line)
                 if words[0] == "sql"]
        found += [options["query"] for options in given if options["query"] not in (None, "-")]
        found += re.findall(r'echo "([^"]+)" \| rrr sql -', line)
    return tuple(dict.fromkeys(" ".join(re.sub("--.*", "", query).split()) for query in found))


def value(kind: str) -> Any:
    """A value of a column's type; null where that is allowed."""
    from rrr_cli.records import Message

    if kind.endswith("| None"):
        return None
    return {"str": "x", "int": 1, "float": 1.0, "bool": True, "list[Message]": [Message("user", "x")]}[kind]


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one row in every table."""
    from rrr_cli.records import TABLES
    from rrr_cli.store.artifacts import Writer

    run = tmp_path_factory.mktemp("runs") / "small"
    for table, record in TABLES.items():
        with Writer(run, table, "made", {}) as writer:
            writer.append([record(**{name: value(kind) for name, kind in record.__annotations__.items()})])
    return run


@pytest.mark.parametrize("query", queries(), ids=lambda query: query[:70])
def test_a_shown_query_runs(query: str, small_run: Path):
    from rrr_cli.store.database import answer, connect

    connection = connect([small_run])
    assert answer(connection, query).read_all().num_columns > 0


# Errors --------------------------------------------------------------------------------------------------------------


def message_of(call: ast.Call, tree: ast.Module) -> list[ast.expr]:
    """The parts of the text that `RrrError(…)` is given: constants, and values to be filled in."""
    text: ast.expr = call.args[0]
    if isinstance(text, ast.Name):  # message = f"…", and then raise RrrError(message)
        before = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and node.lineno < call.lineno
                  and getattr(node.targets[0], "id", "") == text.id]
        text = max(before, key=lambda node: node.lineno).value if before else text
    return text.values if isinstance(text, ast.JoinedStr) else [text]


def messages() -> Iterator[tuple[str, str]]:
    """(name of the exit code, pattern) of every message that the package raises, or ("", pattern) prints on stderr."""
    for path in sorted((ROOT / "rrr_cli").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            name = getattr(node.func, "id", "") if isinstance(node, ast.Call) and node.args else ""
            if name in ("RrrError", "print"):
                parts = message_of(node, tree)
                words = [re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".*?" for p in parts]
                if name == "print" and (not words or not words[0].startswith("rrr:")):
                    continue
                words[0] = words[0].removeprefix("rrr:\\ ") if name == "print" else words[0]
                if sum(len(word) for word in words if word != ".*?") > 18:  # `NAME: REASON` would fit everything
                    code = getattr(node.args[1], "id", "") if len(node.args) > 1 else "BAD_INPUT"
                    yield "" if name == "print" else code, "".join(words)


def shown_messages() -> list[str]:
    return re.findall(r"(?m)^rrr: (.+)$", TEXTS["docs/first-errors.md"])


def test_shown_messages_are_real():
    patterns = [pattern for _, pattern in messages()]
    assert len(shown_messages()) > 30
    unknown = [m for m in shown_messages() if not any(re.fullmatch(p, m) for p in patterns)]
    assert unknown == [], "docs/first-errors.md shows messages that the program doesn't have any more"


@pytest.mark.parametrize("code", ["NO_BACKEND", "NOTHING"])
def test_exit_4_and_5_have_cures(code: str):
    expected = [pattern for name, pattern in messages() if name == code]
    assert expected
    assert [p for p in expected if not any(re.fullmatch(p, m) for m in shown_messages())] == []


def refreshed(name: str) -> str:
    """A document with what it copies from the program as it is now. What can't be copied stays, and is named."""
    def copy(match: re.Match[str]) -> str:
        try:
            return f"<!-- {match[1]}: {match[2]} -->\n{copied(match[1], match[2])}<!-- end -->\n"
        except (KeyError, OSError) as error:
            print(f"{name}, {match[1]} of {match[2]}: {error!r}")
            return match[0]

    text = COPIED.sub(copy, TEXTS[name])
    if name not in RUNNING:
        return text
    with tempfile.TemporaryDirectory() as folder:
        try:
            return walked(text, Path(folder))
        except AssertionError as error:
            print(f"{name}: {error}")
            return text


def refresh() -> None:
    """Write what the documents copy from the program."""
    for name, path in DOCUMENTS.items():
        text = refreshed(name)
        if text != TEXTS[name]:
            path.write_text(text)
            print(f"{name}: written")


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    refresh()
