import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import pytest

from virnuc_dask.modelsets.device_lock import ENCODERS, DeviceClock, DeviceLock, ReleasedError

LIMIT_S = 20


class Device:
    """Notes who computes, and fails if two do."""

    def __init__(self) -> None:
        self.log: list[tuple[int, str]] = []
        self._busy = threading.Lock()

    def compute(self, number: int, encoder: str, seconds: float = 0.001) -> None:
        assert self._busy.acquire(blocking=False), "two compute at once"
        threading.Event().wait(seconds)
        self.log.append((number, encoder))
        self._busy.release()

    def put_through(self, lock: DeviceLock, number: int) -> None:
        with lock.partition() as use:
            for encoder in ENCODERS:
                with use.computing(encoder):
                    self.compute(number, encoder)


def test_a_partition_keeps_its_turn_from_the_first_encoder_to_the_second():
    device, lock = Device(), DeviceLock()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: device.put_through(lock, number), range(20)))
    assert all(a[0] == b[0] for a, b in zip(device.log[::2], device.log[1::2], strict=True))
    assert [encoder for _, encoder in device.log] == [*ENCODERS] * 20


def test_a_group_goes_through_one_encoder_before_any_of_it_goes_on_to_the_other():
    device, lock = Device(), DeviceLock(grouped=True)
    together = threading.Barrier(5)

    def put_through(number: int) -> None:
        with lock.partition() as use:
            together.wait(LIMIT_S)
            for encoder in ENCODERS:
                with use.computing(encoder):
                    device.compute(number, encoder)

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(put_through, range(5)))
    changes = [(encoder, len(list(of))) for encoder, of in groupby(e for _, e in device.log)]
    assert changes == [("nucleotide", 5), ("peptide", 5)]


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("fails_at", [None, *ENCODERS])
def test_a_partition_that_fails_leaves_the_device_to_the_next(grouped, fails_at):
    device, lock = Device(), DeviceLock(grouped=grouped)

    def fail() -> None:
        with lock.partition() as use:
            for encoder in ENCODERS[: ENCODERS.index(fails_at) + 1] if fails_at else ():
                with use.computing(encoder):
                    if encoder == fails_at:
                        raise RuntimeError(encoder)
            raise RuntimeError("before it computes")

    with pytest.raises(RuntimeError):
        fail()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(device.put_through, lock, 1).result(LIMIT_S)
    assert len(device.log) == 2


def test_closing_turns_away_who_waits_and_lets_who_computes_end():
    lock = DeviceLock()
    with ThreadPoolExecutor(1) as pool, lock.partition() as use:
        with use.computing("nucleotide"):
            waiting = pool.submit(Device().put_through, lock, 1)
            while len(lock._in_work) < 2:
                threading.Event().wait(0.001)
            lock.close()
            with pytest.raises(ReleasedError):
                waiting.result(LIMIT_S)
        with use.computing("peptide"):
            pass


def test_idle_is_what_passes_between_two_computations(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("virnuc_dask.modelsets.device_lock.time.perf_counter", lambda: now[0])
    lock = DeviceLock(clock=DeviceClock())

    def one(before: float, computing: float) -> float:
        with lock.partition() as use:
            now[0] += before
            for encoder in ENCODERS:
                with use.computing(encoder):
                    now[0] += computing
        return use.device_idle_s

    assert one(before=7, computing=5) == 0, "nothing came before the first"
    assert one(before=3, computing=5) == 3
    assert one(before=0, computing=1) == 0
