"""Damage a part, and the files of a finished model, at random: a bit is flipped or the end cut off. Each damage must be
detected when the part is read or the model loaded, or change nothing that is read.

    python tools/torture/bitflips.py --flips 10000

Prints two JSON lines, of the part and of the model: {"flips", "bytes", "detected", "identical", "silently_wrong"}. Exit
code 1 where any is silently wrong. Writes to a temporary folder only.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rrr_cli.engines.fingerprints import check_finished, sealed
from rrr_cli.engines.fingerprints import provenance as trained
from rrr_cli.engines.models import resolve
from rrr_cli.errors import RrrError
from rrr_cli.records import Reflection, content_id
from rrr_cli.store.artifacts import Writer, provenance, read


def reflection(index: int) -> Reflection:
    """A row with text that compresses about as text does."""
    words = random.Random(index)
    text = " ".join(words.choice(("the", "sum", "is", "7", "not", "12", "try", "times")) for _ in range(40))
    return Reflection(content_id(index), content_id("a", index), "p", "tiny", 0, text, 40, "stop", index, 1.0)


def content(run: Path) -> Any:
    """All that a reader is told of the table."""
    return list(read(run, "reflections")), provenance(run, "reflections")


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """`whole` with one bit flipped, or, once in ten times, without its end."""
    if chance.random() < 0.1:
        return whole[: chance.randrange(len(whole))]
    bit = chance.randrange(len(whole) * 8)
    return whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :]


def torture(files: list[Path], read_back: Callable[[], Any], flips: int, chance: random.Random) -> dict[str, int]:
    """Damage one of `files` at a time, as often as its share of the bytes; count what `read_back` makes of it."""
    good, sizes = read_back(), [path.stat().st_size for path in files]
    counts = {"flips": flips, "bytes": sum(sizes), "detected": 0, "identical": 0, "silently_wrong": 0}
    for path in chance.choices(files, [min(size, 50_000) for size in sizes], k=flips):
        whole = path.read_bytes()
        path.write_bytes(damaged(whole, chance))
        try:
            counts["identical" if read_back() == good else "silently_wrong"] += 1
        except RrrError:
            counts["detected"] += 1
        path.write_bytes(whole)
    return counts


def of_a_part(flips: int, seed: int, rows: int = 200) -> dict[str, int]:
    """A part with `rows` rows."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        with Writer(run, "reflections", "bitflips", {"rows": rows}) as writer:
            part = writer.append([reflection(i) for i in range(rows)])
        assert part is not None
        return torture([part], lambda: content(run), flips, random.Random(seed))


def of_a_model(flips: int, seed: int) -> dict[str, int]:
    """A finished model: the embedded one's files, with the hashes that a training writes beside them."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(shutil.copytree(resolve("tiny").path, Path(folder) / "model"))
        (model / "rrr.json").write_text(json.dumps(sealed(model, {"command": "self-train", "feedback": "binary"})))

        def loaded() -> Any:
            check_finished(model)
            return trained(model)

        return torture(sorted(model.iterdir()), loaded, flips, random.Random(seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts = [of(options.flips, options.seed) for of in (of_a_part, of_a_model)]
    print("\n".join(map(json.dumps, counts)))
    raise SystemExit(any(c["silently_wrong"] for c in counts))


if __name__ == "__main__":
    main()
