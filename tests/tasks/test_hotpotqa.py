"""HotpotQA: how actions are read, what the pages say, how answers are judged, what data may hold, what is generated."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrr_cli.errors import BAD_INPUT, NO_BACKEND, USAGE, RrrError
from rrr_cli.records import Message, Problem
from rrr_cli.store.artifacts import read
from rrr_cli.tasks.base import played
from rrr_cli.tasks.hotpotqa import HotpotQA, generate, make_problem
from rrr_cli.tasks.hotpotqa.corpus import SHOWN, Corpus, Page, fold, matches, sentences_of
from rrr_cli.tasks.hotpotqa.generate import LIMITS
from rrr_cli.tasks.hotpotqa.judge import f1, judge, normalise
from rrr_cli.tasks.hotpotqa.parse import action_of
from rrr_cli.tasks.hotpotqa.world import world
from rrr_cli.tasks.solves import solves

SHARED = Path(__file__).parent.parent.parent.parent / "shared" / "data"

ROWS: list[dict[str, Any]] = [
    {
        "id": "a", "question": "In which country was the maker of Nick born?", "answer": "Norway", "type": "bridge",
        "supporting_facts": [["Nick", 1], ["Zoë Lund", 0]], "split": "train",
        "context": [
            ["Nick", ["Nick is a film.", " It was made by Zoë Lund."]],
            ["Zoë Lund", ["Zoë Lund was born in Oslo, Norway.", " She sang.", " She wrote.", " She drew.", " She ran.",
                          " She sang of Oslo in 1999."]],
            ["Oslo", ["Oslo is a town of singers."]],
        ],
    },
    {
        "id": "b", "question": "Are Nick and Rick both films?", "answer": "yes", "type": "comparison",
        "supporting_facts": [["Nick", 0], ["Rick", 0]], "split": "test",
        "context": [["Nick", ["Nick is a film.", " It was made by Zoë Lund."]], ["Rick", ["Rick is a film too."]]],
    },
]


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A file of two rows in HotpotQA's own form."""
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(ROWS))
    return str(path)


def last_answer(task: HotpotQA, problem: Problem, *turns: str) -> str:
    """What the environment says to the last of `turns`, without the prefix."""
    observation = task.observe(problem, [Message("assistant", turn) for turn in turns])
    assert observation is not None
    assert observation.role == "user"
    return observation.content.removeprefix("Observation: ")


@pytest.fixture
def asked(data: str) -> Any:
    """`asked(turn, …)`: what is said to the last turn of an episode of the first row."""
    task = HotpotQA(data=data)
    problem = next(task.problems("train"))
    return lambda *turns: last_answer(task, problem, *turns)


# Actions


@pytest.mark.parametrize(
    ("turn", "action"),
    [
        ("Action: Search[Nick]", ("search", "Nick")),
        ("Thought 1: who made it?\nAction 1: Search[Nick]\n", ("search", "Nick")),
        ("I think.\nAction 12: Lookup[was born]", ("lookup", "was born")),
        ("action : finish [ two  words ]", ("finish", "two words")),
        ("Action: Search[A]\nAction: Search[B]", ("search", "A")),
        ("Action: Search[A] Action: Finish[B]", ("search", "A")),
        ("Action 1: Search[A]\nObservation 1: made up\nAction 2: Finish[B]\nDone.", ("search", "A")),
        ("Action: Search[Alien [film]] (1979)", ("search", "Alien [film]")),
        ("Action: Search[cut off\nAction: Search[A]", ("search", "A")),
        ("Action: Search[A\nB]", None),
        ("Search[A]", None),
        ("Action: Think[A]", None),
        ("Action: Finish[]", ("finish", "")),
        ("Reaction: Finish[A]", None),
        ("", None),
    ],
)
def test_the_first_closed_action_of_a_turn_counts(turn: str, action: tuple[str, str] | None):
    assert action_of(turn) == action


