"""Tasks, engines and objectives by name: built in, an entry point of an installed package, or `path/to/file.py:Class`.

Reads the Python file that a user names, as a module that no import statement can find. Refuses, in one line, a file or
a class that doesn't exist or doesn't load.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.records import content_id
from rrr_cli.text import safe_text


@dataclass(frozen=True)
class Plug:
    """A class with the hash of its source."""

    cls: Any
    source: str | None  # hash, part of a run's identity; None where it is built in


def find(kind: str, name: str, built_in: Mapping[str, str]) -> Plug:
    """The class that `--KIND NAME` means. `built_in`: name -> "module:Class"; entry points are of group "rrr.KINDs".

    Raises RrrError (exit 2): no such name, file or class, or a file that doesn't load.
    """
    if ".py:" in name:
        cls = _of_file(kind, name)
    elif name in built_in:
        module, _, attribute = built_in[name].partition(":")
        return Plug(getattr(importlib.import_module(module), attribute), None)
    else:
        points = _points(kind)
        if name not in points:
            known = ", ".join(names(kind, built_in))
            raise RrrError(f"--{kind} {name}: no such {kind}. Known: {known}; or path/to/file.py:Class", USAGE)
        try:
            cls = points[name].load()
        except (Exception, SystemExit) as error:
            raise _broken(kind, name, error) from None
        if not isinstance(cls, type):
            raise RrrError(f"--{kind} {name}: {points[name].value} is not a class", USAGE)
    return Plug(cls, source_of(cls))


def names(kind: str, built_in: Mapping[str, str]) -> tuple[str, ...]:
    """The names that `find` knows without a path: built in first, then those of installed packages."""
    return (*built_in, *sorted(_points(kind).keys() - built_in.keys()))


def source_of(cls: Any) -> str:
    """A hash of a class's name and of the files that define it: its own, those of its base classes, those of the
    modules that they import, and every file of a package that one of them is in; without rrr's, Python's own, and what
    else is installed."""
    own = {c.__module__ for c in cls.__mro__}
    installed = {name.partition(".")[0] for name in own}  # a plug's own package may be an installed one
    files: set[Path] = set()
    for name in own | {used for module in own for used in _imports(sys.modules.get(module))}:
        top = name.partition(".")[0]
        path = getattr(sys.modules.get(name), "__file__", None)
        if top in {"rrr_cli", *sys.stdlib_module_names} or path is None:
            continue
        if top not in installed and {"site-packages", "dist-packages"} & set(Path(path).parts):
            continue
        package = getattr(sys.modules.get(top), "__path__", None)
        files |= {f for folder in package for f in Path(folder).rglob("*.py")} if package else {Path(path)}
    return content_id(cls.__qualname__, *(_code_of(path) for path in sorted(files)))


def _code_of(path: Path) -> str:
    """A file's code without comments and white space, which change nothing; whatever isn't Python as it is."""
    try:
        return ast.unparse(ast.parse(path.read_bytes()))  # a dump differs between Python versions
    except (SyntaxError, ValueError):
        return path.read_bytes().hex()


def _imports(module: ModuleType | None) -> set[str]:
    """The names of the modules that a module imports, or imports names from."""
    values = list(vars(module).values()) if module else []
    return {v.__name__ if isinstance(v, ModuleType) else str(getattr(v, "__module__", None)) for v in values}


@contextmanager
def blame(kind: str, plug: Any, what: str) -> Iterator[None]:
    """Raises RrrError (exit 2) where a plug that isn't built in raises something else: its author's mistake, in one
    line with the place. A built-in one's is a bug of ours, and keeps its traceback."""
    try:
        yield
    except RrrError:
        raise
    except Exception as error:
        cls = plug if isinstance(plug, type) else type(plug)
        if cls.__module__.partition(".")[0] == "rrr_cli":
            raise
        raise RrrError(f"the {kind} {cls.__name__}: {what} raises {reason(error)}", USAGE) from error


def _of_file(kind: str, name: str) -> Any:
    path, _, attribute = name.rpartition(":")
    if not Path(path).is_file():
        raise RrrError(f"--{kind} {name}: there is no file {path}", USAGE)
    try:
        module = _module(Path(path))
    except (Exception, SystemExit) as error:  # a script that ends itself is no plug
        raise _broken(kind, name, error) from None
    if not hasattr(module, attribute):
        classes = ", ".join(_classes(module)) or "no class"
        raise RrrError(f"--{kind} {name}: {path} has no {attribute} (it has {classes})", USAGE)
    cls = getattr(module, attribute)
    if not isinstance(cls, type):
        raise RrrError(f"--{kind} {name}: {attribute} is not a class", USAGE)
    return cls


def _module(path: Path) -> ModuleType:
    """The module of a file, under a name of its own: a task in json.py must not replace the module json."""
    path = path.resolve()
    name = f"rrr_plug_{content_id(str(path), path.read_bytes().hex())}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look up their module there
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _classes(module: ModuleType) -> Iterator[str]:
    return (k for k, v in vars(module).items() if isinstance(v, type) and v.__module__ == module.__name__)


def _points(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"rrr.{kind}s")}


def reason(error: BaseException) -> str:
    """What a plug's code raised and where, in one line: `KeyError: 'nums' (mine.py, line 12)`."""
    file, line, message = None, None, str(error)
    if isinstance(error, SyntaxError):
        file, line, message = error.filename, error.lineno, error.msg
    else:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_python_or_rrr(f.filename)]
        if frames:
            file, line = frames[-1].filename, frames[-1].lineno
    where = f" ({Path(file).name}, line {line})" if file else ""
    return f"{type(error).__name__}: {' '.join(safe_text(message).split())}{where}"


def _is_python_or_rrr(file: str) -> bool:
    """Whether a file is rrr's own, or of Python's standard library: not where a plug's mistake is."""
    own = (str(Path(__file__).parent), sysconfig.get_path("stdlib"), "<frozen")
    return file.startswith(own) and "site-packages" not in file


def _broken(kind: str, name: str, error: BaseException) -> RrrError:
    return RrrError(f"--{kind} {name} doesn't load: {reason(error)}", USAGE)
