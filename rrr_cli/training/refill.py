"""Groups without a gradient, of the whole step: which they are, and others in their place (`rrr grpo --refill`).

DAPO's dynamic sampling (arXiv 2503.14476, section 3.2) with a bound: in each of at most N rounds every dead group is
sampled anew on a failure that the step hasn't seen. Which failures those are depends on the run's seed and the step
alone, so neither resuming nor the number of processes changes them. Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from accelerate.utils import gather_object

from rrr_cli.records import content_id
from rrr_cli.training.samples import Sample, by_group, is_dead

#: The failure (its index) of each group that is to be written -> this process's samples of those groups, in order.
Write = Callable[[dict[int, int]], list[Sample]]


def dead_groups(samples: list[Sample]) -> list[int]:
    """Numbers of the dead groups of all processes, of which `samples` are this one's; the same list in each."""
    return sorted(number for number, group in by_group(gather_object(samples)).items() if is_dead(group))


def spare(failures: int, used: Iterable[int], seed: int, step: int) -> list[int]:
    """The failures (their indices) that the step doesn't use, in the order in which they may replace others."""
    order = list(range(failures))
    Random(content_id("grpo refill", seed, step)).shuffle(order)
    taken = set(used)
    return [index for index in order if index not in taken]


def refilled(
    samples: list[Sample], rounds: int, spares: list[int], write: Write, weigh: Callable[[list[Sample]], list[Sample]]
) -> tuple[list[Sample], list[Sample]]:
    """This process's samples after at most `rounds` rounds, and those that were replaced. All of one size.

    `weigh` gives samples the objective's own advantages. Every process calls both equally often.
    """
    samples, replaced, waiting = weigh(samples), [], iter(spares)
    for _ in range(rounds):
        fresh = dict(zip(dead_groups(samples), waiting, strict=False))
        if not fresh:
            break
        written = iter(write(fresh))
        replaced += [sample for sample in samples if sample.group in fresh]
        samples = weigh([next(written) if sample.group in fresh else sample for sample in samples])
    return samples, replaced