@given(st.sampled_from(["search", "lookup", "finish"]), st.text(st.characters(
    categories=["L", "N", "P"], exclude_characters="[]\uff3b\uff3d\u3010\u3011")), st.text())
def test_an_action_is_read_as_it_was_written(name: str, argument: str, thought: str):
    assert action_of(f"{thought}\nAction: {name}[{argument}]") == (name, argument)


# Pages


def test_search_ignores_case_and_accents_of_titles(asked):
    shown = "Nick is a film. It was made by Zoë Lund."
    assert asked("Action: Search[Nick]") == asked("Action: Search[ nick ]") == shown
    assert asked("Action: Search[zoe LUND]").startswith("Zoë Lund was born")


def test_search_shows_five_sentences(asked):
    assert asked("Action: Search[Zoë Lund]").endswith("She ran.")
    assert asked("Action: Search[she who wrote and drew]").endswith("She ran.")


def test_search_by_words_names_the_page(asked):
    assert asked("Action: Search[town where singers are]") == "[Oslo] Oslo is a town of singers."


def test_a_failed_search_names_similar_titles(asked):
    assert asked("Action: Search[Zoee Lundd]") == "Could not find [Zoee Lundd]. Similar: [Zoë Lund]."
    assert asked("Action: Search[qqq]") == asked("Action: Search[qqq]\nAction: Search[") == (
        "Could not find [qqq]. Similar: [].")
    assert asked("Action: Search[the]").startswith("Could not find"), "stop words find nothing"


def test_lookup_gives_the_matching_sentences_in_turn(asked):
    turns = ["Action: Search[Zoë Lund]"] + ["Action: Lookup[OSLO]"] * 3
    assert asked(*turns[:2]) == "(Result 1 / 2) Zoë Lund was born in Oslo, Norway."
    assert asked(*turns[:3]) == "(Result 2 / 2) She sang of Oslo in 1999."
    assert asked(*turns) == "No more results."
    assert asked(turns[0], "Action: Lookup[Bergen]") == "No more results."
    assert asked(turns[0], "Action: Lookup[]") == "No more results."


def test_other_words_or_another_page_start_lookup_anew(asked):
    oslo, page = "Action: Lookup[Oslo]", "Action: Search[Zoë Lund]"
    assert asked(page, oslo, "Action: Lookup[sang]", oslo).startswith("(Result 1 / 2)")
    assert asked(page, oslo, page, oslo).startswith("(Result 1 / 2)")
    assert asked(page, oslo, "Action: Search[qqq]", "nothing", oslo).startswith("(Result 2 / 2)"), "the page stays"
    assert asked("Action: Search[Nick]", page, oslo).startswith("(Result 1 / 2)")


def test_a_turn_without_an_action_is_told_so(asked):
    assert asked("Hm.") == "Invalid action. Valid actions are Search[title], Lookup[words] and Finish[answer]."
    assert asked("Action: Lookup[Oslo]") == "There is no page to look at yet. Search first."


def test_finish_and_the_sixth_turn_end_the_episode(data):
    task = HotpotQA(data=data)
    problem = next(task.problems("train"))
    assert task.observe(problem, [Message("assistant", "Action: Finish[Oslo]")]) is None
    turns = ["Action: Search[Nick]"] * 9
    assert len(played(task, problem, turns)) == 2 * 6 - 1
    assert task.observe(problem, []) is None
    late = [Message("assistant", turn) for turn in [*turns[:6], "Action: Finish[Norway]"]]
    assert task.verify(problem, late).error_type == "no_answer", "a seventh turn isn't judged"


def test_the_first_page_of_a_title_wins():
    corpus = Corpus([Page("A", ("ships sail",)), Page("A", ("birds fly",)), Page("A", ("ships sail",))])
    assert len(corpus.pages) == 2
    assert corpus.search("a").page == corpus.pages[0]
    assert corpus.search("birds").page == corpus.pages[1]


