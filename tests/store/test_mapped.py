"""A mapped file answers as bytes do, also where its windows meet."""

from __future__ import annotations

import mmap
import tempfile

import pytest

from mailstack.store.identity import email_id
from mailstack.store.mapped import WINDOW, Mapped

DATA = b"a" * (WINDOW - 2) + b"\n--bound\n" + b"b" * (2 * WINDOW) + b"\n--bound--"


@pytest.fixture(scope="module")
def mapped() -> Mapped:
    with tempfile.TemporaryFile() as file:
        file.write(DATA)
        file.flush()
        return Mapped(file.fileno(), 0, access=mmap.ACCESS_READ)


@pytest.mark.parametrize("sub", [b"\n--bound", b"\n--bound--", b"b", b"nowhere"])
@pytest.mark.parametrize(
    "start", [0, WINDOW - 2, WINDOW - 1, WINDOW, len(DATA) - 3, len(DATA), len(DATA) + 1]
)
@pytest.mark.parametrize("end", [WINDOW, WINDOW + 5, len(DATA), len(DATA) + 9])
def test_find(mapped: Mapped, sub: bytes, start: int, end: int) -> None:
    assert mapped.find(sub, start, end) == DATA.find(sub, start, end)


def test_find_without_an_end(mapped: Mapped) -> None:
    assert mapped.find(b"\n--bound--") == DATA.find(b"\n--bound--")


def test_copies_and_octets(mapped: Mapped) -> None:
    for part in (slice(0, 9), slice(WINDOW - 4, 3 * WINDOW), slice(5, len(DATA) + 9), slice(9, 3)):
        assert mapped[part] == DATA[part]
    assert mapped[:] == DATA
    assert mapped[WINDOW] == DATA[WINDOW]


def test_its_emailid_is_that_of_its_octets(mapped: Mapped) -> None:
    assert email_id(mapped) == email_id(DATA)
