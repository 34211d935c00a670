"""Records a stack at work, and cuts its power afterwards, as often as one likes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.crash.disk import Cut, Disk
from tests.crash.judge import Judge
from tests.crash.load import Load
from tests.crash.promises import Clock, Promises
from tests.crash.recovery import Recovery, damage
from tests.crash.shop import Shop
from tests.crash.traced import RESTART, Call, read_trace, sent, strace
from tests.crash.wire import NextHop
from tests.running import PATIENCE, RunningStack

EVENTFUL = (
    "fsync",
    "fdatasync",
    "rename",
    "link",
    "unlink",
    "unlinkat",
    "sendto",
    "sendmsg",
    "write",
    "mkdir",
)
_LOG = 4_000  # letters of the log that are shown where a load fails
SETTINGS = (
    "auth.plaintext_networks=['127.0.0.0/8']",
    "store.write_behind=0.1",
    "store.poll=0.2",
    "mta.retry=[1.0]",
    "mta.hop_pause=1.0",
    "msa.save_sent=true",
)


@dataclass(frozen=True, slots=True)
class Recording:
    """What a stack did from its start to its end, and what it promised meanwhile."""

    calls: Sequence[Call]
    before: Path  # its data directory, as it was at the start
    data: Path  # where that was
    promises: Promises
    settings: dict[str, Any] = field(default_factory=dict)  # of the store


def record(folder: Path, seed: int, rounds: int = 1, crashes: bool = False, **settings: Any) -> Recording:
    """Run a stack and its load; where it `crashes` it is killed and started again in each round."""
    promises = Promises()
    hop = NextHop(promises)
    chosen = [f"store.{name}={value!r}" for name, value in settings.items()]
    routes = f'mta.routes={{"*"="smtp://127.0.0.1:{hop.port}"}}'
    stack = RunningStack(folder / "example", settings=[*SETTINGS, routes, *chosen])
    data, before, output = stack.directory / "data", folder / "before", folder / "trace"
    _take_mail_away(data)  # so that the folders are made while we watch
    shutil.copytree(data, before)
    stack.wrap(strace(output))
    calls: list[Call] = []

    def crash() -> None:
        _end(stack, signal.SIGKILL)
        calls.extend([*read_trace(output, data), Call(RESTART, 0, "", 0, True, True)])
        stack.start()

    load = Load(stack, promises, Random(seed), hop, rounds, crash if crashes else lambda: None)
    try:
        stack.start()
        load.run()
        _end(stack, signal.SIGTERM)
    except BaseException as error:
        ended = stack.process and stack.process.poll()
        error.add_note(f"the server's status is {ended}; its log ends so: {stack.log()[-_LOG:]}")
        raise
    finally:
        _end(stack, signal.SIGKILL)
        hop.close()
    calls += read_trace(output, data)
    output.unlink()
    return Recording(calls, before, data, promises, settings)


def _take_mail_away(data: Path) -> None:
    Recovery(data).forget()
    shutil.rmtree(data / "mail")


def can_trace(folder: Path) -> bool:
    """Whether strace is here, and is shown what a process does."""
    if shutil.which("strace") is None or not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        return False
    tried, output = folder / "tried", folder / "try"
    words = [*strace(output), "sh", "-c", f"echo octets >'{tried}'"]
    done = subprocess.run(words, capture_output=True, timeout=PATIENCE)
    seen = [call.name for call in read_trace(output, folder)] if output.exists() else []
    return done.returncode == 0 and "write" in seen


def _end(stack: RunningStack, how: signal.Signals) -> None:
    """End the server itself, if it runs: strace writes down what it still does, and ends with it."""
    tracer, stack.process = stack.process, None
    if tracer is None:
        return
    children = Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children")
    if tracer.poll() is None:
        for child in children.read_text().split():
            os.kill(int(child), how)
    tracer.wait(PATIENCE)


@dataclass(slots=True)
class Verdict:
    """What several cuts came to."""

    states: int = 0
    wrong: dict[str, str] = field(default_factory=dict)  # the first state of each, by what is wrong


class Cutter:
    """Cuts the power at moments of a recording; `folder` is best in memory."""

    def __init__(
        self, recording: Recording, folder: Path, drop: Callable[[Call], bool] = lambda call: False
    ) -> None:
        self._calls = recording.calls
        self._disk = Disk(recording.before)
        self._disk.root = recording.data  # where it was then
        self._drop = drop  # fsyncs that are to have no effect: a seeded fault
        self._shop = Shop(folder)
        self._recovery = Recovery(self._shop.root, **recording.settings)
        self._judge = Judge(recording.promises, Clock(sent(list(recording.calls))))

    def moments(self, random: Random, most: int) -> list[int]:
        """Places in the trace: after some of the calls that matter, and after the last."""
        eventful = [place for place, call in enumerate(self._calls) if call.name in EVENTFUL]
        return sorted({*random.sample(eventful, min(most, len(eventful))), len(self._calls) - 1})

    def cut(
        self, moments: Iterable[int], kinds: Sequence[Cut], random: Random, rebuild_every: int = 0
    ) -> Verdict:
        """Cut the power after each of those calls, each with one kind of loss or all of them; judge."""
        verdict = Verdict()
        wanted = set(moments)
        for place, call in enumerate(self._calls):
            if not (call.name in ("fsync", "fdatasync") and self._drop(call)):
                self._disk.apply(call)
            if place not in wanted:
                continue
            for cut in kinds:
                again = bool(rebuild_every) and verdict.states % rebuild_every == 0
                for wrong in self._judged(place, cut, random, again):
                    verdict.wrong.setdefault(wrong, f"{cut.value} after call {place}: {call.name}")
                verdict.states += 1
        return verdict

    def _judged(self, place: int, cut: Cut, random: Random, rebuild: bool) -> list[str]:
        state = self._disk.state(cut, random)
        root = self._shop.make(state)
        try:
            wrong = list(damage(root / "mailstack.db"))
            wrong += self._judge.after_start(self._recovery.start(), place)
            if rebuild:
                self._shop.make(state)
                wrong += self._judge.after_rebuild(self._recovery.rebuild(), place)
        except Exception as error:
            return [f"the start fails: {error!r}"]
        return wrong
