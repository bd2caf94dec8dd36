"""The timing helper: what it calls, how it pairs, and what it says. No test here depends on how long anything takes."""

import platform
import subprocess
import sys

import pytest
import torch

from convfold.studies.timing import Ratio, circumstances, one_thread, paired, ratio


def test_ratio_is_taken_round_by_round():
    # The machine slows down tenfold in the third round: the ratio of that round stays what it was.
    found = ratio([2.0, 2.2, 20.0, 1.8, 2.0], [1.0, 1.0, 10.0, 1.0, 1.0])
    assert (found.median, found.low, found.high, found.rounds) == (2.0, 2.0, 2.0, 5)
    spread = ratio([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5)
    assert (spread.median, spread.low, spread.high) == (3.0, 2.0, 4.0)
    assert str(spread) == "3.000 (2.000-4.000)"
    assert spread.to_dict() == {"median": 3.0, "low": 2.0, "high": 4.0, "rounds": 5}


def test_series_of_different_lengths_are_no_rounds():
    with pytest.raises(ValueError, match="longer"):
        ratio([1.0], [1.0, 2.0])


@pytest.mark.parametrize(("value", "inside"), [(0.9, True), (1.0, True), (1.1, True), (0.89, False), (1.11, False)])
def test_a_value_is_held_by_the_quartiles(value, inside):
    assert Ratio(1.0, 0.9, 1.1, 9).holds(value) is inside


def test_candidates_alternate_and_twins_take_turns():
    calls = []

    def work(name):
        return lambda: calls.append(name)

    twins = {"a": [work("a0"), work("a1")], "b": [work("b0"), work("b1")]}
    taken = paired(twins, rounds=4, least=0.0, warm=3)
    assert {name: len(times) for name, times in taken.items()} == {"a": 4, "b": 4}
    # Three warm-up calls of each twin and one to see how long a call takes, then one call a round.
    warm, measured = calls[:14], calls[14:]
    assert warm == [*["a0"] * 3, *["a1"] * 3, "a0", *["b0"] * 3, *["b1"] * 3, "b0"]
    rounds = [measured[2 * i : 2 * i + 2] for i in range(4)]
    assert [sorted(r) for r in rounds] == [["a0", "b0"], ["a1", "b1"], ["a0", "b0"], ["a1", "b1"]]


def test_order_within_rounds_varies():
    order = []
    works = {name: [lambda name=name: order.append(name)] for name in "abc"}
    paired(works, rounds=30, least=0.0, warm=0)
    measured = order[3:]
    assert {"".join(measured[3 * i : 3 * i + 3]) for i in range(30)} >= {"abc", "cba"}


def test_one_thread_puts_the_number_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            inside = torch.get_num_threads()
        assert (inside, torch.get_num_threads()) == (1, 2)
        with pytest.raises(ZeroDivisionError), one_thread():
            _ = 1 / 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_circumstances_name_versions_and_threads():
    with one_thread():
        found = circumstances("as it is")
    assert found["torch"] == torch.__version__
    assert (found["threads"], found["allocator"]) == (1, "as it is")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these thresholds")
def test_allocator_is_told_to_keep_memory():
    # In a process of its own: it cannot be undone.
    code = "from convfold.studies.timing import steady_allocator as s; import sys; sys.stdout.write(s())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "glibc, mmap and trim thresholds 1 GiB"
