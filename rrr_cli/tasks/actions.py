"""The labelled action in a model's turn, read in one way by every task of several turns. Reads and writes nothing.

A label is `Action:`, `Action 1:`, `Act 1.`, or a line of its own that says Action; heading, list and quote marks may
stand before it, and bold type, backticks and quotes around it and around the action. The action may stand on the next
line or in a fence.

A turn is one action, the first. What stands after it isn't the model's to write, and neither is what stands from the
line on that the model labels as an observation (`Observation 1:`, `Obs:`): `own_part` leaves both out.
"""

from __future__ import annotations

import re

MAX_READ = 60_000  # characters of an answer that are looked at, from its start
MARKS = "*_~`\"'\u201c\u201d\u2018\u2019"  # bold type, backticks and quotes
_M = f"[{MARKS}]{{0,4}}"
_BEFORE = r"[ \t>#*_~`\-+\u2022\d.)(]{0,16}"  # what may stand before a label: quote, heading, list number, bold type
_NUMBER = rf"{_M}[ \t]{{0,3}}[#(]?\d{{0,3}}\)?{_M}[ \t]{{0,3}}"
# a colon; after a number also a full stop, a parenthesis or a dash
_SIGN = r"(?:[:\uff1a]|(?:(?<=\d)|(?<=\d\*\*)|(?<=[\d*)] ))[.)\-\u2013\u2014])"


def _label(words: str, line_start: bool) -> str:
    """A pattern of these words as a label: followed by a sign, or alone on a line."""
    start = rf"^{_BEFORE}" if line_start else r"(?<![^\W_])"  # no letter or digit before it
    return rf"(?:{start}(?:{words}){_NUMBER}{_SIGN}{_M}|^{_BEFORE}(?:{words}){_NUMBER}\r?$)"


ACTION = _label("action|act", line_start=False)
_OBSERVATION = re.compile(_label("observations?|obs", line_start=True), re.IGNORECASE | re.MULTILINE)
_OBSERVATION_WITHIN = re.compile(_label("observation|obs", line_start=False), re.IGNORECASE)
#: Between a label and its action: white space and marks, a fence with its language, a list number.
GAP = r"[\W_]{0,40}(?:(?<=```)\w{1,12}[ \t]{0,3}\r?\n[\W_]{0,12})?(?:\d{1,2}[.)][ \t]{1,3}[\W_]{0,6})?"
_CLOSING = re.compile(rf"[{MARKS}.,;!)\]]{{0,8}}(?:\s*```)?")  # what belongs to an action after its end


def before_observation(answer: str) -> str:
    """The part of an answer that is read: up to the first line that is labelled as an observation."""
    answer = answer[:MAX_READ]
    observation = _OBSERVATION.search(answer)
    return answer[: observation.start()] if observation else answer


def up_to_observation(line: str) -> str:
    """A line without the observation that follows an action on it."""
    observation = _OBSERVATION_WITHIN.search(line)
    return line[: observation.start()] if observation else line


def own_part(answer: str, end: int | None) -> str:
    """The part of an answer that is the model's own: up to the `end` of its first action, with the marks that close it;
    without an action (None), up to its own observation. All of it where nothing but white space is left out."""
    if end is not None:
        closing = _CLOSING.match(answer, end)
        end = closing.end() if closing else end
    elif len(before := before_observation(answer)) < len(answer[:MAX_READ]):
        end = len(before)
    return answer if end is None or not answer[end:].strip() else answer[:end]
