"""The process that is one command: `rrr`, and `python -m rrr_cli`, the form that `torchrun -m rrr_cli grpo …` needs."""

import sys

from rrr_cli.cli import main


def start() -> None:
    """Run the command line; with --dry-run the whole process does without torch."""
    if "--dry-run" in sys.argv[1:]:
        from rrr_cli.engines.libraries import plan_only

        plan_only()
    main()


if __name__ == "__main__":
    start()
