"""A fresh world for each test; transcripts run whole and one octet at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.access.imap.harness import Client, World, converse


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


@pytest.fixture(params=[False, True], ids=["whole", "octets"])
def talk(request: pytest.FixtureRequest) -> Callable[[Client, str], None]:
    return lambda client, text: converse(client, text, request.param)
