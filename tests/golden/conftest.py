"""The device of the golden tests."""

from collections.abc import Iterator

import pytest

from cases_io import DEVICE, SECOND
from gpu_checks.second_device import second_device


@pytest.fixture(autouse=True)
def _device() -> Iterator[None]:
    """The second device exists only inside its context."""
    if DEVICE.type != SECOND:
        yield
        return
    with second_device():
        yield