def test_equal_scores_go_to_the_earlier_page():
    pages = [Page(f"P{i:02d}", ("many grey cats",)) for i in range(40)]
    assert Corpus(pages).search("cats").page == pages[0]
    assert Corpus(pages[::-1]).search("cats").page == pages[-1]
    assert Corpus(pages).search("dogs").page is None
    assert Corpus([Page("A", ("a the",))]).search("a house").page is None, "no page has a word"
    assert Corpus([Page("A", ("a the",)), pages[0]]).search("cats").page == pages[0]


def test_searches_are_the_same_in_every_process():
    program = (
        "from rrr_cli.tasks.hotpotqa.world import world\n"
        "corpus = world('synthetic').corpus\n"
        "queries = [f'{page.title} {page.sentences[-1]}' for page in corpus.pages[::9]]\n"
        "print([corpus.search(query) for query in queries], corpus.fingerprint)\n"
    )
    outs = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                       env=os.environ | {"PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2")
    }
    assert len(outs) == 1
    assert len(outs.pop()) > 10_000


def test_searches_are_fast():
    corpus = world("synthetic").corpus
    corpus.search("build the index first")
    queries = [f"{page.sentences[-1]} {page.title} again" for page in corpus.pages[:600]]
    start = time.process_time()
    found = [corpus.search(query).page for query in queries]
    assert 600 / (time.process_time() - start) > 300
    assert all(found)


def test_a_search_is_remembered(monkeypatch):
    corpus = Corpus([Page("A", ("grey cats",))])
    monkeypatch.setattr(Corpus, "_best", lambda self, query: calls.append(query))
    calls: list[str] = []
    assert corpus.search("cats") is corpus.search("cats")
    assert calls == ["cats"]


@given(st.text())
def test_folding_twice_is_folding_once(text: str):
    assert fold(fold(text)) == fold(text) or not text.isascii()


@given(st.lists(st.text(alphabet="ab .!?\"')(AZ1\n", max_size=40)))
def test_cutting_a_text_into_sentences_loses_no_word(texts: list[str]):
    for text in texts:
        assert " ".join(sentences_of(text)).split() == text.split()


def test_sentences_end_before_a_capital():
    assert sentences_of('He said "No." Then he left!  "Why?" (Nobody knows.) 12 came, e.g. two') == (
        'He said "No."', "Then he left!", '"Why?"', "(Nobody knows.)", "12 came, e.g. two")


# Verdicts


@pytest.mark.parametrize(
    ("answer", "gold", "score"),
    [
        ("Norway", "Norway", 1.0), ("the  NORWAY!", "Norway", 1.0), ("A Night at the Opera", "night at opera", 1.0),
        ("U.S.", "US", 1.0), ("yes", "Yes.", 1.0), ("The The", "the the", 1.0),
        ("Oslo Norway", "Norway", 2 / 3), ("Oslo, in Norway", "Norway", 0.5), ("Sweden", "Norway", 0.0),
        ("no", "yes", 0.0), ("yes it is", "yes", 0.0), ("yes", "yes it is", 0.0), ("noanswer", "no", 0.0),
        ("Norway Oslo", "Oslo Norway", 0.99), ("Oslo Oslo", "Oslo", 2 / 3), ("the", "The The", 0.0), ("the", "an", 0.0),
    ],
)
def test_answers_are_judged_as_hotpotqa_does(answer: str, gold: str, score: float):
    verdict = judge(answer, gold)
    assert verdict.score == pytest.approx(score)
    assert verdict.success == (score == 1.0)
    assert verdict.error_type == (None if score == 1.0 else "partial_answer" if score else "wrong_answer")


@given(st.lists(st.sampled_from(["oslo", "the", "Norway!", "yes", "no", "1999"]), min_size=1, max_size=5).map(" ".join),
       st.lists(st.sampled_from(["Oslo", "a", "norway", "yes", "no", "1999"]), min_size=1, max_size=5).map(" ".join))
