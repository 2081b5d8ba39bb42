"""In which order examples are seen: shuffled anew in each epoch, every step from one bucket.

The order is a function of the seed, so that any batch of a run can be named without having gone through
those before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from .draws import random_of

NO_BUCKET = -1
"""The bucket of examples that are never seen, because their pictures cannot be opened."""


class Order:
    """Batches without end, each a list of ``(position, example)``.

    A position counts every example that the run has seen before; see ``draws``. Examples that do not
    fill a step wait for another epoch's shuffle; a bucket smaller than a step sees some of its examples
    twice in it.

    Args:
        buckets: the bucket of each example; examples in ``NO_BUCKET`` are left out.
        step_size: examples in a step, all from one bucket.
        seed: of the shuffling.
        parts: batches of equal size into which a step is split, one after the other.
        first: the step to begin with.

    Raises:
        ValueError: no example is in a bucket.
    """

    drop_last = False

    def __init__(self, buckets: Sequence[int], step_size: int, seed: int, parts: int = 1, first: int = 0):
        self.buckets: dict[int, list[int]] = {bucket: [] for bucket in sorted(set(buckets) - {NO_BUCKET})}
        if not self.buckets:
            raise ValueError(f"not one of {len(buckets)} pictures can be read; check data in the settings")
        for example, bucket in enumerate(buckets):
            if bucket != NO_BUCKET:
                self.buckets[bucket].append(example)
        self.step_size, self.batch_size, self.parts = step_size, step_size // parts, parts
        self.seed, self.first = seed, first
        self.per_epoch = sum(max(1, len(members) // step_size) for members in self.buckets.values())
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in count(self.first):
            for part in range(self.parts):
                yield self.batch(step, part)

    def __len__(self) -> int:
        """Batches in an epoch; the iterator goes on after them."""
        return self.per_epoch * self.parts

    def batch(self, step: int, part: int = 0) -> list[tuple[int, int]]:
        """A part of a step; both count from 0."""
        epoch, place = divmod(step, self.per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._shuffled(epoch))
        examples = list(enumerate(self._epoch[1][place], start=step * self.step_size))
        return examples[part * self.batch_size : (part + 1) * self.batch_size]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        rng, batches = random_of("order", self.seed, epoch), []
        for members in self.buckets.values():
            members = rng.sample(members, len(members))
            while len(members) < self.step_size:
                members += members[: self.step_size - len(members)]
            whole = len(members) - len(members) % self.step_size
            batches += [members[i : i + self.step_size] for i in range(0, whole, self.step_size)]
        rng.shuffle(batches)
        return batches
