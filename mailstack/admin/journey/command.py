"""`mailstack journey`: two servers for two domains, and one message from the one to the other.

Theory of operation. Nothing is simulated: both servers are made by the operator's commands (`init`, `user
add`, `serve`) in processes of their own, find each other through a name server of ours, and the message is
written, sent and read by clients that speak over sockets, TLS and a login. Only the port differs from the
world's: port 25 needs root, so `[mta] port` names the one that the other server has.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import click

from mailstack.admin.journey.client import Account
from mailstack.admin.journey.names import Names
from mailstack.admin.journey.screen import Screen
from mailstack.admin.journey.stacks import CannotStart, Ports, Stack
from mailstack.admin.journey.steps import STEPS, Journey, walk


def travel(screen: Screen, *, once: bool, keep: Path | None = None) -> int:
    """Walk the six steps, then, unless `once`, serve until SIGINT or SIGTERM; return the exit status."""
    with _folder(keep) as folder, ExitStack() as cleanup:
        try:
            journey = _set_up(screen, folder, cleanup)
        except CannotStart as error:
            screen.failed(str(error), _logs(folder))
            return 1
        if not walk(journey):
            return 1
        screen.note("")
        screen.seen(f"all {len(STEPS)} steps were seen to work")
        if not once:
            _serve(screen, folder, journey)
    return 0


def _set_up(screen: Screen, folder: Path, cleanup: ExitStack) -> Journey:
    domains = {"one.test": "alice", "two.test": "bob"}
    names = Names(list(domains))
    stacks = []
    for domain, user in domains.items():
        ports = Ports()
        cleanup.callback(ports.release)
        stacks.append(Stack(folder / domain, domain, user, ports))
    near, far = stacks
    screen.note(f"making two mail servers in {folder}: init, user add, serve (some seconds)")
    _together([near.make, far.make])
    for stack, other in ((near, far), (far, near)):
        cleanup.callback(stack.stop)
        loopback = 'mta.private_networks=["127.0.0.0/8"]'  # where both of them are
        stack.start([f'dns.nameservers=["{names.address}"]', f"mta.port={other.ports['smtp']}", loopback])
    for stack in stacks:
        stack.wait()
        screen.note(f"{stack.hostname} serves {stack.domain}, {stack.account.address} has an account")
    return Journey(screen, names, near, far)


def _together(jobs: Sequence[Callable[[], None]]) -> None:
    errors: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _serve(screen: Screen, folder: Path, journey: Journey) -> None:
    for stack in (journey.near, journey.far):
        screen.table(*settings_table(stack.account))
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stopping.append(number))
    screen.note(f"Both servers go on; their logs are {folder}/*.log. Ctrl-C ends them.")
    while not stopping:
        time.sleep(0.2)
        for stack in (journey.near, journey.far):
            if not stack.is_running():
                screen.failed(f"the server of {stack.domain} ended", stack.log()[-15:])
                return
    screen.note("stopping")


def settings_table(account: Account) -> tuple[str, list[tuple[str, ...]]]:
    """What to type into Thunderbird, Outlook or a telephone: a title, and rows with the headings first."""
    ports, name = account.ports, account.address
    return (
        f"{account.address} in Thunderbird or Outlook (trust {account.ca} first)",
        [
            ("", "Server", "Port", "Encryption", "User name", "Password"),
            ("IMAP", "localhost", str(ports["imaps"]), "SSL/TLS", name, account.password),
            ("or POP3", "localhost", str(ports["pop3s"]), "SSL/TLS", name, account.password),
            ("SMTP", "localhost", str(ports["submissions"]), "SSL/TLS", name, account.password),
            ("or SMTP", "localhost", str(ports["submission"]), "STARTTLS", name, account.password),
        ],
    )


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield keep.absolute()
        return
    made = Path(tempfile.mkdtemp(prefix="mailstack-journey-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _logs(folder: Path) -> list[str]:
    lines: list[str] = []
    for log in sorted(folder.glob("*.log")):
        lines += [f"{log.name}:", *log.read_text("utf-8", "replace").splitlines()[-15:]]
    return lines


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt  # so that SIGTERM, too, stops the servers and removes the folder


@click.command("journey")
@click.option(
    "--once", is_flag=True, help="Stop after the six steps; status 0 only if all were seen to work."
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep the servers' folders in DIR, instead of a temporary folder.",
)
def command(once: bool, keep: Path | None) -> None:
    """Show a message go from one mail server to another, then serve on for a mail program.

    Example: mailstack journey --once
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = travel(Screen(), once=once, keep=keep)
    except KeyboardInterrupt:
        status = 130
    sys.stdout.flush()
    sys.exit(status)
