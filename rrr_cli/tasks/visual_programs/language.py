"""The language of visual programs: reading it, and checking its types. Small, typed, and every program ends.

A program is statements `name = expression`, the last one `answer = …`; white space and newlines are the same, and a
semicolon may end a statement. An expression is a call of one of `FUNCTIONS`, a name that was set before, or a word in
quotes where a function takes a word. There are no loops and no functions of one's own. Limits: 4,000 characters, 600
tokens, 40 statements, calls 12 deep.

Reads and writes nothing. What is wrong is raised as `Wrong`, with the error type of the task and a sentence; `constant`
is an answer that is written down (`answer = "red"`), or that asks for nothing but whether any object is there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rrr_cli.tasks.visual_programs.scene_graphs import SCENE, fold

MAX_CHARACTERS, MAX_TOKENS, MAX_STATEMENTS, MAX_DEPTH = 4000, 600, 40, 12
ANY = "object"  # find("object") finds everything

OBJECTS, TRUTH, NUMBER, WORD, QUOTED = "objects", "yes or no", "a number", "a word", "a word in quotes"
#: function -> types of its arguments, type of its value
FUNCTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "find": ((QUOTED,), OBJECTS),
    "filter": ((OBJECTS, QUOTED), OBJECTS),
    "reject": ((OBJECTS, QUOTED), OBJECTS),
    "subjects": ((OBJECTS, QUOTED), OBJECTS),
    "objects": ((OBJECTS, QUOTED), OBJECTS),
    "like": ((OBJECTS, QUOTED), OBJECTS),
    "exists": ((OBJECTS,), TRUTH),
    "count": ((OBJECTS,), NUMBER),
    "more": ((NUMBER, NUMBER), TRUTH),
    "and": ((TRUTH, TRUTH), TRUTH),
    "or": ((TRUTH, TRUTH), TRUTH),
    "not": ((TRUTH,), TRUTH),
    "same": ((OBJECTS, OBJECTS, QUOTED), TRUTH),
    "query": ((OBJECTS, QUOTED), WORD),
    "choose": ((OBJECTS, QUOTED, QUOTED), WORD),
    "relation": ((OBJECTS, OBJECTS, QUOTED, QUOTED), WORD),
    "common": ((OBJECTS, OBJECTS), WORD),
}


class Wrong(Exception):
    """A program that can't be read or run, or mustn't count; the message is a clause that ends no sentence."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


@dataclass(frozen=True)
class Quoted:
    """A word in quotes, folded."""

    text: str


@dataclass(frozen=True)
class Constant:
    """A number, or yes or no, written down."""

    text: str


@dataclass(frozen=True)
class Name:
    """A name that was set before."""

    text: str


@dataclass(frozen=True)
class Call:
    """A function and its arguments."""

    function: str
    arguments: tuple[Expression, ...]


Expression = Quoted | Constant | Name | Call
Program = tuple[tuple[str, Expression], ...]

# Read ----------------------------------------------------------------------------------------------------------------

TOKEN = re.compile(r"""\s*(?:"([^"\n]*)"|'([^'\n]*)'|([A-Za-z_]\w*)|([0-9]{1,9})|([=(),;]))""", re.ASCII)


def parse(text: str) -> Program:
    """The program that `text` is, with its types checked. Raises Wrong: malformed, type_error or constant."""
    reader = _Reader(_tokens(text))
    program: list[tuple[str, Expression]] = []
    while reader.peek() is not None:
        name = reader.take("word", "a name to set")
        if name in FUNCTIONS or name in ("yes", "no"):
            raise Wrong("malformed", f"{name} is a word of the language and can't be set")
        reader.take("=", "=")
        program.append((name, reader.expression(0)))
        while reader.peek() == ";":
            reader.take(";", ";")
    if not program or program[-1][0] != "answer":
        raise Wrong("malformed", "its last statement doesn't set answer")
    if len(program) > MAX_STATEMENTS:
        raise Wrong("malformed", f"it has more than {MAX_STATEMENTS} statements")
    _check_types(program)
    _check_looks(program)
    return tuple(program)


def write(expression: Expression) -> str:
    """An expression as text that `parse` reads."""
    if isinstance(expression, Quoted):
        return f'"{expression.text}"'
    if isinstance(expression, Call):
        return f"{expression.function}({', '.join(write(argument) for argument in expression.arguments)})"
    return expression.text


