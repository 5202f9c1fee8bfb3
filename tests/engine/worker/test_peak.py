"""The peak that utilisation is a share of."""

import time

import torch

from app.engine.worker.peak import measure_peak

CPU = torch.device("cpu")


def test_the_peak_is_what_a_large_product_reaches() -> None:
    """Roughly that of one that is measured here, whatever else the machine does: no figure out of a table."""
    size = 1024
    matrix = torch.ones((size, size))
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    assert 0.2 < measure_peak(CPU, torch.float32) / (2 * size**3 / best) < 5


def test_a_device_without_room_has_no_peak(monkeypatch) -> None:
    """The server starts all the same."""

    def no_room(*_arguments: object, **_named: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch, "full", no_room)
    assert measure_peak(CPU, torch.float32) == 0
