"""What the benchmarks measure with: the server's CPU and memory, and what the machine's disk can do."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.running import RunningStack

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time that the process has spent."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_kib(pid: int) -> int:
    """Proportional set size."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def show(name: str, value: float, unit: str) -> None:
    print(f"{name}\t{value:.3f}\t{unit}", flush=True)


@contextmanager
def measured(stack: RunningStack, name: str, operations: int = 1) -> Iterator[None]:
    """Show CPU and wall time of what happens inside, for each operation."""
    cpu, wall = cpu_seconds(stack.pid()), time.monotonic()
    yield
    wall, cpu = time.monotonic() - wall, cpu_seconds(stack.pid()) - cpu
    show(f"{name}: CPU", cpu / operations * 1000, "ms each" if operations > 1 else "ms")
    show(f"{name}: wall", wall, "s")
    if operations > 1:
        show(f"{name}: rate", operations / wall, "per s")


@contextmanager
def peak_memory(stack: RunningStack, name: str) -> Iterator[None]:
    """Show the most memory that the server has while what is inside happens."""
    most, ended = [memory_kib(stack.pid())], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            most[0] = max(most[0], memory_kib(stack.pid()))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()
    show(f"{name}: memory at most", most[0] / 1024, "MiB")


def at_once(number: int, work: Callable[[int], None]) -> None:
    """`work(i)` in as many threads."""
    threads = [threading.Thread(target=work, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def disk(directory: Path) -> None:
    """What durable writing costs here: all that is durable is measured against it."""
    start = time.monotonic()
    with (directory / "fsync").open("wb") as file:
        for _ in range(200):
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    show("the machine: one fsync of 4 KiB", (time.monotonic() - start) / 200 * 1000, "ms")
    for number in (1, 4):
        start, cpu = time.monotonic(), time.process_time()
        at_once(number, partial(_deliver_files, directory / str(number), 100))
        count = 100 * number
        name = f"the machine: file of 4 KiB, fsync, rename, fsync of its directory, {number} at once"
        show(f"{name}: rate", count / (time.monotonic() - start), "per s")
        show(f"{name}: CPU", (time.process_time() - cpu) / count * 1000, "ms each")


def _deliver_files(directory: Path, count: int, thread: int) -> None:
    directory.mkdir(exist_ok=True)
    for number in range(count):
        path = directory / f"{thread}-{number}"
        with path.open("wb") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        path.rename(path.with_suffix(".done"))
        folder = os.open(directory, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