def _tokens(text: str) -> list[tuple[str, str]]:
    if len(text) > MAX_CHARACTERS:
        raise Wrong("malformed", f"it is longer than {MAX_CHARACTERS} characters")
    tokens: list[tuple[str, str]] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = TOKEN.match(text, position)
        if match is None:
            raise Wrong("malformed", f"{text[position:].split(None, 1)[0][:20]!r} can't be read")
        double, single, word, number, sign = match.groups()
        quoted = double if double is not None else single
        tokens.append(("quoted", fold(quoted)) if quoted is not None else ("word", word) if word
                     else ("number", number) if number else (sign, sign))
        position = match.end()
    if len(tokens) > MAX_TOKENS:
        raise Wrong("malformed", f"it has more than {MAX_TOKENS} words and signs")
    return tokens


class _Reader:
    """Tokens, taken one after the other."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens, self._next = tokens, 0

    def peek(self, ahead: int = 0) -> str | None:
        """The kind of a token to come; None after the last."""
        place = self._next + ahead
        return self._tokens[place][0] if place < len(self._tokens) else None

    def take(self, kind: str, expected: str) -> str:
        """The next token, which has to be of `kind`."""
        actual = self.peek()
        if actual != kind:
            what = repr(self._tokens[self._next][1][:20]) if actual else "the end"
            raise Wrong("malformed", f"it has {what} where it should have {expected}")
        self._next += 1
        return self._tokens[self._next - 1][1]

    def expression(self, depth: int) -> Expression:
        """A word in quotes, a number, a name, or a call."""
        if depth > MAX_DEPTH:
            raise Wrong("malformed", f"its calls are more than {MAX_DEPTH} deep")
        kind = self.peek()
        if kind == "quoted":
            return Quoted(self.take("quoted", ""))
        if kind == "number":
            return Constant(self.take("number", ""))
        word = self.take("word", "a function, a name or a word in quotes")
        if self.peek() != "(":
            return Constant(word) if word in ("yes", "no") else Name(word)
        self.take("(", "(")
        arguments: list[Expression] = []
        while self.peek() != ")":
            if arguments:
                self.take(",", ", or )")
            arguments.append(self.expression(depth + 1))
        self.take(")", ")")
        return Call(word, tuple(arguments))


# Check ---------------------------------------------------------------------------------------------------------------


def _check_types(program: Sequence[tuple[str, Expression]]) -> None:
    types: dict[str, str] = {}
    for name, expression in program:
        types[name] = _type(expression, types)
    if types["answer"] == OBJECTS:
        raise Wrong("type_error", "the answer is objects; count them, ask whether they exist, or query one")


def _type(expression: Expression, types: dict[str, str]) -> str:
    if isinstance(expression, Quoted):
        return QUOTED
    if isinstance(expression, Constant):
        return TRUTH if expression.text in ("yes", "no") else NUMBER
    if isinstance(expression, Name):
        if expression.text not in types:
            raise Wrong("type_error", f"{expression.text[:40]!r} was not set before")
        return types[expression.text]
    if expression.function not in FUNCTIONS:
        raise Wrong("type_error", f"there is no function {expression.function[:40]!r}")
    expected, value = FUNCTIONS[expression.function]
    if len(expected) != len(expression.arguments):
        count = len(expression.arguments)
        raise Wrong("type_error", f"{expression.function} has {count} arguments, not {len(expected)}")
    for kind, argument in zip(expected, expression.arguments, strict=True):
        actual = _type(argument, types)
        if actual != kind or (kind == QUOTED and not isinstance(argument, Quoted)):
            raise Wrong("type_error", f"{expression.function} takes {kind} where it has {actual}")
    return value


def _check_looks(program: Sequence[tuple[str, Expression]]) -> None:
    """Raises Wrong (constant) unless the answer depends on more of the scene than that there is something."""
    asks: dict[str, bool] = {}
    for name, expression in program:
        asks[name] = _asks(expression, asks)
    if not asks["answer"]:
        raise Wrong("constant", "its answer doesn't hang on what is in the picture")


def _asks(expression: Expression, asks: dict[str, bool]) -> bool:
    if isinstance(expression, Quoted):
        return False
    if isinstance(expression, Name):
        return asks[expression.text]
    if isinstance(expression, Constant):
        return False
    if any(isinstance(one, Quoted) and one.text not in (ANY, SCENE, "") for one in expression.arguments):
        return True
    return expression.function == "common" or any(_asks(one, asks) for one in expression.arguments)
