"""Commands of several sessions under way at once, pipelined, in one process or two: nobody is told what is not so.

The order in which threads work and their outcomes arrive is chosen step by step (`turns`); each commit must be
what one command was to do (`chronicle`, `effects`); each client knows only what it was told (`onlooker`). All is
chosen by seeds, so that a run can be had again: a failure names its seed and its steps, made fewer with
``MAILSTACK_MODEL_SHRINK=1``. ``MAILSTACK_MODEL_EXAMPLES=5000 MAILSTACK_MODEL_SEED=1000000 pytest
tests/access/imap/test_interleaved.py`` looks longer, and elsewhere.
"""

from __future__ import annotations

import os
from random import Random

from tests.access.imap.steps_under_way import UnderWay

EXAMPLES = int(os.environ.get("MAILSTACK_MODEL_EXAMPLES", "12"))
STEPS = int(os.environ.get("MAILSTACK_MODEL_STEPS", "60"))
FIRST = int(os.environ.get("MAILSTACK_MODEL_SEED", "1"))
SHRINKS = bool(os.environ.get("MAILSTACK_MODEL_SHRINK"))
KINDS = (
    *("store",) * 9,
    *("fetch", "search", "expunge", "copy", "append") * 2,
    *("store_saved", "append_and_break", "select", "noop", "idle", "mode", "leave", "lose", "resynchronize"),
    *("name_it", "status", "turn", "turn", "time", "quietly"),
)

Script = list[tuple[str, int]]  # steps, and the seed of what each chooses


def run(seed: int, script: Script) -> None:
    """One world; in the end everybody knows everything. Raise AssertionError."""
    world = UnderWay()
    try:
        world.open(1 if seed % 3 else 2, Random(seed))
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


def fails(seed: int, script: Script) -> bool:
    try:
        run(seed, script)
    except Exception:
        return True
    return False


def shortened(seed: int, script: Script) -> Script:
    """A script that fails too, with as few steps as leaving some out can bring."""
    size = len(script) // 2
    while size:
        for start in range(len(script) - size, -1, -size):
            fewer = script[:start] + script[start + size :]
            if fails(seed, fewer):
                script = fewer
        size //= 2
    return script


def test_nobody_is_told_what_is_not_so() -> None:
    for seed in range(FIRST, FIRST + EXAMPLES):
        script = script_of(seed)
        try:
            run(seed, script)
        except Exception as error:
            script = shortened(seed, script) if SHRINKS else script
            error.add_note(f"run({seed}, {script})")
            raise
