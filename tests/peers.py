"""Postfix, private to a test run (it needs root), and what the other servers' modules beside this one share."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.running import PATIENCE, free_ports

_SERVICES = """
    pickup    unix  n - n 60 1 pickup
    cleanup   unix  n - n - 0 cleanup
    qmgr      unix  n - n 300 1 qmgr
    tlsmgr    unix  - - n 1000? 1 tlsmgr
    rewrite   unix  - - n - - trivial-rewrite
    bounce    unix  - - n - 0 bounce
    defer     unix  - - n - 0 bounce
    trace     unix  - - n - 0 bounce
    verify    unix  - - n - 1 verify
    proxymap  unix  - - n - - proxymap
    smtp      unix  - - n - - smtp
    relay     unix  - - n - - smtp
    showq     unix  n - n - - showq
    error     unix  - - n - - error
    retry     unix  - - n - - error
    lmtp      unix  - - n - - lmtp
    anvil     unix  - - n - 1 anvil
    scache    unix  - - n - 1 scache
    postlog   unix-dgram n - n - 1 postlogd
"""


def needs_root(package: str, *programs: str) -> None:
    """Skip the test, by name, where it cannot run."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; get it with: apt-get install {package}")
    if os.geteuid() != 0:
        pytest.skip(f"{package} needs root to run")


class Postfix:
    """A Postfix on loopback for `domain`, whose transport map and aliases the test gives.

    At `screened` is its postscreen(8), if it is given settings.
    """

    def __init__(self, folder: Path, domain: str, settings: Mapping[str, str]) -> None:
        needs_root("postfix", "postfix", "postqueue")
        self.folder = folder
        self.port, self.screened = free_ports(2)
        for name in ("etc", "spool", "data"):
            (folder / name).mkdir(parents=True)
        shutil.chown(folder / "data", "postfix")
        main = {
            "compatibility_level": "3.6",
            "queue_directory": str(folder / "spool"),
            "data_directory": str(folder / "data"),
            "maillog_file": str(self.log_file),
            "maillog_file_prefixes": str(folder),
            "myhostname": f"mx.{domain}",
            "mydestination": "",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "alias_maps": "",
            "local_recipient_maps": "",
            "virtual_alias_domains": domain,
            "smtputf8_enable": "yes",
            "default_transport": "error:nothing leaves this machine",
            "smtpd_recipient_restrictions": "permit_mynetworks, reject",
            "minimal_backoff_time": "5s",
            "maximal_backoff_time": "10s",
            "queue_run_delay": "5s",
            **settings,
        }
        (folder / "etc" / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in main.items()))
        services = textwrap.dedent(_SERVICES).lstrip()
        if any(key.startswith("postscreen") for key in settings):
            services += f"{self.screened}  inet  n - n - 1 postscreen\nsmtpd  pass  - - n - - smtpd\n"
            services += "dnsblog  unix  - - n - 0 dnsblog\ntlsproxy  unix  - - n - 0 tlsproxy\n"
        (folder / "etc" / "master.cf").write_text(f"{self.port}  inet  n - n - - smtpd\n{services}")

    @property
    def log_file(self) -> Path:
        """Where it writes its log."""
        return self.folder / "maillog"

    def log(self) -> str:
        """What it has logged."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def run(self, verb: str) -> None:
        """start or stop."""
        command = ["postfix", "-c", str(self.folder / "etc"), verb]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stdout + done.stderr + self.log()


@contextmanager
def postfix(domain: str, settings: Mapping[str, str]) -> Iterator[Postfix]:
    """A started Postfix that is stopped at the end."""
    with open_folder() as folder:
        one = Postfix(folder, domain, settings)
        one.run("start")
        try:
            wait_for(one.port)
            yield one
        finally:
            one.run("stop")


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, which pytest's own keep them from: these servers change users."""
    with tempfile.TemporaryDirectory(prefix="mailstack-peer-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def wait_for(port: int) -> None:
    """Return when somebody answers at this port of loopback."""
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < give_up, f"port {port} does not answer"
            time.sleep(0.05)
