import asyncio

import pytest

from virnuc_dask.cluster import answers
from virnuc_dask.cluster.answers import answer
from virnuc_dask.errors import NoClusterError


def test_a_cluster_that_never_answers_is_told_in_time(client, monkeypatch):
    monkeypatch.setattr(answers, "_ANSWER_S", 0.05)
    with pytest.raises(NoClusterError, match=r"\(no answer for 0\.1 s\).*with --resume"):
        answer(client, asyncio.Event().wait)


def test_time_that_a_suspension_took_is_given_again(client, monkeypatch):
    monkeypatch.setattr(answers, "_ANSWER_S", 1)
    asked = []

    async def late_once():
        asked.append(True)
        await asyncio.sleep(0 if len(asked) > 1 else 60)
        return "here"

    assert answer(client, late_once) == "here"
