"""A column `split` means the same in the data of every task: train, test, or null for a row that doesn't say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.records import Message
from rrr_cli.tasks import load_task
from rrr_cli.tasks.rows import bad_rows
from rrr_cli.tasks.splits import last_reply, split_of

ROWS: dict[str, dict[str, Any]] = {
    "countdown": {"nums": [3, 7, 8], "target": 29},
    "function_calling": {
        "query": "Rain in Rome?", "answers": [{"name": "rain", "arguments": {"city": "Rome"}}],
        "tools": [{"name": "rain", "description": "Rain", "parameters": {"city": {"type": "str"}}}],
    },
    "mbpp": {"text": "Double x.", "code": "def f(x): return 2 * x", "test_list": ["assert f(1) == 2"]},
    "hotpotqa": {"question": "Where was Nick born?", "answer": "Oslo", "context": [["Nick", ["Nick is from Oslo."]]]},
    "household": {
        "goal": {"kind": "place", "object": "spoon", "target": "drawer"},
        "receptacles": [{"name": "drawer 1", "openable": True, "contents": []},
                        {"name": "shelf 1", "openable": False, "contents": ["spoon 1"]}],
    },
    "layout": {"prompt": "two dogs", "skill": "count", "objects": ["dog", "dog"]},
}


@pytest.fixture(params=ROWS)
def of_split(request: pytest.FixtureRequest, tmp_path: Path):
    """How many problems each split has when a task's row says `split`, or nothing."""
    if request.param == "hotpotqa":
        pytest.importorskip("bm25s")

    def counts(*split: object) -> dict[str, int]:
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps(ROWS[request.param] | dict(zip(("split",), split, strict=False))))
        counted = {}
        for name in ("train", "test"):
            try:
                counted[name] = len(list(load_task(request.param, data=str(path)).problems(name)))
            except RrrError as error:
                if f"is for {name}" not in str(error):
                    raise
                counted[name] = 0
        return counted

    return counts


def test_the_column_decides(of_split):
    assert of_split("train") == {"train": 1, "test": 0}
    assert of_split("test") == {"train": 0, "test": 1}


def test_null_is_not_given(of_split):
    assert of_split(None) == of_split()
    assert sum(of_split().values()) == 1


@pytest.mark.parametrize("split", ["dev", "", 1, ["train"], True])
def test_another_split_is_refused_in_the_same_words(of_split, split: object):
    with pytest.raises(RrrError, match=r"row 1, column split: found .*, wanted train or test$") as caught:
        of_split(split)
    assert caught.value.exit_code == BAD_INPUT


def test_one_row_in_both_splits_is_refused(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(ROWS["layout"] | {"split": split}) for split in ("train", "test")))
    with bad_rows(strict=True), pytest.raises(RrrError, match=r"row 2, column split: .* in both splits"):
        list(load_task("layout", data=str(path)).problems("train"))


def test_a_smaller_share_lies_within_a_larger_one():
    keys = [f"{i * 2**56:016x}" for i in range(256)]
    small, large = ({k for k in keys if split_of(k, share) == "test"} for share in (1 / 30, 0.23))
    assert small < large
    assert len(large) == 59


def test_the_last_reply_is_the_models():
    turns = [Message("assistant", "one"), Message("user", "two")]
    assert last_reply(turns) == "one"
    assert last_reply(turns[1:]) == ""