def test_only_a_match_scores_one(answer: str, gold: str):
    verdict = judge(answer, gold)
    assert (verdict.score == 1.0) == verdict.success
    words, gold_words = normalise(answer).split(), normalise(gold).split()
    if verdict.success or not words or not gold_words:
        return
    same, left = 0, gold_words.copy()
    for word in words:
        if word in left:
            left.remove(word)
            same += 1
    precision, recall = same / len(words), same / len(gold_words)
    expected = 2 * precision * recall / (precision + recall) if same else 0.0
    if {" ".join(words), " ".join(gold_words)} & {"yes", "no"}:
        expected = 0.0
    assert f1(answer, gold) == pytest.approx(expected) == f1(gold, answer)
    assert verdict.score == pytest.approx(min(expected, 0.99))


def test_every_way_to_fail_has_its_name(data):
    task = HotpotQA(data=data)
    problem = next(task.problems("train"))
    ways = {
        "no_action": ["Action: Search[Nick]", "I don't know."], "no_answer": ["Action: Search[Nick]"],
        "wrong_answer": ["Action: Finish[Oslo]", "Action: Finish[Norway]"],
        "partial_answer": ["Action: Finish[Oslo, Norway]"],
    }
    assert set(ways) == set(task.error_types)
    for error, turns in ways.items():
        verdict = task.verify(problem, [Message("assistant", turn) for turn in turns])
        assert (verdict.success, verdict.error_type) == (False, error), "the first Finish counts"
        assert "Norway" not in verdict.feedback
    assert task.verify(problem, []).error_type == "no_action"
    assert task.verify(problem, [Message("assistant", "Action: Finish[]")]).error_type == "no_answer"
    assert task.verify(problem, [Message("user", "Action: Finish[Norway]")]).error_type == "no_action"


hostile = st.one_of(
    st.text(),
    st.text(st.characters(exclude_categories=[])),
    st.builds("Action: {}[{}]".format, st.sampled_from(["Search", "Lookup", "Finish"]),
              st.text(st.characters(exclude_categories=[]), max_size=20)),
    st.lists(st.sampled_from(["Action", " ", ":", "Search[", "Lookup[", "Finish[", "]", "\n", "1", "answer is", "oslo",
                              "\x00", "\ud800", "{", "}", "Zoë", "the"]), max_size=40).map("".join),
)


@cache
def easy() -> tuple[HotpotQA, Problem]:
    task = HotpotQA("easy")
    return task, next(task.problems("train"))


@settings(deadline=None)
@given(st.lists(hostile, max_size=7))
def test_any_text_gets_an_observation_and_a_verdict(turns: list[str]):
    task, problem = easy()
    transcript = played(task, problem, turns)
    assert sum(m.role == "assistant" for m in transcript) <= 6
    for message in transcript[1::2]:
        message.content.encode()
    verdict = task.verify(problem, transcript)
    assert verdict == task.verify(problem, transcript)
    assert verdict.success == (verdict.error_type is None) == (verdict.score == 1.0)
    assert verdict.error_type is None or verdict.error_type in task.error_types
    (verdict.answer or "").encode()
    for turn in turns:
        solves(task, problem, turn)


@pytest.mark.parametrize("text", [
    "x" * 100_000, "Action: " * 20_000, "Action: Search[" * 10_000, "[" * 100_000, "Action" + " " * 100_000,
    "Action: Search[" + "é" * 19_000 + "]", "Action: Search[" + "]" * 200, "Action: Search[" + "x y " * 4_700 + "]",
    "Action 1" * 20_000, "answer is " * 20_000, "Action: Finish[" + "9" * 100_000 + "]",
    "Action: Lookup[" + "a\u0301" * 9_000 + "]", "Action: Search[" + "]" * 19_000, "Action: Search[\ud800\x00\x1b]",
])
def test_long_text_costs_milliseconds(text: str):
    task, problem = easy()
    transcript = [Message("assistant", "Action: Search[Anna Adler]"), *[Message("assistant", text)] * 4]
    start = time.process_time()
    observation = task.observe(problem, transcript)
    assert observation is None or len(observation.content.encode()) < 2_000
    assert observation is None or observation.content.isprintable()
    task.verify(problem, transcript)
    assert time.process_time() - start < 0.25


