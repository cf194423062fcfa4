"""The verdict on one answer: on each picture its program has to come to that picture's answer.

The last closed <program> block counts; where there is none, the last closed ``` fence. A fence or backticks within the
block and full-width or curly signs don't matter. Reads and writes nothing; never raises.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.typed import ascii_signs
from rrr_cli.tasks.visual_programs.interpreter import run
from rrr_cli.tasks.visual_programs.language import Wrong, parse
from rrr_cli.tasks.visual_programs.scene_graphs import Scene, fold

_LANGUAGE = re.compile(r"\A\w{0,20}[ \t]*\r?\n")  # of a fence


def judge(text: str, pictures: Sequence[tuple[Scene, str]]) -> Verdict:
    """The verdict on one answer text: on each picture the program has to come to that picture's answer."""
    source = program_in(text)
    if source is None:
        return _failed("no_program", "No program was found: put it between <program> and </program>.")
    try:
        program = parse(source)
    except Wrong as wrong:
        start = {"malformed": "The program can't be read", "type_error": "The program's types are wrong"}
        return _failed(wrong.error_type, f"{start.get(wrong.error_type, 'The program does not count')}: {wrong}.")
    answers: list[str] = []
    for number, (scene, expected) in enumerate(pictures, start=1):
        which = f"On picture {number} of {len(pictures)}" if len(pictures) > 1 else "On the picture"
        try:
            answers.append(run(program, scene))
        except Wrong as wrong:
            return _failed(wrong.error_type, f"{which} the program stops: {wrong}.", answers)
        if not same_answer(answers[-1], expected):
            return _failed("wrong_answer", f"{which} the program answers {answers[-1]}, which is wrong.", answers)
    return Verdict(True, 1.0, None, "The program's answer is right.", ", ".join(answers))


def program_in(text: str) -> str | None:
    """The program's text: of the last closed <program> block, or, where there is none, of the last closed fence."""
    text = ascii_signs(text)
    end = text.rfind("</program>")
    start = text.rfind("<program>", 0, max(end, 0))
    if start >= 0:
        inside = text[start + len("<program>"):end].strip()
        return _LANGUAGE.sub("", inside.strip("`")).strip() or None if inside[:1] == "`" else inside or None
    end = text.rfind("```")
    start = text.rfind("```", 0, max(end, 0))
    if start < 0:
        return None
    return _LANGUAGE.sub("", text[start + 3:end]).strip() or None


def same_answer(answer: str, expected: str) -> bool:
    """Whether two answers are the same, whatever the spelling: GQA says left where its program has to the left of."""
    return _side(fold(answer)) == _side(fold(expected))


def _side(answer: str) -> str:
    return {"left of": "left", "right of": "right"}.get(answer, answer)


def _failed(error_type: str, feedback: str, answers: Sequence[str] = ()) -> Verdict:
    return Verdict(False, 0.0, error_type, feedback, ", ".join(answers) or None)
