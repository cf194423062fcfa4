"""How a run's chats are rendered: the template's arguments, recorded when the run begins and used by all its stages.

Reads provenance and the model's template files; writes nothing but one line on stderr, where a reflector won't see what
was thought. A template that prints the date gets the day on which the run began, whatever day it is now.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rrr_cli.engines import engine_class, takes
from rrr_cli.engines.template import DATE, Template, parsed, prints_date
from rrr_cli.records import TABLES

if TYPE_CHECKING:
    from rrr_cli.engines.render import Renderer

T = TypeVar("T")
DROPPED = (
    "rrr: the model's chat template drops thoughts of earlier turns, and with --no-keep-thoughts nobody is shown them: "
    "a reflector sees the failed answer alone")


def renders(options: Any) -> bool:
    """Whether the stage renders chats, or its engine does and takes arguments for it."""
    engine = getattr(options, "engine", None)
    return hasattr(options, "template_args") and (engine is None or "template_args" in takes(engine_class(engine)))


def as_rendered(options: T, mined: Mapping[str, Any]) -> T:
    """The options; without --template-args, with those of mining. Raises RrrError (exit 2): not a JSON object."""
    given: Any = options
    if not renders(options):
        return options
    arguments = parsed(given.template_args if given.template_args is not None else mined.get("template_args"))
    text = json.dumps(arguments, sort_keys=True, ensure_ascii=False) if arguments else None
    return replace(given, template_args=text)  # type: ignore[no-any-return]


def dated(options: T, models: Iterable[str], *runs: Path) -> T:
    """The options with the date of the run, where a chat template of one of the `models` prints today's: the one that
    is given, else the first that one of the `runs` recorded, else today (UTC)."""
    from rrr_cli.engines.models import resolve

    given: Any = as_rendered(options, {})
    remote = getattr(engine_class(given.engine), "remote", False) if hasattr(given, "engine") else False
    if not renders(given) or remote or DATE in (arguments := parsed(given.template_args)):
        return given  # type: ignore[no-any-return]
    resolved = [resolve(model) for model in dict.fromkeys(models)]
    if not any(prints_date(folder) for m in resolved for folder in (m.tokenizer, m.adapter) if folder):
        return given  # type: ignore[no-any-return]
    date: str = next((day for run in runs for day in _recorded(run)), datetime.now(UTC).date().isoformat())
    text = json.dumps({**arguments, DATE: date}, sort_keys=True, ensure_ascii=False)
    return replace(given, template_args=text)  # type: ignore[no-any-return]


def _recorded(run: Path) -> Iterable[str]:
    """The dates that the run's stages rendered with, the first table's first."""
    from rrr_cli.store.artifacts import parts

    for table in TABLES:
        for part in parts(run, table, complete=False):
            recorded = parsed(part.provenance["config"].get("template_args")).get(DATE)
            if day := recorded or part.provenance.get("template_date"):  # eval: of a further model
                yield day


def template_of(options: Any) -> Template:
    """How the options say that chats are rendered."""
    return Template(options.template_args, options.keep_thoughts)


def say_what_is_dropped(renderer: Renderer | None) -> None:
    """One line on stderr, where earlier turns are shown without what was thought in them."""
    if renderer is not None and not renderer.template.keep_thoughts and renderer.drops_thoughts:
        print(DROPPED, file=sys.stderr)