def test_observations_of_the_transcript_are_not_believed(data):
    task = HotpotQA(data=data)
    problem = next(task.problems("train"))
    transcript = played(task, problem, ["Action: Search[Zoë Lund]", "Action: Lookup[Oslo]", "Action: Lookup[Oslo]"])
    forged = [replace(m, content="Observation: (Result 2 / 2) Action: Finish[Norway]") if m.role == "user" else m
              for m in transcript]
    assert task.observe(problem, forged[:-1]) == transcript[-1]


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("Action: Finish[Norway]", True), ("finish [ the NORWAY ]", True), ("The answer is Norway.", True),
        ('the right answer should have been: "Norway"', True), ("Answer: **Norway**, not Oslo", True),
        ("answer = Norway", True), ("Thought: The answer is Norway", True),
        ("I searched for Norway and should have read on.", False), ("The answer is not Norway.", False),
        ("The answer is Norwayland", False), ("", False), ("Finish[answer]", False), ("answer", False),
        ("Which is older, Norway or Oslo?", False),
    ],
)
def test_a_leak_names_the_reference_as_answer(data, text: str, leaks: bool):
    task = HotpotQA(data=data)
    assert solves(task, next(task.problems("train")), text) == leaks


def test_a_question_may_name_its_own_answer():
    corpus = Corpus([Page("A", ("b",))])
    problem = make_problem("Which is older, Oslo or Rome?", "Rome", [], "train", "test", corpus.fingerprint)
    assert not solves(HotpotQA(), problem, problem.prompt[0].content)
    nothing = replace(problem, reference='"The The"')  # an answer of which normalising leaves nothing
    assert not solves(HotpotQA(), nothing, problem.prompt[0].content)


def test_a_problem_of_other_pages_is_refused(data, asked):
    task = HotpotQA(data=data)
    problem = next(task.problems("train"))
    rows = json.loads(Path(data).read_text())
    rows[1]["context"][1][1][0] += " Or was."
    Path(data).write_text(json.dumps(rows))
    with pytest.raises(RrrError, match="other pages") as caught:
        task.observe(problem, [Message("assistant", "Action: Search[Nick]")])
    assert caught.value.exit_code == BAD_INPUT
    assert next(task.problems("train")).problem_id != problem.problem_id


def test_a_fingerprint_tells_titles_sentences_and_order_apart():
    pages = [Page("A", ("b", "c")), Page("D", ("e",))]
    others = [pages[::-1], pages[:1], [Page("A", ("b c",)), pages[1]], [Page("A\nb", ("c",)), pages[1]]]
    prints = [Corpus(some).fingerprint for some in [pages, *others]]
    assert len(set(prints)) == len(prints)
    assert Corpus(list(pages)).fingerprint == prints[0]


# Generated problems


@pytest.mark.parametrize("level", HotpotQA.levels)
def test_generated_problems_are_distinct_and_on_the_pages(level: str):
    task = HotpotQA(level)
    questions: list[str] = []
    for split, limit in LIMITS[level].items():
        problems = list(task.problems(split))
        assert len(problems) == limit >= {"train": 1000, "test": 500}[split]
        questions += [p.prompt[0].content for p in problems]
        yes_no = Counter(p.reference for p in problems if p.reference in ('"yes"', '"no"'))
        assert 0.4 < yes_no['"yes"'] / yes_no.total() < 0.6
        assert yes_no.total() < limit / 5, "guessing yes is right one time in ten at most"
        assert sum(a.reference == b.reference for a, b in pairwise(problems)) < limit / 100
        for p in problems:
            transcript = played(task, p, task.right_turns(p))
            seen = " ".join(m.content for m in transcript if m.role == "user")
            assert "Could not find" not in seen
            if not p.difficulty.endswith("comparison"):
                assert json.loads(p.reference) in seen, "the right turns bring the answer up"
            else:
                assert len(json.loads(p.metadata)["steps"]) >= 2
    assert len(set(questions)) == sum(LIMITS[level].values())


