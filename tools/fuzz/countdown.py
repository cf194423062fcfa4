"""Put random answers before the Countdown verifier and before a second one that was written apart; they must agree.

    python tools/fuzz/countdown.py --n 1000000 --seed 0

Prints how often each verdict came up. Exits with 1 at the first disagreement or uncaught error and shows the text.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from random import Random

from rrr_cli.tasks.countdown import Countdown
from rrr_cli.tasks.countdown.judge import judge

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tests"))
from countdown_oracle import oracle, random_case


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    for i in range(options.n):
        text, numbers, target = random_case(Random(f"{options.seed}/{i}"))
        verdict = judge(text, numbers, target)
        wanted = oracle(text, numbers, target)
        if verdict.error_type != wanted or verdict.success != (wanted is None):
            print(f"case {i}: {text!a} {numbers} {target}: {verdict.error_type}, the other says {wanted}")
            return 1
        counts[wanted or "right"] += 1
    never = {"right", *Countdown.error_types} - set(counts)
    print(f"{options.n} answers, 0 disagreements, 0 uncaught errors: {dict(counts.most_common())}")
    if never:
        print(f"never came up: {', '.join(sorted(never))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
