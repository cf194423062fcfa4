"""Flip single bits of a part at random: each flip must be found when the part is read, or change nothing that is read.

    python tools/torture/bitflips.py --flips 10000

Prints one JSON line: {"flips", "bytes", "detected", "identical", "silently_wrong"}. Exit code 1 where any is silently
wrong. Writes to a temporary folder only.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from rrr_cli.errors import RrrError
from rrr_cli.records import Reflection, content_id
from rrr_cli.store.artifacts import Writer, provenance, read


def reflection(index: int) -> Reflection:
    """A row with text that compresses about as text does."""
    words = random.Random(index)
    text = " ".join(words.choice(("the", "sum", "is", "7", "not", "12", "try", "times")) for _ in range(40))
    return Reflection(content_id(index), content_id("a", index), "p", "tiny", 0, text, 40, "stop", index, 1.0, False)


def content(run: Path) -> Any:
    """All that a reader is told of the table."""
    return list(read(run, "reflections")), provenance(run, "reflections")


def flip(flips: int, seed: int, rows: int = 200) -> dict[str, int]:
    """Flip `flips` random bits, one at a time, of a part with `rows` rows; count what became of them."""
    chance = random.Random(seed)
    counts = {"flips": flips, "bytes": 0, "detected": 0, "identical": 0, "silently_wrong": 0}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        with Writer(run, "reflections", "bitflips", {"rows": rows}) as writer:
            part = writer.append([reflection(i) for i in range(rows)])
        assert part is not None
        good, whole = content(run), part.read_bytes()
        counts["bytes"] = len(whole)
        for _ in range(flips):
            bit = chance.randrange(len(whole) * 8)
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            part.write_bytes(damaged)
            try:
                counts["identical" if content(run) == good else "silently_wrong"] += 1
            except RrrError:
                counts["detected"] += 1
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts = flip(options.flips, options.seed)
    print(json.dumps(counts))
    raise SystemExit(counts["silently_wrong"] > 0)


if __name__ == "__main__":
    main()