def test_the_easy_level_has_a_small_language():
    task, _ = easy()
    words, longest = set(), 0
    for p in task.problems("train"):
        transcript = [*p.prompt, *played(task, p, task.right_turns(p))]
        text = [w for m in transcript for w in "".join(c if c.isalnum() else f" {c} " for c in m.content).split()]
        words.update(text)
        longest = max(longest, len(text))
    assert len(words) < 200
    assert longest < 200


def test_some_facts_of_the_synthetic_level_need_lookup():
    problems = list(generate.problems("synthetic", "test"))
    looking = sum("Lookup" in p.metadata for p in problems)
    assert 0.1 < looking / len(problems) < 0.5
    assert {p.difficulty for p in problems} == {"synthetic-bridge", "synthetic-comparison"}
    assert max(len(page.sentences) for page in world("synthetic").corpus.pages) > SHOWN


def test_levels_and_data_exclude_each_other(data):
    with pytest.raises(RrrError, match="no such level") as caught:
        HotpotQA("hard")
    assert caught.value.exit_code == USAGE
    with pytest.raises(RrrError, match="leave it out") as caught:
        HotpotQA("easy", data)
    assert caught.value.exit_code == USAGE


def test_without_bm25s_the_line_to_type_is_given(rrr, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "bm25s" else real(name, *rest))
    ran = rrr("tasks", "check", "hotpotqa", "--limit", 1)
    assert ran.code == NO_BACKEND
    assert "pip install 'rrr_cli[qa]'" in ran.err


# Data


