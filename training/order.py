"""In which order examples are seen: shuffled anew in each epoch, every batch from one bucket.

The order is a function of the seed, so that any batch of a run can be named without having gone through
those before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .draws import random_of


class Order:
    """Batches without end, each a list of ``(position, example)``.

    A position counts every example that the run has seen before; see ``draws``. Examples that do not
    fill a batch wait for another epoch's shuffle; a bucket smaller than a batch sees some of its examples
    twice in it.

    Args:
        buckets: the bucket of each example.
        batch_size: examples in a batch.
        seed: of the shuffling.
        first: the batch to begin with.
    """

    drop_last = False

    def __init__(self, buckets: Sequence[int], batch_size: int, seed: int, first: int = 0):
        self.buckets = {b: [i for i, of in enumerate(buckets) if of == b] for b in sorted(set(buckets))}
        self.batch_size, self.seed, self.first = batch_size, seed, first
        self.per_epoch = sum(max(1, len(members) // batch_size) for members in self.buckets.values())
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        number = self.first
        while True:
            yield self.batch(number)
            number += 1

    def __len__(self) -> int:
        """Batches in an epoch; the iterator goes on after them."""
        return self.per_epoch

    def batch(self, number: int) -> list[tuple[int, int]]:
        """The batch of this number, from 0."""
        epoch, place = divmod(number, self.per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._shuffled(epoch))
        start = number * self.batch_size
        return [(start + i, example) for i, example in enumerate(self._epoch[1][place])]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        rng, batches = random_of("order", self.seed, epoch), []
        for members in self.buckets.values():
            members = rng.sample(members, len(members))
            while len(members) < self.batch_size:
                members += members[: self.batch_size - len(members)]
            whole = len(members) - len(members) % self.batch_size
            batches += [members[i : i + self.batch_size] for i in range(0, whole, self.batch_size)]
        rng.shuffle(batches)
        return batches
