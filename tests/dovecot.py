"""Dovecot, private to a test run: how 2.3 and 2.4 are configured, and its LMTP."""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers import needs_root, open_folder, wait_for
from tests.running import PATIENCE, free_ports

_QUIET = subprocess.DEVNULL  # Dovecot keeps its standard streams for good: a pipe would never end
_VERSIONS = "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n"  # which come first


@functools.cache
def is_2_3() -> bool:
    """Whether the Dovecot that is here is the old one."""
    program = shutil.which("dovecot") or "/usr/sbin/dovecot"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=PATIENCE).stdout
    return said.startswith("2.3.")


def dovecot_conf(folder: Path, settings: str, *, old: str, new: str) -> Path:
    """`folder`/dovecot.conf: the settings that every Dovecot knows, and those of 2.3 or of 2.4, which renamed many."""
    path = folder / "dovecot.conf"
    base = (
        f"base_dir = {folder}/run\nstate_dir = {folder}/run\nlog_path = {folder}/log\nfirst_valid_uid = 1\n"
    )
    own = old if is_2_3() else new
    path.write_text(("" if is_2_3() else _VERSIONS) + base + textwrap.dedent(settings) + textwrap.dedent(own))
    return path


class Dovecot:
    """Dovecot's LMTP for anybody at any domain, by TCP and by a socket in the file system.

    Where its Sieve is installed, mail for bdat@dove.test goes on to bob@example.test at the port `redirects_to`.
    """

    def __init__(self, folder: Path, redirects_to: int = 25) -> None:
        needs_root("dovecot-lmtpd", "dovecot", "doveadm")
        [self.port] = free_ports(1)
        self.mail = folder / "mail"
        self.socket = folder / "lmtp"
        self.mail.mkdir(parents=True)
        (folder / "run").mkdir()
        mail = pwd.getpwnam("mail")
        os.chown(self.mail, mail.pw_uid, mail.pw_gid)
        script = folder / "before.sieve"
        script.write_text(
            'require ["envelope"];\nif envelope "to" "bdat@dove.test" { redirect "bob@example.test"; }\n'
        )
        if self.has_sieve:
            # Compiled here: whom it delivers as may not write in this folder.
            subprocess.run(["sievec", str(script)], check=True, timeout=PATIENCE)
        common = _LMTP.format(socket=self.socket, redirects_to=redirects_to)
        old, new = (text.format(mail=self.mail, port=self.port) for text in (_LMTP_OLD, _LMTP_NEW))
        if self.has_sieve:
            old, new = old + _SIEVE_OLD.format(script=script), new + _SIEVE_NEW.format(script=script)
        self.conf = dovecot_conf(folder, common, old=old, new=new)

    @property
    def has_sieve(self) -> bool:
        """Whether Debian's dovecot-sieve is installed."""
        return shutil.which("sievec") is not None

    def messages(self, address: str) -> list[str]:
        """What lies in an address's new mail."""
        found = sorted((self.mail / address / "Maildir" / "new").glob("*"))
        return [path.read_text(errors="replace") for path in found]


_LMTP = """
protocols = lmtp
ssl = no
submission_host = 127.0.0.1:{redirects_to}
protocol lmtp {{
  postmaster_address = postmaster@dove.test
}}
service lmtp {{
  unix_listener {socket} {{
    mode = 0666
  }}
}}
service anvil {{
  chroot =
}}
"""
_LMTP_OLD = """
mail_location = maildir:~/Maildir
userdb {{
  driver = static
  args = uid=mail gid=mail home={mail}/%u allow_all_users=yes
}}
passdb {{
  driver = static
  args = nopassword=y
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""
_LMTP_NEW = """
mail_driver = maildir
mail_path = ~/Maildir
userdb static {{
  allow_all_users = yes
  fields {{
    uid = mail
    gid = mail
    home = {mail}/%{{user}}
  }}
}}
passdb static {{
  fields {{
    nopassword = yes
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    listen = 127.0.0.1
    port = {port}
  }}
}}
"""
_SIEVE_OLD = """
protocol lmtp {{
  mail_plugins = sieve
}}
plugin {{
  sieve_before = {script}
}}
"""
_SIEVE_NEW = """
protocol lmtp {{
  mail_plugins {{
    sieve = yes
  }}
}}
sieve_script before {{
  type = before
  path = {script}
}}
"""


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
    words = ["dovecot", "-c", str(conf)]
    subprocess.run(words, stdout=_QUIET, stderr=_QUIET, timeout=PATIENCE, check=True)
    try:
        wait_for(port)
        yield
    finally:
        words = ["doveadm", "-c", str(conf), "stop"]
        subprocess.run(words, stdout=_QUIET, stderr=_QUIET, timeout=PATIENCE)
