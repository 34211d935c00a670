"""Submission to the next hop, beside Postfix in the same run. Needs Debian's postfix, root, and a load driver.

    python -m tests.bench.bench_relay --driver smtp_load.py --messages 2000 --rounds 3

Both relay to the same smtp-sink; the driver is any program that takes --port, --messages, --concurrency,
--per-conn, --rcpt and --sender and prints one line of JSON with "ok", "msgs_per_s" and "errors". Ours asks for a
login, Postfix does not: `--trusted` has neither ask. Neither signs, unless `--signed` has ours do so.
`--per-conn 1,0` measures both a new connection for each message and one for all. Says for each round and server:
accepted and relayed messages a second, CPU milliseconds a message.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.peers import postfix
from tests.running import RunningStack, free_ports

TICK = os.sysconf("SC_CLK_TCK")
PATIENCE = 120.0  # seconds until all must have been relayed


class Sink:
    """smtp-sink, which counts what it takes."""

    def __init__(self, folder: Path) -> None:
        [self.port] = free_ports(1)
        self._counters = folder / "sink"
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        with self._counters.open("wb") as out:
            self._process = subprocess.Popen(
                ["smtp-sink", "-c", *user, f"127.0.0.1:{self.port}", "2000"],
                stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def messages(self) -> int:
        """How many it has taken so far."""
        with self._counters.open("rb") as file:
            file.seek(max(0, self._counters.stat().st_size - 200))
            last = file.read().replace(b"\r", b"\n").split(b"\n")
        counts = [line.split(b"mesg=")[1].split()[0] for line in last if line.count(b"=") >= 3]
        return int(counts[-1]) if counts else 0

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def cpu_seconds(root: int) -> float:
    """User and system time of a process and of all below it, those that ended too."""
    parents, times = {}, {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit():
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(fields[1])
                times[int(folder.name)] = sum(map(int, fields[11:15]))
    family = {root}
    while more := {one for one, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(times.get(one, 0) for one in family) / TICK


def measure(
    name: str, options: argparse.Namespace, per_conn: str, port: int, pid: int, sink: Sink, login: list[str]
) -> None:
    """One round with one server."""
    before, cpu = sink.messages(), cpu_seconds(pid)
    load = [sys.executable, options.driver, "--port", str(port), "--messages", str(options.messages),
            "--concurrency", str(options.concurrency), "--per-conn", per_conn,
            "--rcpt", "u%d@d%d.test".replace("%d.test", "0.test") if options.hops == 1 else "u0@d%d.test",
            "--rcpt-count", str(options.hops), "--sender", "alice@example.test", *login]  # fmt: skip
    said = json.loads(subprocess.run(load, capture_output=True, text=True, check=True).stdout)
    accepted = said["ok"] / said["msgs_per_s"]
    began = time.monotonic() - accepted  # without the driver's own start
    give_up = time.monotonic() + PATIENCE
    while sink.messages() - before < said["ok"] and time.monotonic() < give_up:
        time.sleep(0.02)
    relayed = time.monotonic() - began
    number = sink.messages() - before
    time.sleep(1.5)  # what is still written down
    used = cpu_seconds(pid) - cpu
    print(
        f"{name}\t{'kept' if per_conn == '0' else 'new'} connection\t{said['ok'] / accepted:.0f}/s accepted\t{number / relayed:.0f}/s relayed\t"
        f"{1000 * used / max(1, number):.2f} ms CPU\terrors {said['errors']}",
        flush=True,
    )


@contextlib.contextmanager
def ours(folder: Path, sink: Sink, options: argparse.Namespace) -> Iterator[RunningStack]:
    """Our stack with a route to the sink."""
    settings = [
        f'mta.routes={{"*"="smtp://127.0.0.1:{sink.port}"}}' if options.hops == 1 else
        "mta.routes={" + ", ".join(f'"d{n}.test"="smtp://127.0.0.{n % 200 + 1}:{sink.port}"' for n in range(options.hops)) + "}",
        "auth.plaintext_networks=['127.0.0.0/8']",
        "listeners.connections_per_address=10000",
        "listeners.new_connections_per_address=0",
        "listeners.new_connections_per_network=0",
        f"dkim.sign={str(options.signed).lower()}",
        f"msa.trusted.networks={['127.0.0.0/8'] if options.trusted else []}",
        *options.set,
    ]  # fmt: skip
    stack = RunningStack(folder / "ours", users=("alice",), settings=settings)
    if options.wrap:
        stack.wrap(options.wrap.split())
    try:
        yield stack.start()
    finally:
        stack.stop()


def main() -> None:
    """Run the rounds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--driver", required=True)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=10)
    parser.add_argument("--per-conn", default="1", help="messages per connection, 0: all; several by commas")
    parser.add_argument("--hops", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["ours", "postfix"])
    parser.add_argument("--signed", action="store_true", help="ours signs with DKIM, as it does by default")
    parser.add_argument("--trusted", action="store_true", help="ours asks for no login either")
    parser.add_argument("--wrap", default="", help="a program that starts our server")
    parser.add_argument("--set", action="append", default=[], help="a setting of ours")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        sink = Sink(folder)
        stack.callback(sink.stop)
        servers = []
        if options.only != "postfix":
            one = stack.enter_context(ours(folder, sink, options))
            login = [] if options.trusted else ["--user", one.address("alice"), "--password", "alice-secret"]
            servers.append(("mailstack", one.ports["submission"], one.pid(), login))
        if options.only != "ours":
            settings = {
                "default_transport": "smtp", "relayhost": f"[127.0.0.1]:{sink.port}",
                "smtpd_client_connection_count_limit": "0", "smtpd_client_connection_rate_limit": "0",
                "disable_dns_lookups": "yes",
            }  # fmt: skip
            theirs = stack.enter_context(postfix("peer.test", settings))
            pid = int((theirs.folder / "spool" / "pid" / "master.pid").read_text())
            servers.append(("postfix", theirs.port, pid, []))
        for _ in range(options.rounds):
            for per_conn in options.per_conn.split(","):
                for name, port, pid, login in servers:
                    measure(name, options, per_conn, port, pid, sink, login)


if __name__ == "__main__":
    main()
