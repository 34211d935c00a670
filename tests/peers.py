"""Other people's servers, each private to a test run: Postfix (needs root) and Dovecot's LMTP."""

from __future__ import annotations

import os
import pwd
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
            _wait_for(one.port)
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


class Dovecot:
    """Dovecot's LMTP for anybody at any domain, by TCP and by a socket in the file system.

    Where its Sieve is installed, mail for bdat@dove.test goes on to bob@example.test at the port `redirects_to`.
    """

    def __init__(self, folder: Path, redirects_to: int = 25) -> None:
        needs_root("dovecot-lmtpd", "dovecot", "doveadm")
        self.folder = folder
        [self.port] = free_ports(1)
        self.mail = folder / "mail"
        self.socket = folder / "lmtp"
        self.mail.mkdir(parents=True)
        (folder / "run").mkdir()
        mail = pwd.getpwnam("mail")
        os.chown(self.mail, mail.pw_uid, mail.pw_gid)
        (folder / "before.sieve").write_text(
            'require ["envelope"];\nif envelope "to" "bdat@dove.test" { redirect "bob@example.test"; }\n'
        )
        if self.has_sieve:
            # Compiled here: whom it delivers as may not write in this folder.
            subprocess.run(["sievec", str(folder / "before.sieve")], check=True, timeout=PATIENCE)
        self.conf = folder / "dovecot.conf"
        self.conf.write_text(
            textwrap.dedent(f"""
            base_dir = {folder}/run
            state_dir = {folder}/run
            log_path = {folder}/log
            protocols = lmtp
            ssl = no
            first_valid_uid = 1
            mail_location = maildir:~/Maildir
            userdb {{
              driver = static
              args = uid=mail gid=mail home={self.mail}/%u allow_all_users=yes
            }}
            passdb {{
              driver = static
              args = nopassword=y
            }}
            protocol lmtp {{
              postmaster_address = postmaster@dove.test
              {self._sieve()}
            }}
            submission_host = 127.0.0.1:{redirects_to}
            plugin {{
              sieve_before = {folder}/before.sieve
            }}
            service lmtp {{
              inet_listener lmtp {{
                address = 127.0.0.1
                port = {self.port}
              }}
              unix_listener {self.socket} {{
                mode = 0666
              }}
            }}
            service anvil {{
              chroot =
            }}
            """)
        )

    @property
    def has_sieve(self) -> bool:
        """Whether Debian's dovecot-sieve is installed."""
        return shutil.which("sievec") is not None

    def _sieve(self) -> str:
        return "mail_plugins = sieve" if self.has_sieve else ""

    def messages(self, address: str) -> list[str]:
        """What lies in an address's new mail."""
        found = sorted((self.mail / address / "Maildir" / "new").glob("*"))
        return [path.read_text(errors="replace") for path in found]


@contextmanager
def dovecot(redirects_to: int = 25) -> Iterator[Dovecot]:
    """A started Dovecot that is stopped at the end."""
    with open_folder() as folder:
        one = Dovecot(folder, redirects_to)
        with dovecot_running(one.conf, one.port):
            yield one


@contextmanager
def dovecot_running(conf: Path, port: int) -> Iterator[None]:
    """Dovecot by this configuration, from the time its port answers to the end of the block."""
    quiet = subprocess.DEVNULL  # it keeps its standard streams for good: a pipe would never end
    words = ["dovecot", "-c", str(conf)]
    subprocess.run(words, stdout=quiet, stderr=quiet, timeout=PATIENCE, check=True)
    try:
        _wait_for(port)
        yield
    finally:
        words = ["doveadm", "-c", str(conf), "stop"]
        subprocess.run(words, stdout=quiet, stderr=quiet, timeout=PATIENCE)


def _wait_for(port: int) -> None:
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < give_up, f"port {port} does not answer"
            time.sleep(0.05)
