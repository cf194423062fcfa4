"""What a HotpotQA problem is: its row, and the words that a model is shown. Reads and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rrr_cli.records import Message, Problem, content_id

NAME = "hotpotqa"
MAX_TURNS = 6  # Re-ReST's
MAX_ANSWER = 500  # characters of an answer

WORDS: Mapping[str, str] = {
    # Ours, after ReAct's (arXiv 2210.03629, appendix C): its three actions, for a chat and a local corpus.
    "prompt": (
        "Answer the question by steps. A step is a thought and then one action, which is one of these:\n"
        "Action: Search[title] shows the first sentences of the page with that title, or of the page that fits best.\n"
        "Action: Lookup[words] shows the next sentence of that page that holds the words.\n"
        "Action: Finish[answer] gives the answer in as few words as possible and ends it.\n"
        "You have {turns} steps.\n\nQuestion: {question}"
    ),
    "observation": "Observation: {told}",
    # ReAct's words (the titles are shown without quotes), but for the last two.
    "not_found": "Could not find [{query}]. Similar: [{similar}].",
    "result": "(Result {number} / {count}) {sentence}",
    "no_more": "No more results.",
    "no_page": "There is no page to look at yet. Search first.",
    "invalid": "Invalid action. Valid actions are Search[title], Lookup[words] and Finish[answer].",
    # Ours, in the form of RRR's.
    "reflect": (
        "You tried answering the question and failed. Reflect on what went wrong and write a short explanation that "
        "will help you do better next time."
    ),
    "retry": "Please try to answer the question again, from the first step.",
}


def make_problem(
    question: str, answer: str, steps: Sequence[tuple[str, str]], split: str, difficulty: str, corpus: str,
    words: Mapping[str, str] = WORDS,
) -> Problem:
    """The row of one problem.

    `steps` are a right model's actions before Finish, each with its page's title; `corpus` is the fingerprint of the
    pages.
    """
    return Problem(
        problem_id=content_id("hotpotqa", question, answer, corpus),
        task=NAME,
        split=split,
        difficulty=difficulty,
        prompt=[Message("user", words["prompt"].format(turns=MAX_TURNS, question=question))],
        tools=None,
        reference=json.dumps(answer),
        metadata=json.dumps({"corpus": corpus, "steps": [list(step) for step in steps]}),
    )
