"""`python -m rrr_cli`, the form that `torchrun -m rrr_cli grpo …` needs."""

from rrr_cli.cli import main

if __name__ == "__main__":
    main()
