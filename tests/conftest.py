"""What every test gets: a working directory of its own run, so that nothing is ever written into the checkout.

Nothing but bytecode: the suite starts a hundred processes, and images for containers often forbid to keep it. Each
would compile all of mailstack again, which is a third of a server's start; so would each worker all tests.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.umask(0o022)  # other people's servers, which change users, must read what is written for them
sys.dont_write_bytecode = False
# What of hypothesis measures time says something of the machine only; its own profile for CI has the same.
settings.register_profile(
    "patient",
    settings.get_profile(settings.get_current_profile_name()),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("patient")
gc.disable()  # until everything is collected


def pytest_collection_finish() -> None:
    """What was collected lives to the end: the garbage collector need not walk through it again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker half of the tests in one piece: the neighbors of a file share a server, started once."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


@pytest.fixture(scope="session", autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """trial's ``mktemp`` makes its folders in the working directory."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("trial"))
    yield
    os.chdir(before)
