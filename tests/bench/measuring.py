"""What the benchmarks measure with: the server's CPU and memory, and what the machine's disk can do."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from tests.running import RunningStack

_NAME, _FIGURE = 66, 16  # columns
_TURNS = 2_000_000


def cpu_seconds(pid: int) -> float:
    """User and system time that the threads of the process have spent."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # it ended
            spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e9


def memory_kib(pid: int) -> int:
    """Proportional set size."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def heading(title: str, *columns: str) -> None:
    """Begin a table."""
    print(f"\n{title:{_NAME}}" + "".join(f"{column:>{_FIGURE}}" for column in columns), flush=True)


def line(name: str, *figures: str, target: str = "") -> None:
    """One line of it; `target` is what the figures should be."""
    cells = "".join(f"{figure:>{_FIGURE}}" for figure in figures)
    print(f"  {name:{_NAME - 2}}{cells}{f'   ({target})' if target else ''}".rstrip(), flush=True)


def show(name: str, value: float, unit: str, target: str = "") -> None:
    """A line with one figure."""
    line(name, f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}", target=target)


@contextmanager
def measured(stack: RunningStack, name: str, operations: int = 1, target: str = "") -> Iterator[None]:
    """Show CPU and wall time of what happens inside, and how many operations a second that is."""
    cpu, wall = cpu_seconds(stack.pid()), time.monotonic()
    yield
    wall, cpu = time.monotonic() - wall, cpu_seconds(stack.pid()) - cpu
    each = f"{cpu / operations * 1000:.2f} ms CPU"
    line(name, each, f"{operations / wall:.1f} /s" if operations > 1 else "", f"{wall:.3f} s", target=target)


@contextmanager
def peak_memory(stack: RunningStack, name: str, target: str = "") -> Iterator[None]:
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
    show(f"{name}: memory at most", most[0] / 1024, "MiB", target)


def at_once(number: int, work: Callable[[int], None]) -> None:
    """`work(i)` in as many threads."""
    threads = [threading.Thread(target=work, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def machine(directory: Path) -> None:
    """Say where this is measured, and what durable writing costs here: nothing durable can be faster."""
    load = os.getloadavg()[0]
    print(
        f"{time.strftime('%Y-%m-%d %H:%M %Z')}, {os.cpu_count()} processors, Python {sys.version.split()[0]}"
    )
    print("CPU is what the server spent, for each operation; in brackets, what it should be.")
    if load > 0.5:
        print(
            f"The machine is busy (load {load:.1f}): times and rates mean little, and CPU is up to doubled."
        )
    heading("The processor and the disk", "", "per second", "in all")
    pace()
    with (directory / "fsync").open("wb") as file:
        start = time.monotonic()
        for _ in range(200):
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        wall = time.monotonic() - start
    line("fsync of 4 KiB more", "", f"{200 / wall:.0f} /s", f"{wall:.3f} s")
    for number in (1, 4):
        start, cpu = time.monotonic(), time.process_time()
        at_once(number, partial(_deliver_files, directory / str(number), 100))
        count, wall, cpu = 100 * number, time.monotonic() - start, time.process_time() - cpu
        line(
            f"file of 4 KiB, fsync, rename, fsync of its directory, {number} at once",
            f"{cpu / count * 1000:.2f} ms CPU", f"{count / wall:.0f} /s", f"{wall:.3f} s",
        )  # fmt: skip


def pace() -> None:
    """Say how fast the processor is now: compare figures only where this is the same.

    Virtual machines change it from one minute to the next, by half and more.
    """
    start = time.process_time()
    total = 0
    for number in range(_TURNS):
        total += number * number & 7
    line(f"{_TURNS:,} turns of a loop in Python", f"{(time.process_time() - start) * 1000:.0f} ms CPU")


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
