"""The measured peak, of which utilisation is a share."""

import time

import torch

from app.engine.worker.peak import measure_peak

CPU = torch.device("cpu")


def test_the_peak_is_what_a_large_product_reaches() -> None:
    """It is within a factor of five of a product that is measured here, which a busy machine allows."""
    size = 1024
    matrix = torch.ones((size, size))
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    assert 0.2 < measure_peak(CPU, torch.float32) / (2 * size**3 / best) < 5


def test_a_device_without_room_has_no_peak(monkeypatch) -> None:
    """The peak is 0 then, and the server starts all the same."""

    def no_room(*_arguments: object, **_named: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch, "full", no_room)
    assert measure_peak(CPU, torch.float32) == 0
