import pytest
import torch

from virnuc_dask.lab.speed import turns
from virnuc_dask.lab.speed.turns import rates, ratio, seconds, take_turns


def test_variants_take_turns_in_an_order_that_is_reversed_each_time():
    called: list[str] = []
    elapsed_s = take_turns({name: lambda n=name: called.append(n) for name in "ab"}, repeats=3)
    assert "".join(called) == "ba" + "ab" + "ba" + "ab"
    assert {name: len(spent) for name, spent in elapsed_s.items()} == {"a": 3, "b": 3}


def test_the_first_turn_warms_up_and_is_not_counted(monkeypatch):
    clock = iter([100.0, 1.0, 2.0, 3.0])
    monkeypatch.setattr(turns, "seconds", lambda work, device: next(clock))
    elapsed_s = take_turns({"a": lambda: None}, repeats=3)
    assert elapsed_s == {"a": [1.0, 2.0, 3.0]}
    assert rates(elapsed_s, units=10) == {"a": 5.0}


def test_a_ratio_is_the_median_of_the_turns_ratios():
    elapsed_s = {"theirs": [4.0, 40.0, 4.0], "ours": [2.0, 10.0, 1.0]}
    assert ratio(elapsed_s, "ours", "theirs") == 4.0


@pytest.mark.parametrize(("device", "waits"), [("cpu", 0), ("cuda", 2)])
def test_a_gpu_is_awaited_before_and_after(monkeypatch, device, waits):
    events: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: events.append("wait"))
    seconds(lambda: events.append("work"), device)
    assert events.count("wait") == waits
    assert events[len(events) // 2] == "work"
