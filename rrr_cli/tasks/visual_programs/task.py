"""Visual programs: answer a question about a picture by a program that looks at it (Re-ReST's GQA, arXiv 2406.01495).

As in VisProg the model is shown the question and the language, never the picture: the program sees it, as a scene graph
(`scene_graphs.py`; `visual_programs_language.py` has the language). Problems come from a generator (levels easy, full)
or from `data`, a folder with GQA's own files (`visual_programs_gqa.py`).

The verifier runs the last closed <program> block of the last assistant turn; where there is none, the last closed ```
fence. A generated problem has 6 pictures, on which the same question has different answers, and a program passes only
if it is right on each: a guessed answer passes nowhere. A problem of GQA has its one picture, as GQA does; there a
program can still be right by luck, about half the time where the answer is yes or no. A written-down answer fails
everywhere (`constant`). The reference is one program among several; any that is right passes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from rrr_cli import prompts
from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.rows import check_split, chosen_level
from rrr_cli.tasks.visual_programs.interpreter import run
from rrr_cli.tasks.visual_programs.language import Wrong, parse, tokens_of
from rrr_cli.tasks.visual_programs.scene_graphs import Scene, fold, from_json, to_json


class VisualPrograms:
    """The task; `levels` are of the generator, so `level` and `data` exclude each other.

    Raises RrrError: unknown level, or both given (exit 2); data that can't be read (exit 3).
    """

    name = "visual_programs"
    levels = ("easy", "full")
    error_types = (
        "no_program", "malformed", "type_error", "constant", "unknown_object", "unknown_attribute", "ambiguous",
        "wrong_answer",
    )
    words: Mapping[str, str] = {"reflect": prompts.VISUAL_PROGRAMS_REFLECT, "retry": prompts.VISUAL_PROGRAMS_RETRY}

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        from rrr_cli.tasks.visual_programs.data import check_folder

        self.level = chosen_level(self.name, self.levels, level, data, check_folder)
        self.data = data

    def problems(self, split: str) -> Iterator[Problem]:
        """Problems of `split`, "train" or "test"."""
        check_split(self.name, split)
        if self.data is not None:
            from rrr_cli.tasks.visual_programs.data import gqa_problems

            return gqa_problems(self.data, split)
        from rrr_cli.tasks.visual_programs.generate import made_problems

        return made_problems(self.level, split)

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        """Judge the last assistant turn. Total and pure."""
        text = next((m.content for m in reversed(transcript) if m.role == "assistant"), "")
        pictures = json.loads(problem.metadata)["pictures"]
        return judge(text, [(from_json(scene), answer) for scene, answer in pictures])

    def right_turns(self, problem: Problem) -> list[str]:
        """The reference between the tags."""
        return [f"<program> answer = {json.loads(problem.reference)} </program>"]

    def leaks(self, problem: Problem, text: str) -> bool:
        """Whether the reference's words and signs stand in `text` one after the other, quotes aside."""
        return _spaced(json.loads(problem.reference)) in _spaced(text)


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
    for number, (scene, wanted) in enumerate(pictures, start=1):
        which = f"On picture {number} of {len(pictures)}" if len(pictures) > 1 else "On the picture"
        try:
            answers.append(run(program, scene))
        except Wrong as wrong:
            return _failed(wrong.error_type, f"{which} the program stops: {wrong}.", answers)
        if not same_answer(answers[-1], wanted):
            return _failed("wrong_answer", f"{which} the program answers {answers[-1]}, which is wrong.", answers)
    return Verdict(True, 1.0, None, "The program's answer is right.", ", ".join(answers))


def program_in(text: str) -> str | None:
    """The program's text: of the last closed <program> block, or, where there is none, of the last closed fence."""
    end = text.rfind("</program>")
    start = text.rfind("<program>", 0, max(end, 0))
    if start >= 0:
        return text[start + len("<program>"):end].strip() or None
    end = text.rfind("```")
    start = text.rfind("```", 0, max(end, 0))
    if start < 0:
        return None
    inside = re.sub(r"\A\w{0,20}\n", "", text[start + 3:end])  # the fence's language
    return inside.strip() or None


def same_answer(answer: str, wanted: str) -> bool:
    """Whether two answers are the same, whatever the spelling: GQA says left where its program has to the left of."""
    return _side(fold(answer)) == _side(fold(wanted))


def make_problem(
    question: str, expression: str, pictures: Sequence[tuple[Scene, str]], split: str, difficulty: str, image: str = "",
) -> Problem:
    """The row of one problem: the expression is of the reference, each picture a scene with its answer."""
    metadata = json.dumps({"question": question, "image": image, "pictures": [[to_json(s), a] for s, a in pictures]})
    template = prompts.VISUAL_PROGRAMS_EASY if difficulty.startswith("easy") else prompts.VISUAL_PROGRAMS
    return Problem(
        problem_id=content_id("visual_programs", metadata),
        task=VisualPrograms.name,
        split=split,
        difficulty=difficulty,
        prompt=[Message("user", template.format(question=question))],
        tools=None,
        reference=json.dumps(expression),
        metadata=metadata,
    )


def _side(answer: str) -> str:
    return {"left of": "left", "right of": "right"}.get(answer, answer)


def _failed(error_type: str, feedback: str, answers: Sequence[str] = ()) -> Verdict:
    return Verdict(False, 0.0, error_type, feedback, ", ".join(answers) or None)


def _spaced(text: str) -> str:
    return f" {' '.join(tokens_of(text))} "
