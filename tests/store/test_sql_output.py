"""No cell of `rrr sql` steers a terminal, a spreadsheet or a page; and --raw gives the text as it is."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.records import Loss
from rrr_cli.store.artifacts import Writer
from rrr_cli.store.printing import CELL
from rrr_cli.store.sql import query
from rrr_cli.text import UNSAFE, one_line, safe_text

HIDDEN = "\x1b[31m \x07 \x9b \u202e \u2066 \u200b \u200d \ufeff \u2028 \U000e0041"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "any"
    loss = Loss("policy", 1, 0.5, None, 1e-3, 1.0, 0.1)
    with Writer(run, "losses", "self-train", {}) as writer:
        writer.append([loss])
    return run


def printed(run: Path, value: str, format: str, out: io.StringIO | None = None, name: str = "text", **more) -> str:
    out = out or io.StringIO()
    literal = value.replace("'", "''")
    query([run], f"""SELECT '{literal}' AS "{name}", -1 AS number""", format, out, **more)
    return out.getvalue()


@pytest.mark.parametrize("format", ["table", "csv", "jsonl", "markdown"])
def test_no_hidden_character_reaches_a_terminal(
    run: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")  # where a table's heading isn't bold
    shown = printed(run, f"a{HIDDEN}b", format, Terminal(), name=f"c{HIDDEN}d")
    assert not UNSAFE.search(shown), ascii(shown)
    assert "[31m" in shown


@pytest.mark.parametrize("text", ["=1+1", "+x", "-2-3", "@SUM(1)", " =1", "\t=1", "\x00=1", "\u200b=1", "＝1+1"])
def test_no_csv_cell_is_a_formula(run: Path, text: str) -> None:
    column, (cell, number) = csv.reader(io.StringIO(printed(run, text.replace("\x00", ""), "csv", name=text[-2:])))
    assert cell == "'" + text.replace("\x00", "")
    assert number == "-1"
    assert column[0] in (text[-2:], "'" + text[-2:])


@pytest.mark.parametrize("text", ["-5", "+1.5", "a=1", "x\n=1", "", HIDDEN])
def test_a_csv_file_keeps_other_text(run: Path, text: str) -> None:
    assert list(csv.reader(io.StringIO(printed(run, text, "csv"))))[1][0] == text


def test_raw_csv_is_the_text_itself(run: Path) -> None:
    text = f"=1{HIDDEN}"
    assert list(csv.reader(io.StringIO(printed(run, text, "csv", Terminal(), raw=True))))[1][0] == text
    with pytest.raises(RrrError, match="--raw is for --format csv") as error:
        printed(run, "a", "table", raw=True)
    assert error.value.exit_code == USAGE


def test_markdown_shows_html_and_links_as_text(run: Path) -> None:
    shown = printed(run, "<img src=x> ![a](http://b) | `c` &lt;\n# d", "markdown")
    assert "&lt;img src=x&gt; ![a]\\(http://b) \\| \\`c\\` &amp;lt;<br># d" in shown


def test_a_table_of_one_row_shows_it_whole(run: Path) -> None:
    long = "x" * (CELL + 50)
    assert long in printed(run, long, "table")
    out = io.StringIO()
    query([run], f"SELECT '{long}' AS text FROM range(2)", "table", out)
    assert long not in out.getvalue()
    assert "x" * (CELL - 1) + "…" in out.getvalue()


def test_hidden_characters_are_left_out_or_escaped() -> None:
    assert safe_text(f"é\ta{HIDDEN}\n") == "é\ta[31m" + " " * 9 + "\n"
    assert one_line("a\nb\x1b[31m\u202e") == "a b\\x1b[31m\\u202e"


def test_nanoseconds_are_shown(run: Path) -> None:
    out = io.StringIO()
    query([run], "SELECT timestamp_ns '2024-01-01 00:00:00.123456789' AS t", "csv", out)
    assert out.getvalue() == "t\n2024-01-01 00:00:00.123456789\n"
