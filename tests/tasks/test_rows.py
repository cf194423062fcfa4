"""The rows of a data set: read whatever form the file has, in bounded memory; what becomes of a bad one."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.tasks import load_task, reading
from rrr_cli.tasks.reading import rows_of
from rrr_cli.tasks.rows import bad_rows, files_in

ROWS = [{"nums": [7, n], "target": 7 + n, "split": "train"} for n in range(1, 6)]
LINES = "".join(f"{json.dumps(row)}\n" for row in ROWS)
LIST = json.dumps(ROWS)


def zst(content: bytes) -> bytes:
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def targets(path: Path) -> list[int]:
    return [json.loads(p.metadata)["target"] for p in load_task("countdown", data=str(path)).problems("train")]


FORMS = {
    "lines": ("a.jsonl", LINES.encode()),
    "lines called json": ("a.json", LINES.encode()),
    "a list": ("a.json", LIST.encode()),
    "a list called jsonl": ("a.jsonl", LIST.encode()),
    "a list over lines": ("a.json", json.dumps(ROWS, indent=2).encode()),
    "rows over lines": ("a.json", "\n".join(json.dumps(row, indent=2) for row in ROWS).encode()),
    "an object with data": ("a.json", json.dumps({"version": {"data": 1}, "data": ROWS, "n": 5}).encode()),
    "an object with data over lines": ("a.json", json.dumps({"n": 5, "data": ROWS}, indent=1).encode()),
    "a byte order mark": ("a.jsonl", b"\xef\xbb\xbf" + LINES.encode()),
    "a list with a byte order mark": ("a.json", b"\xef\xbb\xbf" + LIST.encode()),
    "UTF-16": ("a.jsonl", LINES.encode("utf-16")),
    "Windows' line ends": ("a.jsonl", LINES.replace("\n", "\r\n").encode()),
    "empty lines": ("a.jsonl", ("\n \n" + LINES.replace("\n", "\n\n\t\n") + "\r\n").encode()),
    "no last line end": ("a.jsonl", LINES.strip().encode()),
    "gzip": ("a.jsonl.gz", gzip.compress(LINES.encode())),
    "gzip of a list": ("a.json.gz", gzip.compress(LIST.encode())),
    "gzip, unpacked by a browser": ("a.jsonl.gz", LINES.encode()),
    "xz": ("a.jsonl.xz", lzma.compress(LINES.encode())),
    "zstd": ("a.json.zst", zst(LIST.encode())),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_read_in_any_form(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str):
    name, content = FORMS[form]
    (tmp_path / name).write_bytes(content)
    assert targets(tmp_path / name) == [8, 9, 10, 11, 12]
    assert capsys.readouterr().err == ""


def test_a_folder_is_its_files_in_order(tmp_path: Path):
    (tmp_path / "part-2.json").write_text(json.dumps(ROWS[3:]))
    (tmp_path / "part-1.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS[:3]))
    (tmp_path / "README.md").write_text("# Rows")
    (tmp_path / ".hidden.jsonl").write_text("{")
    assert targets(tmp_path) == [8, 9, 10, 11, 12]


def test_of_a_folder_with_parquet_the_rest_is_left(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for i, rows in enumerate((ROWS[:2], ROWS[2:])):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"train-{i}.parquet")
    (tmp_path / "dataset_infos.json").write_text("{}")
    assert [Path(name).name for name in files_in(tmp_path)] == ["train-0.parquet", "train-1.parquet"]
    assert targets(tmp_path) == [8, 9, 10, 11, 12]


def test_a_folder_without_rows_is_refused(tmp_path: Path):
    (tmp_path / "README.md").write_text("# Rows")
    with pytest.raises(RrrError, match=r"no file in it ends in \.parquet, \.jsonl") as caught:
        load_task("countdown", data=str(tmp_path))
    assert caught.value.exit_code == BAD_INPUT


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("a{[\"\\,]}", max_size=3), inner, max_size=3),
    max_leaves=6)
OBJECTS = st.lists(st.dictionaries(st.sampled_from(["a", "b\n", "}"]), VALUES, max_size=3), max_size=4)


@settings(max_examples=60)
@given(OBJECTS, st.sampled_from(["lines", "list", "indented", "data", "objects"]), st.integers(1, 9))
def test_where_the_window_ends_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], form: str, chunk: int,
):
    path = tmp_path_factory.mktemp("rows") / "rows.json"
    rows = [row for row in rows if row] if form == "objects" else rows  # {} is a row on a line of its own
    path.write_text({
        "lines": "\n".join(json.dumps(row) for row in rows), "list": json.dumps(rows, ensure_ascii=False),
        "indented": json.dumps(rows, indent=1), "data": json.dumps({"data": rows}),
        "objects": "\n".join(json.dumps(row, indent=1) for row in rows),
    }[form], encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "CHUNK", chunk)
        read = list(rows_of(str(path), ("a",)))
    assert [row for _, row in read] == rows
    assert len({place for place, _ in read}) == len(rows)


# Bad rows ------------------------------------------------------------------------------------------------------------

BAD = {
    "cut": ('{"nums": [1, 2', "not JSON"),
    "not an object": ("[7]", "wanted an object"),
    "of another type": ('{"nums": "three", "target": 4}', "column nums"),
    "nested too deeply": ("[" * 100_000, "nested too deeply"),
    "a name twice": ('{"nums": [1, 2], "target": 3, "target": 4}', "a name stands twice"),
    "a lone surrogate": ('{"nums": [1, 2], "target": 3, "note": "\\ud83d"}', "lone surrogate"),
    "a long number": ('{"nums": [1, 2], "target": ' + "1" * 5000 + "}", "not JSON"),
    "infinite": ('{"nums": [1, Infinity], "target": 3}', "column nums"),
    "steering": ('{"nums": "\\u001b]0;x\\u0007", "target": 3}', "column nums"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_named_once_and_passed_over(rrr, tmp_path: Path, case: str):
    line, why = BAD[case]
    path = tmp_path / "rows.jsonl"
    rows = [*ROWS, {"nums": [2, 3], "target": 6, "split": "test"}]
    path.write_text("\n".join([json.dumps(rows[0]), line, *map(json.dumps, rows[1:])]))
    ran = rrr("tasks", "check", "countdown", "--data", path, "--json")
    assert (ran.code, json.loads(ran.out)["problems"]) == (0, 6)
    assert ran.err.count("\n") == 1, "both splits are read, and the row is named once"
    assert "1 row is bad and passed over" in ran.err
    assert f"{path}, row 2" in ran.err
    assert why in ran.err
    assert ran.err[:-1].isprintable()


def test_broken_utf8_and_nan(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    missing = b'{"nums": [7, 1], "target": 8, "split": "train", "solution": NaN}\n'
    path.write_bytes(missing + b'{"nums": [7, 2], "note": "\xff"}\n' + json.dumps(ROWS[2]).encode())
    assert targets(path) == [8, 10]


def test_a_list_is_read_on_behind_a_bad_row(tmp_path: Path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([ROWS[0], 5, *ROWS[1:]]).replace("5,", '{"a": 1, "a": 2},', 1))
    assert targets(path) == [8, 9, 10, 11, 12]


def with_bad(tmp_path: Path, good: int, bad: list[str]) -> Path:
    path = tmp_path / "rows.jsonl"
    rows = [json.dumps({"nums": [1, n], "target": n + 1, "split": "train"}) for n in range(1, good + 1)]
    path.write_text("\n".join(rows + bad))
    return path


def test_more_than_a_twentieth_bad_ends_with_a_count_by_kind(tmp_path: Path):
    bad = ['{"nums": 1}', "{", '{"nums": [1, 2]}', '{"nums": 2}']
    assert len(targets(with_bad(tmp_path, 76, bad))) == 76, "4 of 80"
    said = r"4 of 79 rows are bad, more than 5% \(2 × column nums, 1 × not JSON, 1 × column target\); .*row 76,"
    with pytest.raises(RrrError, match=said) as caught:
        targets(with_bad(tmp_path, 75, bad))
    assert caught.value.exit_code == BAD_INPUT
    assert len(targets(with_bad(tmp_path, 2, bad[:1]))) == 2, "one bad row never ends a small file"


def test_no_good_row_is_an_error_in_one_line(rrr, tmp_path: Path):
    ran = rrr("mine-failures", "--data", with_bad(tmp_path, 0, ["1", "2"]), "--run", tmp_path / "run")
    assert (ran.code, ran.err.count("\n")) == (BAD_INPUT, 1)
    assert "2 of 2 rows are bad, not one can be used (2 × wanted an object with nums and target)" in ran.err


def test_strict_ends_at_the_first_bad_row(rrr, tmp_path: Path):
    path = with_bad(tmp_path, 3, ["{", '{"nums": 2}'])
    ran = rrr("mine-failures", "--data", path, "--strict", "--run", tmp_path / "run")
    assert (ran.code, ran.err.count("\n")) == (BAD_INPUT, 1)
    assert f"{path}, row 4: not JSON" in ran.err
    with bad_rows(strict=True), pytest.raises(RrrError, match="row 4"):
        targets(path)


# What has no end -----------------------------------------------------------------------------------------------------

LONG = reading.MAX_ROW + 2 * reading.CHUNK


@pytest.mark.parametrize(("name", "pack", "start", "number"), [
    ("a.jsonl.gz", gzip.compress, b'{"text": "', 1),
    ("a.json.gz", gzip.compress, b'[{"a": 1}, {"text": "', 2),
    ("a.json.xz", lzma.compress, b'{"data": [{"text": "', 1),
    ("a.jsonl.zst", zst, b"{}\n{}\n", 3),
])
def test_a_row_without_end_is_refused_by_its_number(tmp_path: Path, name: str, pack: Any, start: bytes, number: int):
    path = tmp_path / name
    path.write_bytes(pack(start + b"a" * LONG))
    with pytest.raises(RrrError, match=f"row {number}: longer than 16,777,216 characters"):
        list(rows_of(str(path), ("text",)))


def test_a_cell_of_parquet_without_end_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b" * 200_000]}), path, compression="zstd", row_group_size=1)
    monkeypatch.setattr(reading, "MAX_GROUP", 100_000)
    rows = rows_of(str(path), ("text",))
    assert next(rows)[1] == {"text": "a"}
    with pytest.raises(RrrError, match="rows from 2 on: found 200,"):
        next(rows)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.xz", "a.jsonl.zst"])
def test_a_cut_file_is_refused_in_one_line(tmp_path: Path, name: str):
    pack = {"gz": gzip.compress, "xz": lzma.compress, "zst": zst}[name.rpartition(".")[2]]
    content = pack("".join(f'{{"nums": [1, {n}], "target": {n * n}}}\n' for n in range(9999)).encode())
    path = tmp_path / name
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(RrrError, match="not readable") as caught:
        list(rows_of(str(path), ("nums",)))
    assert "\n" not in str(caught.value)
