"""How much memory and time it takes to write, resume and query many attempts of about 1 kB of text each.

    python tools/bench/artifacts.py --rows 3000000 --folder runs/bench

Each phase is a process of its own, so that its peak memory is its own. Prints a JSON line a phase: {"phase", "rows",
"seconds", "peak_rss_mib"}; for the query phase the peak is that of the larger of the two processes, ours and DuckDB's.
The folder needs about 0.6 GB a million rows, and is left there. Ends with exit 1 where a phase takes more than --most
MiB.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

from rrr_cli.records import Attempt, Message, content_id
from rrr_cli.store.artifacts import Writer, read
from rrr_cli.store.sql import query

ROWS_PER_PART = 1024
QUERY = "SELECT difficulty, count(*) AS n, avg(success::INT) AS rate, max(length(transcript[-1].content)) AS longest " \
    "FROM attempts GROUP BY ALL ORDER BY ALL"


def attempt(index: int) -> Attempt:
    """An attempt at problem index // 64 with some 1,000 characters of text, half of it digits."""
    chance = random.Random(index)
    verbs = ("then add", "then subtract", "then times")
    text = "".join(f"{chance.getrandbits(32):010d} {chance.choice(verbs)} " for _ in range(44))
    success = index % 3 == 0
    return Attempt(
        content_id(index), content_id("p", index // 64), "countdown", "train", f"level-{index % 5}", "tiny", "first",
        index % 64, [Message("assistant", text)], success, float(success), None if success else "wrong_value",
        "It equals 12, not 24.", "3 * 4", 60, 250, "stop", index, 1.0, None, None, None,
    )


def phase(name: str, rows: int, folder: Path, most: int | None) -> None:
    """Run one phase and print its line."""
    start = time.perf_counter()
    if name in ("write", "resume"):
        with Writer(folder, "attempts", "bench", {"rows": rows}, overwrite=name == "write") as writer:
            if name == "resume":
                assert len(writer.done("problem_id")) == -(-rows // 64)
            else:
                for begin in range(0, rows, ROWS_PER_PART):
                    writer.append([attempt(i) for i in range(begin, min(begin + ROWS_PER_PART, rows))])
    elif name == "read":
        assert sum(1 for _ in read(folder, "attempts")) == rows
    else:
        query([folder], QUERY, "jsonl", sys.stderr)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = round(time.perf_counter() - start, 1)
    print(json.dumps({"phase": name, "rows": rows, "seconds": seconds, "peak_rss_mib": round(peak / 1024)}), flush=True)
    if most and peak / 1024 > most:
        sys.exit(f"{name} took {peak / 1024:.0f} MiB, more than {most}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench"))
    parser.add_argument("--most", type=int, help="MiB of memory that no phase may exceed")
    parser.add_argument("--phase", choices=("write", "resume", "read", "query"))
    options = parser.parse_args()
    if options.phase:
        phase(options.phase, options.rows, options.folder, options.most)
        return
    for name in ("write", "resume", "read", "query"):
        arguments = ["--rows", str(options.rows), "--folder", str(options.folder), "--phase", name]
        if options.most:
            arguments += ["--most", str(options.most)]
        if subprocess.run([sys.executable, __file__, *arguments]).returncode:
            sys.exit(1)


if __name__ == "__main__":
    main()
