"""Put JSON-like texts before the function-calling verifier, and JSON trees before its comparison.

    python tools/fuzz/function_calling.py --n 200000 --seed 0

A verdict must come back for each text, of a known error type and without the reference in its feedback; a text passes
just where a second reading that was written apart finds the reference's calls. The comparison must be reflexive,
symmetric and blind to key order, and agree with canonical text. Prints how often each verdict came up; exits with 1 at
the first text that breaks a promise, and shows it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from itertools import islice
from random import Random
from typing import Any

from rrr_cli.records import Message, Problem
from rrr_cli.tasks.function_calling import FunctionCalling
from rrr_cli.tasks.function_calling.strict_json import Refused, parse, same
from rrr_cli.tasks.solves import solves

HOSTILE = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", '"\\ud800"', "\ud800", "[" * 40 + "]" * 40, "9" * 5000, "{",
    "}", "[", "]", '"', "\\", "\x00", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]",
    "<function=timer>", "</function>", "timer(", "=", "<|python_tag|>", "```json\n",
    "```", "<think>", "</think>", ";", ",", ":", "null", "true", "1", "1.0", "-0.0", '{"a": 1, "a": 1}', "'", "\u202e",
    '{"name": "timer", "arguments": {}}', '{"name": 1, "arguments": []}', "﻿", "I can't. ", "__import__('os')",
)


def random_tree(random: Random, depth: int = 0) -> Any:
    """A JSON value, small, with values that are easily taken for one another."""
    kind = random.random()
    if depth < 4 and kind < 0.25:
        return {random.choice("abcd"): random_tree(random, depth + 1) for _ in range(random.randint(0, 3))}
    if depth < 4 and kind < 0.45:
        return [random_tree(random, depth + 1) for _ in range(random.randint(0, 3))]
    return random.choice((0, 1, 1.0, 0.0, -0.0, True, False, None, "", "1", "true", "null", "a", 2**53, 2**53 + 1, 0.1))


def shuffled(random: Random, tree: Any) -> Any:
    """The same value with its keys in another order."""
    if isinstance(tree, dict):
        keys = list(tree)
        random.shuffle(keys)
        return {key: shuffled(random, tree[key]) for key in keys}
    return [shuffled(random, item) for item in tree] if isinstance(tree, list) else tree


def canonical(tree: Any) -> str:
    """Text that is the same for the same values: a second implementation of `same` without a schema."""
    return json.dumps(tree, sort_keys=True).replace("-0.0", "0.0")


def check_comparison(random: Random) -> str | None:
    """What is wrong with the comparison of two random trees, if anything."""
    left, right = random_tree(random), random_tree(random)
    if random.random() < 0.3:
        right = shuffled(random, left)
    schema = random.choice((None, {"type": "number"}, {"type": "array", "items": {"type": "number"}}))
    if not same(left, left, schema) or not same(left, shuffled(random, left), schema):
        return f"not reflexive, or not blind to key order: {left!a}"
    if same(left, right, schema) != same(right, left, schema):
        return f"not symmetric: {left!a} and {right!a}"
    if same(left, right) != (canonical(left) == canonical(right)):
        return f"disagrees with canonical text: {left!a} and {right!a}"
    return None


def perturbed(random: Random, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls with one thing about one of them changed, at times to the same."""
    calls = [{"name": call["name"], "arguments": dict(call["arguments"])} for call in calls]
    call = random.choice(calls)
    change, argument = random.randrange(6), random.choice(list(call["arguments"]))
    if change == 0:
        calls.append(call)
    elif change == 1:
        calls.remove(call)
    elif change == 2:
        call["name"] = random.choice(("timer", "alarm", "add", "lamp", "nothing", ""))
    elif change == 3:
        del call["arguments"][argument]
    else:
        call["arguments"][argument if change == 4 else random.choice("ab")] = random_tree(random)
    return calls


def random_text(random: Random, right: str, calls: list[dict[str, Any]]) -> str:
    """A right answer in some family's form, damaged or not, or pieces of one."""
    if random.random() < 0.4:
        calls = perturbed(random, calls)
    pythonic = [f"{c['name']}({', '.join(f'{k}={v!r}' for k, v in c['arguments'].items())})" for c in calls]
    forms = (
        f"[{', '.join(pythonic)}]", "\n".join(pythonic),
        "".join(f"[TOOL_CALLS]{c['name']}[ARGS]{json.dumps(c['arguments'])}" for c in calls),
        right, json.dumps(calls), "[TOOL_CALLS] " + json.dumps(calls), f"```json\n{json.dumps(calls, indent=1)}\n```",
        "; ".join(json.dumps({"name": c["name"], "parameters": c["arguments"]}) for c in calls),
        "<think>hm</think>\n" + right, json.dumps(random_tree(random)),
        "".join(random.choices(HOSTILE, k=random.randint(1, 8))),
    )
    text = random.choice(forms)
    for _ in range(random.choice((0, 0, 1, 1, 2, 5))):
        at, end = sorted((random.randint(0, len(text)), random.randint(0, len(text))))
        change = random.random()
        if change < 0.3:
            text = text[:at] + text[min(end, at + 3):]
        elif change < 0.6:
            text = text[:at] + random.choice(HOSTILE) + text[at:]
        elif change < 0.8:
            text = text[:at] + text[at:end] * 2 + text[end:]
        else:
            character = chr(random.choice((random.randrange(32, 127), random.randrange(0x110000))))
            text = text[:at] + character + text[at + 1:]
    return text


def plainly_right(text: str, calls: list[dict[str, Any]]) -> bool | None:
    """Whether a text that is JSON and nothing else is right; None for any other text. Written apart from the reader."""
    try:
        value = parse(text)
    except Refused:
        return None
    if not isinstance(value, (dict, list)):
        return None
    value = value if isinstance(value, list) else [value]
    for call in value:
        if isinstance(call, dict) and "parameters" in call and "arguments" not in call:
            call["arguments"] = call.pop("parameters")
        if isinstance(call, dict):
            call.pop("id", None)
            if call.get("type") == "function":
                del call["type"]
    return sorted(map(canonical, value)) == sorted(map(canonical, calls))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    problems: list[tuple[FunctionCalling, Problem]] = [
        (task, p) for task in map(FunctionCalling, FunctionCalling.levels) for p in islice(task.problems("train"), 300)
    ]
    counts: Counter[str] = Counter()
    compared = 0
    for i in range(options.n):
        random = Random(f"{options.seed}/{i}")
        task, problem = random.choice(problems)
        calls = json.loads(problem.reference)
        text = random_text(random, task.right_turns(problem)[0], calls)
        verdict = task.verify(problem, [Message("assistant", text)])
        counts[verdict.error_type or "right"] += 1
        wrong = check_comparison(random)
        if verdict.success != (verdict.error_type is None) or verdict.error_type not in (None, *task.error_types):
            wrong = f"a verdict that can't be: {verdict}"
        if solves(task, problem, verdict.feedback) or not verdict.feedback.isprintable():
            wrong = f"feedback that it shouldn't give: {verdict.feedback!a}"
        wanted = plainly_right(text, calls)
        compared += wanted is not None
        if wanted is not None and wanted != verdict.success:
            wrong = f"the second reading says {wanted}, the verifier {verdict}"
        if wrong:
            print(f"case {i}: {text!a}: {wrong}")
            return 1
    print(f"{options.n} texts and comparisons, 0 uncaught errors, 0 disagreements ({compared} texts read twice): "
          f"{dict(counts.most_common())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
