"""A line: one thing at a time, small ones ahead, and nobody waits for ever."""

import threading

import pytest

from serve.running.priority_thread import PriorityThread


@pytest.fixture
def served():
    """``served(kinds)``: the order in which these were done that came, in this order, while the line was busy."""

    def serve(kinds):
        line, begun, gate, done = PriorityThread("test"), threading.Event(), threading.Event(), []
        threads = [threading.Thread(target=line.do, args=(lambda: begun.set() or gate.wait(5),))]
        threads[0].start()
        begun.wait(5)
        for number, kind in enumerate(kinds):
            threads.append(
                threading.Thread(target=line.do, args=(lambda n=number: done.append(n),), kwargs={"small": kind == "s"})
            )
            threads[-1].start()
            while len(line._small) + len(line._others) <= number:
                pass  # each has come before the next one does
        gate.set()
        for thread in threads:
            thread.join(5)
        return done

    return serve


@pytest.mark.parametrize(
    ("kinds", "order"),
    [
        ("ll", [0, 1]), ("ss", [0, 1]), ("lls", [2, 0, 1]), ("llsss", [2, 0, 3, 1, 4]), ("sl", [0, 1]),
        ("llllss", [4, 0, 5, 1, 2, 3]),
    ],
)  # fmt: skip
def test_small_ones_go_ahead_and_others_come_every_second_time(served, kinds, order):
    assert served(kinds) == order


def test_one_thread_does_it_all_and_what_breaks_is_raised_where_it_was_asked_for():
    line = PriorityThread("test")
    seen = {line.do(threading.get_ident) for _ in range(3)}
    with pytest.raises(ZeroDivisionError):
        line.do(lambda: 1 / 0)
    seen.add(line.do(threading.get_ident, small=True))
    assert len(seen) == 1
    assert threading.get_ident() not in seen
