"""A PostgreSQL server for the tests: a throw-away one in a temporary folder, on a Unix socket, without a port.

`fresh_database()` starts it at the first call of a process, and gives the URL of a new, empty database each time.
Where no server programs are installed it raises SkipTest, which says what to install. PostgreSQL refuses to run as
root; for root it runs as the user `postgres`, or else `nobody`.
"""

from __future__ import annotations

import atexit
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

_START_WITHIN = 120.0  # seconds
_numbers = itertools.count(1)
_server: _Server | None = None


def fresh_database() -> str:
    """The SQLAlchemy URL of a new, empty database; raise unittest.SkipTest where there can be none."""
    global _server
    if importlib.util.find_spec("psycopg") is None:
        raise unittest.SkipTest("PostgreSQL: psycopg is not installed (pip install 'psycopg[binary]')")
    if _server is None:
        _server = _Server(_programs())
        atexit.register(_server.stop)
    return _server.new_database()


def _programs() -> Path:
    """The folder of initdb and postgres, the newest there is."""
    found = shutil.which("postgres")
    folders = [Path(found).resolve().parent] if found else []
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(versions, key=lambda path: float(path.parent.name), reverse=True)
    for folder in folders:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise unittest.SkipTest("PostgreSQL: no server programs (Debian: apt install postgresql)")


class _Server:
    def __init__(self, programs: Path) -> None:
        self._as: dict[str, Any] = _other_user()
        self._folder = Path(tempfile.mkdtemp(prefix="mailstack-pg-", dir="/tmp"))
        if self._as:
            os.chown(self._folder, self._as["user"], self._as["group"])
        data = self._folder / "data"
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        initdb = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        made = subprocess.run(
            initdb,
            capture_output=True,
            cwd="/",
            env=environment,
            check=False,
            stdin=subprocess.DEVNULL,
            **self._as,
        )
        if made.returncode:
            raise RuntimeError(f"initdb: {made.stderr.decode()}")
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": self._folder,
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "max_connections": "60",
            "shared_buffers": "16MB",
        }
        options = [text for key, value in settings.items() for text in ("-c", f"{key}={value}")]
        self._log = (self._folder / "log").open("wb")
        # A run that is killed comes to no end of its own: nobody else would stop it.
        bound = ["setpriv", "--pdeathsig", "INT"] if shutil.which("setpriv") else []
        self._process = subprocess.Popen(
            [*bound, programs / "postgres", "-D", data, *options],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd="/",
            env=environment,
            **self._as,
        )
        self._wait()

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self._folder}"

    def new_database(self) -> str:
        import psycopg

        name = f"test_{next(_numbers)}"
        with psycopg.connect(f"host={self._folder} user=postgres dbname=postgres", autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def _wait(self) -> None:
        import psycopg

        until = time.monotonic() + _START_WITHIN
        while True:
            try:
                psycopg.connect(f"host={self._folder} user=postgres dbname=postgres").close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((self._folder / "log").read_text()) from None
                time.sleep(0.05)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)  # its fast shutdown: open connections do not keep it
        try:
            self._process.wait(_START_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _other_user() -> dict[str, Any]:
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise unittest.SkipTest("PostgreSQL: it refuses to run as root, and there is no other user")
