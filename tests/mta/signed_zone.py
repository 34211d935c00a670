"""A signed zone on loopback: a DNSSEC chain of its own, served and validated by a real unbound."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.running import PATIENCE, free_ports

NEEDED = ("unbound", "ldns-keygen", "ldns-signzone")


def missing() -> str:
    """What is not installed of what this needs; empty: all is there."""
    return ", ".join(program for program in NEEDED if find(program) is None)


def find(program: str) -> str | None:
    """Where a program lies; daemons are often not in a user's PATH."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class SignedZones:
    """Zones `signed` and `plain` (name to zone file lines), and what breaks them; `port` answers."""

    def __init__(self, folder: Path, signed: dict[str, str], plain: dict[str, str]) -> None:
        self._folder = folder
        self._anchors: list[str] = []
        self._zones = [self._sign(name, text) for name, text in signed.items()]
        self._zones += [(name, self._write(name, text)) for name, text in plain.items()]
        [self.port] = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None

    def forge(self, name: str, old: str, new: str) -> None:
        """Alter a signed zone behind its signatures: what an attacker would do."""
        file = dict(self._zones)[name]
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def start(self) -> None:
        """Serve; return once it answers."""
        config = self._folder / "unbound.conf"
        config.write_text(self._config())
        program = find("unbound")
        assert program is not None
        log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen([program, "-d", "-c", str(config)], stdout=log, stderr=log)
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up and self._process.poll() is None:
            if self._answers():
                return
            time.sleep(0.05)  # in setUp, before anything is measured
        raise AssertionError((self._folder / "log").read_text())

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
            query.settimeout(0.1)
            query.connect(("127.0.0.1", self.port))
            try:
                query.send(b"\0\1\1\0\0\1\0\0\0\0\0\0\0\0\2\0\1")
                return bool(query.recv(512))
            except OSError:
                return False

    def _write(self, name: str, text: str) -> Path:
        file = self._folder / f"{name}.zone"
        header = f"$ORIGIN {name}.\n$TTL 60\n@ SOA ns.{name}. x.{name}. 1 3600 600 86400 5\n"
        file.write_text(f"{header}@ NS ns.{name}.\nns A 127.0.0.1\n{text}")
        return file

    def _sign(self, name: str, text: str) -> tuple[str, Path]:
        file = self._write(name, text)
        key = self._run("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", f"{name}.").strip()
        self._run("ldns-signzone", str(file), str(self._folder / key))
        self._anchors.append(str(self._folder / f"{key}.ds"))
        return name, Path(f"{file}.signed")

    def _run(self, program: str, *arguments: str) -> str:
        path = find(program)
        assert path is not None
        done = subprocess.run(
            [path, *arguments], cwd=self._folder, check=True, capture_output=True, text=True
        )
        return done.stdout

    def _config(self) -> str:
        user = 'username: ""\n  chroot: ""\n  pidfile: ""\n  use-syslog: no\n  do-daemonize: no'
        server = (
            f'server:\n  interface: 127.0.0.1@{self.port}\n  {user}\n  directory: "{self._folder}"\n'
            '  module-config: "validator iterator"\n  num-threads: 1\n  local-zone: "test." nodefault\n'
            '  do-not-query-localhost: no\n  val-log-level: 1\n  do-ip6: no\n  root-hints: ""\n'
        )
        server += "".join(f'  trust-anchor-file: "{anchor}"\n' for anchor in self._anchors)
        for name, file in self._zones:
            server += f'auth-zone:\n  name: "{name}."\n  zonefile: "{file}"\n'
            server += "  for-downstream: no\n  for-upstream: yes\n  fallback-enabled: no\n"
        return server + "remote-control:\n  control-enable: no\n"