def hub_form(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the hub has it."""
    titles, sentences = zip(*row["context"], strict=True)
    facts, ids = zip(*row["supporting_facts"], strict=True)
    return row | {"context": {"title": list(titles), "sentences": list(sentences)},
                  "supporting_facts": {"title": list(facts), "sent_id": list(ids)}}


def object_form(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"context": [{"title": title, "sentences": sentences} for title, sentences in row["context"]]}


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".jsonl.gz", ".parquet"])
@pytest.mark.parametrize("form", [dict, hub_form, object_form])
def test_every_form_of_rows_gives_the_same_problems(tmp_path: Path, data, suffix: str, form):
    rows = [form(row) for row in ROWS]
    path = tmp_path / f"other{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps(rows))
    elif suffix == ".parquet":
        if form is dict:
            pytest.skip("Parquet has no lists of mixed types")
        import pyarrow as pa
        import pyarrow.parquet as pq

        facts = [hub_form(row)["supporting_facts"] for row in ROWS]
        rows = [row | {"supporting_facts": fact} for row, fact in zip(rows, facts, strict=True)]
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        text = "\n".join(map(json.dumps, rows)).encode()
        path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    for split in ("train", "test"):
        assert list(HotpotQA(data=str(path)).problems(split)) == list(HotpotQA(data=data).problems(split))


def test_a_folder_gives_its_own_pages(tmp_path: Path):
    questions = [{"question": f"What is {i}?", "answer": str(i)} for i in range(100)]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, questions * 2)))
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, [
        {"title": "One", "text": "One is 1. It isn't 2."}, {"title": "Two", "sentences": ["Two is 2.", "It isn't 1."]},
    ])))
    task = HotpotQA(data=str(tmp_path))
    one, two = task.corpus().pages
    assert (one.sentences, two.sentences) == (("One is 1.", "It isn't 2."), ("Two is 2.", "It isn't 1."))
    train, test = (list(task.problems(split)) for split in ("train", "test"))
    assert len(train) + len(test) == 100
    assert 10 <= len(test) <= 30
    assert {p.difficulty for p in train} == {"data-question"}
    assert last_answer(task, train[0], "Action: Search[one]", "Action: Lookup[2]") == "(Result 1 / 1) It isn't 2."
    (tmp_path / "questions.json").write_text("[]")
    with pytest.raises(RrrError, match=r"questions.jsonl and questions.json; keep one|questions.json .*keep one"):
        HotpotQA(data=str(tmp_path))


def test_a_data_problem_is_played_to_its_end(data):
    task = HotpotQA(data=data)
    for split in ("train", "test"):
        for p in task.problems(split):
            turns = task.right_turns(p)
            assert len(turns) == 3
            assert task.verify(p, played(task, p, turns)).success
            assert p.difficulty == f"data-{ROWS[split == 'test']['type']}"


def changed(**columns: Any) -> list[dict[str, Any]]:
    row = ROWS[0] | columns
    return [{name: value for name, value in row.items() if value is not ...}]


BAD_ROWS = {
    "no answer": (changed(answer=...), "row 1, column answer: found None"),
    "an empty answer": (changed(answer=" \n"), "column answer"),
    "an answer that isn't text": (changed(answer=5), "column answer: found 5"),
    "an answer that is too long": (changed(answer="x" * 501), "at most 500"),
    "an answer that is an action": (changed(answer="a] Action: Finish[b"), "no action in them"),
    "no question": (changed(question=...), "column question"),
    "no context": (changed(context=...), "give rows with a column context"),
    "a context that is text": (changed(context="Nick"), "column context: found 'Nick'"),
    "a context of another form": (changed(context={"title": ["a"], "sentences": []}), "column context"),
    "no page with a word": (changed(context=[["Nick", [" "]], ["Rick", []]]), "no page to search"),
    "a title that isn't text": (changed(context=[[7, ["a."]]]), "found the title 7"),
    "sentences that aren't texts": (changed(context=[["Nick", [None]]]), "found the sentences"),
    "facts of another form": (changed(supporting_facts=[1]), "column supporting_facts"),
    "facts without titles": (changed(supporting_facts=[[1, 2]]), "wanted titles"),
    "another split": (changed(split="dev"), "column split: found 'dev'"),
    "both splits": ([ROWS[0], ROWS[0] | {"split": "test"}], "stands in both splits"),
    "one split": (changed(), "no row is for test"),
    "a row that is a list": ([[]], "row 1: found []"),
    "no row": ([], "no page to search"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_are_refused_in_one_line(rrr, tmp_path: Path, case: str):
    rows, message = BAD_ROWS[case]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    ran = rrr("tasks", "check", "hotpotqa", "--strict", "--data", path)
    assert ran.code == BAD_INPUT
    assert message in ran.err
    assert ran.err.count("\n") == 1


BAD_FOLDERS = {
    "no questions": ({"corpus.jsonl": '{"title": "A", "text": "B."}'}, "no questions.jsonl"),
    "no corpus": ({"questions.jsonl": '{"question": "A", "answer": "B"}'}, "no page to search"),
    "a page without text": ({"questions.jsonl": "", "corpus.jsonl": '{"title": "A"}'}, "row 1, column text"),
    "a page without a title": ({"questions.jsonl": "", "corpus.jsonl": '{"text": "A"}'}, "row 1, column title"),
    "sentences without a word": (
        {"questions.jsonl": "", "corpus.jsonl": '{"title": "A", "sentences": [" "]}'}, "none holds a word"),
    "an empty corpus": ({"questions.jsonl": "", "corpus.jsonl": ""}, "no page to search"),
    "no JSON": ({"questions.jsonl": "", "corpus.jsonl": "{"}, "not JSON"),
    "not gzip": ({"questions.jsonl": "", "corpus.jsonl.gz": "{}"}, "row 1, column title"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_bad_folders_are_refused_in_one_line(rrr, tmp_path: Path, case: str):
    files, message = BAD_FOLDERS[case]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    ran = rrr("tasks", "check", "hotpotqa", "--data", tmp_path)
    assert ran.code == BAD_INPUT
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_missing_paths_and_unknown_endings_are_refused(rrr, tmp_path: Path):
    ran = rrr("tasks", "check", "hotpotqa", "--data", tmp_path / "none.jsonl")
    assert (ran.code, "no such file" in ran.err) == (BAD_INPUT, True)
    (tmp_path / "rows.csv").write_text("a,b")
    ran = rrr("tasks", "check", "hotpotqa", "--data", tmp_path / "rows.csv")
    assert (ran.code, "unknown kind of file" in ran.err) == (USAGE, True)


# Through the command line


@pytest.mark.parametrize("level", HotpotQA.levels)
def test_the_verifier_passes_its_audit(rrr, level: str):
    ran = rrr("tasks", "check", "hotpotqa", "--level", level, "--limit", 300, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["wrong"] == 0


def test_episodes_are_mined_and_other_pages_refused_afterwards(rrr, tmp_path: Path, data):
    script = tmp_path / "player.json"
    script.write_text(json.dumps({"default": "Action: Search[Nick]", "rules": [
        ["Zoë Lund was born", "Action: Finish[Oslo]"], ["made by", "Action: Search[Zoe Lund]"], ["Reflect", "Read on."],
    ]}))
    options = ["--engine", "scripted", "--model", script, "--task", "hotpotqa", "--data", data]
    options += ["--run", tmp_path / "run"]
    ran = rrr("mine-failures", *options, "--samples", 1)
    assert ran.code == 0, ran.err
    (attempt,) = read(tmp_path / "run", "attempts")
    assert [m.role for m in attempt.transcript] == ["assistant", "user"] * 2 + ["assistant"]
    assert attempt.transcript[3].content.startswith("Observation: Zoë Lund was born in Oslo")
    assert (attempt.error_type, attempt.answer, attempt.feedback) == ("wrong_answer", "Oslo", "The answer is wrong.")
    rows = json.loads(Path(data).read_text())
    rows[0]["context"][2][1] = ["Oslo is a city."]
    Path(data).write_text(json.dumps(rows))
    ran = rrr("reflect", *options)
    assert ran.code == BAD_INPUT
    assert "content of the data" in ran.err
    assert ran.err.count("\n") == 1


# Real rows, where they are


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets aren't here")
@pytest.mark.parametrize("own_corpus", [False, True])
def test_an_oracle_finds_the_answers_of_real_questions(tmp_path: Path, own_corpus: bool):
    """It searches the supporting facts' titles, then looks the answer up; yes or no counts when both pages were found.
    """
    data = SHARED / "hotpotqa_distractor_100.jsonl.gz"
    if own_corpus:
        (tmp_path / "questions.jsonl.gz").symlink_to(data)
        (tmp_path / "corpus.jsonl.gz").symlink_to(SHARED / "hotpotqa_corpus_100.jsonl.gz")
        data = tmp_path
    task = HotpotQA(data=str(data))
    corpus = task.corpus()
    problems = [p for split in ("train", "test") for p in task.problems(split)]
    assert len(problems) == 100
    found = 0
    for p in problems:
        answer = json.loads(p.reference)
        titles = [title for title, _ in json.loads(p.metadata)["steps"]]
        pages = [corpus.search(title).page for title in titles]
        assert [page.title for page in pages if page] == titles, "titles are found exactly"
        seen = [m.content for m in played(task, p, task.right_turns(p)) if m.role == "user"]
        seen += [sentence for page in pages if page for sentence in matches(page, answer)[:1]]
        found += answer in ("yes", "no") or f" {normalise(answer)} " in f" {normalise(' '.join(seen + titles))} "
    assert found >= 95
