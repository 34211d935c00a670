"""Commands of several sessions under way at once, pipelined, in one process or two: nobody is told what is not so.

The order in which threads work and their outcomes arrive is chosen step by step (`turns`); each commit must be
what one command was to do (`chronicle`, `effects`); each client knows only what it was told (`onlooker`). All is
chosen by seeds, so that a run can be had again: a failure names its seed and its steps, made fewer with
``MAILSTACK_MODEL_SHRINK=1``. ``MAILSTACK_MODEL_EXAMPLES=5000 MAILSTACK_MODEL_SEED=1000000 pytest
tests/access/imap/test_interleaved.py`` looks longer, and elsewhere. On PostgreSQL, where processes hear of each
other a moment later, it is always two.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from tests.access.imap.steps_beside import Beside
from tests.databases import KINDS as DATABASES
from tests.databases import database_url

EXAMPLES = int(os.environ.get("MAILSTACK_MODEL_EXAMPLES", "6"))
STEPS = int(os.environ.get("MAILSTACK_MODEL_STEPS", "60"))
FIRST = int(os.environ.get("MAILSTACK_MODEL_SEED", "1"))
SHRINKS = bool(os.environ.get("MAILSTACK_MODEL_SHRINK"))
KINDS = (
    *("store",) * 9,
    *("fetch", "search", "expunge", "copy", "append") * 2,
    *("store_saved", "append_and_break", "select", "noop", "idle", "mode", "leave", "lose", "resynchronize"),
    *("pop3",) * 5,
    *("drop", "name_it", "status", "turn", "turn", "time", "quietly"),
)

Script = list[tuple[str, int]]  # steps, and the seed of what each chooses


def run(seed: int, script: Script, kind: str = "sqlite") -> None:
    """One world; in the end everybody knows everything. Raise AssertionError."""
    world = Beside(None if kind == "sqlite" else database_url(kind, Path()))
    try:
        world.open(2 if kind != "sqlite" or seed % 3 == 0 else 1, Random(seed))
        for kind, chance in script:
            r = Random(chance)
            getattr(world, kind)(r)
            world.go_on(r)
        world.quiet()
        world.compare_all()
    finally:
        world.close()


def script_of(seed: int) -> Script:
    r = Random(seed)
    return [(r.choice(KINDS), r.getrandbits(32)) for _ in range(STEPS)]


def fails(seed: int, script: Script, kind: str) -> bool:
    try:
        run(seed, script, kind)
    except Exception:
        return True
    return False


def shortened(seed: int, script: Script, kind: str) -> Script:
    """A script that fails too, with as few steps as leaving some out can bring."""
    size = len(script) // 2
    while size:
        for start in range(len(script) - size, -1, -size):
            fewer = script[:start] + script[start + size :]
            if fails(seed, fewer, kind):
                script = fewer
        size //= 2
    return script


@pytest.mark.parametrize("kind", DATABASES)
def test_nobody_is_told_what_is_not_so(kind: str) -> None:
    for seed in range(FIRST, FIRST + (EXAMPLES if kind == "sqlite" else max(1, EXAMPLES // 6))):
        script = script_of(seed)
        try:
            run(seed, script, kind)
        except Exception as error:
            script = shortened(seed, script, kind) if SHRINKS else script
            error.add_note(f"run({seed}, {script}, {kind!r})")
            raise
