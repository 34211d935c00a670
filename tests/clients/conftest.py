"""One running stack for all clients' tests of a worker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.running import RunningStack, running


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """example.test with alice, bob and one mailbox for each client."""
    users = (
        "alice",
        "bob",
        "curl",
        "swaks",
        "msmtp",
        "mutt",
        "mbsync",
        "fetchmail",
        "pop",
        "imap",
        "idle",
        "snail",
        "more",
        "horde",
        "java",
        "flow",
        "camel",
    )
    with running(tmp_path_factory.mktemp("stack") / "example", users=users) as one:
        yield one


@pytest.fixture
def program(request: pytest.FixtureRequest) -> str:
    """The path of the program that the test is marked with: ``@pytest.mark.parametrize("program", ...)``."""
    name: str = request.param
    path = shutil.which(name)
    if path is None:
        package = {"mbsync": "isync", "offlineimap": "offlineimap3", "getmail": "getmail6"}.get(name, name)
        pytest.skip(f"{name} is not installed; get it with: apt-get install {package}")
    return path


def needs(name: str) -> pytest.MarkDecorator:
    """Run the test with this program, or skip it by name."""
    return pytest.mark.parametrize("program", [name], indirect=True)
