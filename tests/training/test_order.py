"""The order in which examples are seen."""

from collections import Counter
from itertools import islice

import pytest
from comfyui_cascade.training.order import NO_BUCKET, Order

BUCKETS = [0] * 23 + [1] * 9 + [2] * 12


def batches(order, count):
    return list(islice(order, count))


def test_no_example_is_seen_twice_in_an_epoch():
    order = Order(BUCKETS, 4, seed=1)
    for epoch in range(3):
        steps = range(epoch * order.per_epoch, (epoch + 1) * order.per_epoch)
        seen = Counter(example for step in steps for _, example in order.batch(step))
        assert max(seen.values()) == 1
        assert len(seen) == 20 + 8 + 12  # what fills whole steps


def test_every_example_is_seen_in_the_long_run():
    order = Order(BUCKETS, 4, seed=1)
    assert {example for batch in batches(order, 10 * order.per_epoch) for _, example in batch} == set(
        range(44)
    )


def test_a_step_comes_from_one_bucket():
    for batch in batches(Order(BUCKETS, 4, seed=2), 40):
        assert len({BUCKETS[example] for _, example in batch}) == 1
        assert len(batch) == 4


def test_any_step_can_be_named_without_those_before():
    run_through = batches(Order(BUCKETS, 4, seed=3), 50)
    assert Order(BUCKETS, 4, seed=3).batch(37) == run_through[37]
    assert batches(Order(BUCKETS, 4, seed=3, first=23), 27) == run_through[23:]


def test_parts_of_a_step_make_up_the_step():
    whole = batches(Order(BUCKETS, 6, seed=4), 12)
    parts = batches(Order(BUCKETS, 6, seed=4, parts=3), 36)
    assert [[*parts[3 * i], *parts[3 * i + 1], *parts[3 * i + 2]] for i in range(12)] == whole
    resumed = batches(Order(BUCKETS, 6, seed=4, parts=3, first=5), 21)
    assert resumed == parts[15:]


def test_positions_count_all_examples_of_the_run():
    positions = [position for batch in batches(Order(BUCKETS, 4, seed=5), 30) for position, _ in batch]
    assert positions == list(range(120))


def test_epochs_and_seeds_differ():
    order = Order([0] * 40, 4, seed=6)
    first, second = ([order.batch(e * 10 + i) for i in range(10)] for e in range(2))
    assert [[x for _, x in b] for b in first] != [[x for _, x in b] for b in second]
    assert order.batch(0) != Order([0] * 40, 4, seed=7).batch(0)


def test_a_bucket_smaller_than_a_step_sees_its_examples_again():
    batch = Order([0, 0, 0], 8, seed=0).batch(0)
    assert len(batch) == 8
    assert {example for _, example in batch} == {0, 1, 2}


def test_examples_without_a_bucket_are_left_out():
    order = Order([0, NO_BUCKET, 0, 0, NO_BUCKET, 0], 2, seed=0)
    assert {example for batch in batches(order, 20) for _, example in batch} == {0, 2, 3, 5}


def test_an_order_of_nothing_is_refused():
    with pytest.raises(ValueError, match="not one of 2 pictures can be read"):
        Order([NO_BUCKET, NO_BUCKET], 2, seed=0)
