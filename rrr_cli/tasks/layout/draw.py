"""Draw a layout, for people to look at: `.svg` written by hand, `.png` through matplotlib, or by a model of one's own.

Reads one attempt and its problem from a run; writes the one file. The model is `--renderer path.py:function`, called
with the caption, the boxes (a list of `boxes.Box`) and the path to write to; its file is run as it is. Refused: an
attempt of another task, and one whose layout can't be read.
"""

from __future__ import annotations

import json
import runpy
import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path

from rrr_cli.errors import BAD_INPUT, USAGE, RrrError
from rrr_cli.tasks.layout.boxes import SIDE, Box, Refused, read
from rrr_cli.text import safe_text

COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5")
PIXELS = 6  # a hundredth of the picture
LINE, LINE_LETTERS, LINES = 4, 64, 3  # the caption above it: hundredths and letters a line, most lines


def draw_attempt(run: Path, attempt_id: str, output: Path, renderer: str | None = None) -> None:
    """Draw what an attempt wrote. `attempt_id` may be the beginning of one.

    Raises RrrError: no such attempt, or none that can be drawn (exit 3); an unknown kind of file (exit 2).
    """
    caption, boxes = _attempt(run, attempt_id)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if renderer is not None:
            _render(renderer, caption, boxes, output)
        elif output.suffix == ".svg":
            output.write_text(svg(boxes, caption), encoding="utf-8")
        elif output.suffix == ".png":
            png(boxes, caption, output)
        else:
            raise RrrError(f"-o {output}: it should end in .svg or .png", USAGE)
    except OSError as error:
        raise RrrError(f"-o {output} can't be written: {error.strerror or error}", BAD_INPUT) from None


def svg(boxes: Sequence[Box], caption: str) -> str:
    """The layout as one SVG document, with no script and nothing from outside."""
    caption_lines = textwrap.wrap(safe_text(caption), LINE_LETTERS, max_lines=LINES)
    above = LINE * len(caption_lines) + 1
    width, height = SIDE * PIXELS, (SIDE + above) * PIXELS
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 -{above} {SIDE} {SIDE + above}" font-family="sans-serif" font-size="3">',
        f'<rect y="-{above}" width="{SIDE}" height="{SIDE + above}" fill="white"/>',
        *(f'<text x="1" y="{LINE * (i - len(caption_lines)) + 2}">{_escaped(line)}</text>'
          for i, line in enumerate(caption_lines)),
        f'<rect width="{SIDE}" height="{SIDE}" fill="none" stroke="black" stroke-width="0.3"/>',
    ]
    for box, colour in _coloured(boxes):
        lines.append(
            f'<rect x="{box.x}" y="{box.y}" width="{box.w}" height="{box.h}" fill="{colour}" fill-opacity="0.25" '
            f'stroke="{colour}" stroke-width="0.5"/>'
            f'<text x="{box.x + 0.8}" y="{box.y + 3.4}">{_escaped(box.name)}</text>')
    return "\n".join([*lines, "</svg>\n"])


def png(boxes: Sequence[Box], caption: str, output: Path) -> None:
    """The same as a PNG. Raises RrrError (exit 4) without matplotlib."""
    from rrr_cli.extras import require

    require("report", "matplotlib")
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(6, 6.4), dpi=100, layout="constrained")
    axes = figure.add_subplot(xlim=(0, SIDE), ylim=(SIDE, 0), aspect="equal", xticks=[], yticks=[])
    axes.set_title(safe_text(caption), fontsize=9, loc="left", parse_math=False, wrap=True)
    for box, colour in _coloured(boxes):
        axes.add_patch(Rectangle((box.x, box.y), box.w, box.h, facecolor=(colour, 0.25), edgecolor=colour))
        axes.text(box.x + 0.8, box.y + 3.4, safe_text(box.name), fontsize=9, parse_math=False)
    figure.savefig(output, format="png")


def _attempt(run: Path, attempt_id: str) -> tuple[str, list[Box]]:
    """The caption and the boxes of an attempt."""
    from rrr_cli.store.artifacts import read as rows

    ids = [row["attempt_id"] for row in rows(run, "attempts", columns=["attempt_id"])]
    matches = list(rows(run, "attempts", {"attempt_id": [i for i in ids if i.startswith(attempt_id)]}))
    if len(matches) != 1:
        what = "no attempt" if not matches else f"{len(matches)} attempts"
        raise RrrError(f"{safe_text(attempt_id)} begins {what} of {run}; to see some: rrr sql --run {run} "
                       '"select attempt_id from attempts limit 5"', BAD_INPUT)
    [attempt] = matches
    if attempt.task != "layout":
        raise RrrError(f"attempt {attempt.attempt_id} is of task {attempt.task}; only layout has boxes", BAD_INPUT)
    problem = next(rows(run, "problems", {"problem_id": attempt.problem_id}), None)
    caption = json.loads(problem.metadata)["caption"] if problem else ""
    written = [message.content for message in attempt.transcript if message.role == "assistant"]
    try:
        return caption, read(written[-1] if written else "")
    except Refused as refused:
        raise RrrError(f"attempt {attempt.attempt_id} can't be drawn. {refused}", BAD_INPUT) from None


def _render(renderer: str, caption: str, boxes: Sequence[Box], output: Path) -> None:
    path, _, name = renderer.rpartition(":")
    if not path.endswith(".py") or not Path(path).is_file():
        raise RrrError(f"--renderer {renderer}: give a Python file that is there and a function, path.py:name", USAGE)
    function = runpy.run_path(path).get(name)
    if not callable(function):
        raise RrrError(f"--renderer {renderer}: {path} has no function {name}", USAGE)
    function(caption, list(boxes), output)


def _coloured(boxes: Sequence[Box]) -> list[tuple[Box, str]]:
    """The larger boxes first, so that they don't hide the smaller; one colour a name."""
    names = list(dict.fromkeys(box.name for box in boxes))
    return [(box, COLOURS[names.index(box.name) % len(COLOURS)]) for box in sorted(boxes, key=lambda b: -b.w * b.h)]


def _escaped(text: str) -> str:
    return escape(safe_text(text))
