"""A stopwatch tells the parts of a loop apart and loses no second between them."""

from experiments.benchmarks.stopwatch import REST, Stopwatch


class Loop:
    """Every line takes as many seconds as it says."""

    def __init__(self):
        self.now = 0.0

    def outer(self) -> str:
        self.now += 1
        self.inner()
        self.now += 2
        return "done"

    def inner(self) -> None:
        self.now += 10


def test_each_part_counts_without_the_parts_inside_it_and_all_add_up():
    loop = Loop()
    watch = Stopwatch(lambda: loop.now)
    watch.watch(loop, "outer", "outside")
    watch.watch(loop, "inner", "inside")
    loop.now += 100
    watch.start()
    assert loop.outer() == "done"
    loop.now += 5
    loop.inner()
    assert watch.seconds() == {REST: 5.0, "outside": 3.0, "inside": 20.0}


def test_what_a_device_still_computes_belongs_to_the_part_that_started_it():
    loop = Loop()
    watch = Stopwatch(lambda: loop.now)
    watch.watch(loop, "inner", "inside", wait=lambda: setattr(loop, "now", loop.now + 3))
    loop.inner()
    assert watch.seconds() == {REST: 0.0, "inside": 13.0}
