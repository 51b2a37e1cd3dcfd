import asyncio

import pytest

from virnuc_dask.cluster import answers
from virnuc_dask.cluster.answers import answer
from virnuc_dask.errors import NoClusterError


def test_a_cluster_that_never_answers_is_told_in_time(client, monkeypatch):
    monkeypatch.setattr(answers, "_ANSWER_S", 0.05)
    with pytest.raises(NoClusterError, match=r"\(no answer for 0\.1 s\).*with --resume"):
        answer(client, asyncio.Event().wait)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TimeoutError(), "no answer for 120 s"),
        (OSError("no route to host"), "no route to host"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_the_reason_is_told_even_where_the_error_has_no_text(client, error, told):
    async def fails():
        raise error

    with pytest.raises(NoClusterError, match=told):
        answer(client, fails)


def test_time_that_a_suspension_took_is_given_again(client, monkeypatch):
    monkeypatch.setattr(answers, "_ANSWER_S", 1)
    asked = []

    async def late_once():
        asked.append(True)
        await asyncio.sleep(0 if len(asked) > 1 else 60)
        return "here"

    assert answer(client, late_once) == "here"
