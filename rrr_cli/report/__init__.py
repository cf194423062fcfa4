"""`rrr report RUN… -o report.html`: the results of runs as one HTML file that loads nothing else.

Reads runs; writes one file, complete or not at all, the same bytes for the same runs. Every text in it is escaped, and
its content policy allows no script and no request. Refuses a folder that isn't a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrr_cli.text import safe_text

if TYPE_CHECKING:
    from rrr_cli.report.sections import Story


def write(runs: Sequence[Path], output: Path) -> dict[str, Any]:
    """Write the report of `runs` to `output`, and return its figures: what `--json` prints.

    Raises RrrError: a folder that isn't a run, a damaged part, an unwritable output (exit 3), missing extra (4).
    """
    from rrr_cli.extras import require
    from rrr_cli.store.sql import require_run

    for run in runs:
        require_run(run)
    require("report", "jinja2", "matplotlib", "scipy")
    from rrr_cli.report.sections import story_of
    from rrr_cli.store.database import names
    from rrr_cli.store.disk import write_output

    stories = [story_of(name, run) for name, run in names(list(dict.fromkeys(runs))).items()]
    write_output(output, page(stories).encode("utf-8", "replace"))
    return {"report": str(output), "runs": [figures(story) for story in stories]}


def figures(story: Story) -> dict[str, Any]:
    """A run's numbers: `models` and `comparisons` as `rrr eval --json` has them, and the verdicts."""
    return {
        "run": story.name, "path": story.path, **(story.result or {"models": [], "comparisons": []}),
        "verdicts": story.verdicts, "warnings": story.warnings, "left_out": story.left_out,
    }


def page(stories: Sequence[Story]) -> str:
    """The HTML of all stories, a section for each run."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from rrr_cli import __version__
    from rrr_cli.report.results import points

    environment = Environment(
        loader=PackageLoader("rrr_cli", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=lambda value: safe_text(value) if type(value) is str else value,
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    environment.filters["signed"] = points
    environment.filters["words"] = lambda measure: measure.replace("_", " ")
    return environment.get_template("page.html.j2").render(stories=stories, version=__version__)
