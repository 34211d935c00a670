"""More of other people's programs, private to a test run: Exim, Sendmail, Dovecot's submission, Node's two.

What Debian does not install beside Postfix is unpacked into a folder by `.ci/run`, and found there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.dovecot import dovecot_conf, dovecot_running
from tests.peers import needs_root, open_folder, wait_for
from tests.running import PATIENCE, free_ports

PEERS = Path(os.environ.get("MAILSTACK_PEERS", Path(__file__).parent.parent / ".peers"))
LIBRARIES = PEERS / "usr" / "lib" / "x86_64-linux-gnu"  # of the unpacked packages
_UNPACK = "apt-get download {package} && dpkg -x {package}_*.deb .peers"
_QUIET = subprocess.DEVNULL


def unpacked(name: str, package: str) -> Path:
    """The file called `name` of a Debian package, unpacked into `PEERS`; skips the test where it is not."""
    path = PEERS / name
    if not path.exists():
        pytest.skip(f"{name} is not there; get it with: {_UNPACK.format(package=package)}")
    return path


def program(name: str, package: str, environment: dict[str, str] | None = None) -> Path:
    """The same for a program, which may lack a library here; `environment` is what it runs in, if not ours."""
    path = unpacked(name, package)
    said = subprocess.run(
        ["ldd", str(path)], capture_output=True, text=True, timeout=PATIENCE, env=environment
    ).stdout
    lacks = [line.split()[0] for line in said.splitlines() if "not found" in line]
    if lacks:
        pytest.skip(
            f"{name} needs {', '.join(lacks)}; get what it depends on with: apt-cache depends {package}"
        )
    return path


def node(module: str) -> dict[str, str]:
    """The environment in which Node finds `module`; skips the test where it does not."""
    folder = PEERS / "node" / "node_modules"
    if shutil.which("node") is None or not (folder / module).exists():
        pytest.skip(f"{module} is not there; get it with: npm install --prefix .peers/node {module}")
    return {**os.environ, "NODE_PATH": str(folder)}


class Exim:
    """Exim for exim.test on loopback: echo@ goes back to bob@example.test at the port `back`, others to files.

    It has no such user as no@, and wants later@ later. many@ goes on to bob+1@example.test and six more, and no
    message may have more than four recipients.
    """

    def __init__(self, folder: Path, back: int, certificate: Path, key: Path) -> None:
        found = program("usr/sbin/exim4", "exim4-daemon-light")
        if os.geteuid() != 0:
            pytest.skip("exim4 needs root to run")
        if subprocess.run(["id", "Debian-exim"], stdout=_QUIET, stderr=_QUIET).returncode:
            pytest.skip("exim4 needs its user; make it with: useradd --system Debian-exim")
        self.folder = folder
        [self.port] = free_ports(1)
        own = folder / "exim4"
        shutil.copy(found, own)  # it runs itself again as its user, who may not enter every folder
        for one, name in ((certificate, "cert.pem"), (key, "key.pem")):
            shutil.copyfile(one, folder / name)
        for name in ("spool", "mail"):
            (folder / name).mkdir()
        for path in (folder, *folder.iterdir()):
            if path != own:
                shutil.chown(path, "Debian-exim")
        self.conf = folder / "exim.conf"
        self.conf.write_text(_exim(folder, self.port, back))
        self.command = [str(own), "-C", str(self.conf)]

    def log(self) -> str:
        """What it has logged."""
        log = self.folder / "mainlog"
        return log.read_text(errors="replace") if log.exists() else ""

    def needs_limits(self) -> None:
        """Skip the test where this Exim is older than LIMITS (RFC 9422)."""
        said = subprocess.run(
            [self.command[0], "-bV"], capture_output=True, text=True, timeout=PATIENCE
        ).stdout
        if "ESMTP_Limits" not in said:
            pytest.skip("this exim4 has no LIMITS; get 4.98 from Debian's backports, as .ci/run does")


def _exim(folder: Path, port: int, back: int) -> str:
    return textwrap.dedent(f"""
        exim_path = {folder}/exim4
        primary_hostname = mx.exim.test
        spool_directory = {folder}/spool
        log_file_path = {folder}/%slog
        log_selector = +all
        daemon_smtp_ports = {port}
        local_interfaces = 127.0.0.1
        tls_certificate = {folder}/cert.pem
        tls_privatekey = {folder}/key.pem
        tls_advertise_hosts = *
        dsn_advertise_hosts = *
        prdr_enable = true
        keep_environment =
        acl_smtp_rcpt = check
        recipients_max = 4
        qualify_domain = exim.test
        begin acl
        check:
          deny local_parts = no
               message = no such user
          defer local_parts = later
               message = come again
          accept
        begin routers
        many:
          driver = redirect
          domains = exim.test
          local_parts = many
          data = {", ".join(f"bob+{number}@example.test" for number in range(1, 8))}
        echo:
          driver = redirect
          domains = exim.test
          local_parts = ^echo
          data = bob@example.test
        here:
          driver = accept
          domains = exim.test
          transport = file
        away:
          driver = manualroute
          route_list = * 127.0.0.1::{back}
          self = send
          transport = smtp
        begin transports
        file:
          driver = appendfile
          directory = {folder}/mail
          user = Debian-exim
        smtp:
          driver = smtp
          tls_verify_hosts =
        begin retry
        * * F,2h,5s
    """).lstrip()


@contextmanager
def exim(back: int, certificate: Path, key: Path) -> Iterator[Exim]:
    """A started Exim that is stopped at the end."""
    with open_folder() as folder:
        one = Exim(folder, back, certificate, key)
        with _running([*one.command, "-bdf", "-q1h"], one.port):
            yield one


class Sendmail:
    """Sendmail for sm.test on loopback: echo@ goes back to bob@example.test at the port `back`."""

    def __init__(self, folder: Path, back: int) -> None:
        self.program = program("usr/libexec/sendmail/sendmail", "sendmail-bin")
        macros = unpacked("usr/share/sendmail/cf/m4/cf.m4", "sendmail-cf")
        needs_root("m4", "m4", "unshare")
        self.folder = folder
        [self.port] = free_ports(1)
        (folder / "queue").mkdir()
        (folder / "aliases").write_text("postmaster: root\n")
        (folder / "cf.mc").write_text(_sendmail(folder, macros, self.port, back))
        made = subprocess.run(
            ["m4", f"-D_CF_DIR_={macros.parent.parent}/", "cf.mc"], cwd=folder, stdout=subprocess.PIPE,
            stderr=_QUIET, check=True, timeout=PATIENCE,
        )  # fmt: skip
        (folder / "cf").write_bytes(made.stdout)
        # It waits a minute for a host name with a dot in it, and long for name servers that do not answer.
        (folder / "hosts").write_text("127.0.0.1 localhost mx.sm.test\n")
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        apart = ["unshare", "--uts", "--mount", "sh", "-ec"]
        alone = "".join(f"mount --bind {folder}/{name} /etc/{name}; " for name in ("hosts", "resolv.conf"))
        if subprocess.run([*apart, alone], stdout=_QUIET, stderr=_QUIET, timeout=PATIENCE).returncode:
            pytest.skip("sendmail needs a machine that lets root unshare its host name and files")
        words = f"hostname mx.sm.test; exec {self.program} -C{folder}/cf -bD -X {folder}/said"
        self.command = [*apart, alone + words]

    def said(self) -> str:
        """All that it has said and heard by SMTP."""
        log = self.folder / "said"
        return log.read_text(errors="replace") if log.exists() else ""


def _sendmail(folder: Path, macros: Path, port: int, back: int) -> str:
    return textwrap.dedent(f"""
        include(`{macros}')dnl
        OSTYPE(`linux')dnl
        define(`confDOMAIN_NAME',`mx.sm.test')dnl
        define(`QUEUE_DIR',`{folder}/queue')dnl
        define(`STATUS_FILE',`{folder}/statistics')dnl
        define(`confPID_FILE',`{folder}/pid')dnl
        define(`ALIAS_FILE',`{folder}/aliases')dnl
        define(`confDONT_BLAME_SENDMAIL',`GroupWritableDirPathSafe')dnl
        define(`confDELIVER_BY_MIN',`0')dnl
        define(`confRUN_AS_USER',`root')dnl
        define(`confTRUSTED_USER',`root')dnl
        FEATURE(`no_default_msa')dnl
        FEATURE(`nocanonify')dnl
        FEATURE(`accept_unresolvable_domains')dnl
        FEATURE(`promiscuous_relay')dnl
        define(`SMTP_MAILER_ARGS', `TCP $h {back}')dnl
        define(`ESMTP_MAILER_ARGS', `TCP $h {back}')dnl
        DAEMON_OPTIONS(`Family=inet, Name=MTA, Addr=127.0.0.1, Port={port}')dnl
        MAILER(`smtp')dnl
        LOCAL_RULE_0
        Recho<@sm.test.>\t$#esmtp $@ [127.0.0.1] $: bob<@example.test.>
        R$*<@example.test.>\t$#esmtp $@ [127.0.0.1] $: $1<@example.test.>
        R$*<@sm.test.>\t$#error $@ 5.1.1 $: "550 no such user"
    """).lstrip()  # fmt: skip


@contextmanager
def sendmail(back: int) -> Iterator[Sendmail]:
    """A started Sendmail that is stopped at the end."""
    with open_folder() as folder:
        one = Sendmail(folder, back)
        with _running(one.command, one.port):
            yield one


class Gateway:
    """Dovecot's submission service, which passes on by BDAT: for `us@` to our submission, for `on@` to a port."""

    def __init__(self, folder: Path, certificate: Path, key: Path, submission: int, onward: int) -> None:
        needs_root("dovecot-submissiond", "dovecot", "doveadm")
        if not Path("/usr/lib/dovecot/submission").exists():
            pytest.skip("no dovecot-submissiond; get it with: apt-get install dovecot-submissiond")
        [self.port] = free_ports(1)
        self.folder = folder
        (folder / "run").mkdir()
        (folder / "mail").mkdir()
        shutil.chown(folder / "mail", "mail", "mail")
        ours = {
            "port": submission,
            "ssl": "starttls",
            "user": "alice@example.test",
            "password": "alice-secret",
        }
        fields = " ".join(f"userdb_submission_relay_{name}={value}" for name, value in ours.items())
        (folder / "users").write_text(
            f"us:{{PLAIN}}dove-secret:8:8::{folder}/mail::{fields}\n"
            f"on:{{PLAIN}}dove-secret:8:8::{folder}/mail::\n"
        )
        own = {"certificate": certificate, "key": key, "users": folder / "users", "port": self.port}
        self.conf = dovecot_conf(
            folder,
            _GATEWAY.format(onward=onward),
            old=_GATEWAY_OLD.format(**own),
            new=_GATEWAY_NEW.format(**own),
        )


_GATEWAY = """
protocols = submission
ssl = yes
hostname = gate.test
submission_relay_host = 127.0.0.1
submission_relay_port = {onward}
submission_relay_ssl_verify = no
service submission-login {{
  inet_listener submissions {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""
_GATEWAY_OLD = """
ssl_cert = <{certificate}
ssl_key = <{key}
mail_location = maildir:~/Maildir
userdb {{
  driver = passwd-file
  args = {users}
}}
passdb {{
  driver = passwd-file
  args = {users}
}}
service submission-login {{
  inet_listener submission {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""
_GATEWAY_NEW = """
ssl_server_cert_file = {certificate}
ssl_server_key_file = {key}
mail_driver = maildir
mail_path = ~/Maildir
passwd_file_path = {users}
userdb passwd-file {{
}}
passdb passwd-file {{
}}
service submission-login {{
  inet_listener submission {{
    listen = 127.0.0.1
    port = {port}
  }}
}}
"""


@contextmanager
def gateway(certificate: Path, key: Path, submission: int, onward: int) -> Iterator[Gateway]:
    """A started one that is stopped at the end."""
    with open_folder() as folder:
        one = Gateway(folder, certificate, key, submission, onward)
        with dovecot_running(one.conf, one.port):
            yield one


_SMTP_SERVER = """
const {SMTPServer} = require('smtp-server'), fs = require('fs');
const [port, cert, key, out] = process.argv.slice(1);
new SMTPServer({
  authOptional: true, disabledCommands: ['AUTH'], hideREQUIRETLS: false, hideDSN: false,
  cert: fs.readFileSync(cert), key: fs.readFileSync(key),
  onData(stream, session, done) {
    let size = 0;
    stream.on('data', piece => { size += piece.length; });
    stream.on('end', () => {
      fs.appendFileSync(out, JSON.stringify({secure: session.secure, size, ...session.envelope}) + '\\n');
      done(null, 'taken');
    });
  },
}).listen(+port, '127.0.0.1');
"""


@contextmanager
def smtp_server(certificate: Path, key: Path, out: Path) -> Iterator[int]:
    """Node's smtp-server: yields its port; each message taken is a line of JSON in `out`."""
    environment = node("smtp-server")
    [port] = free_ports(1)
    words = ["node", "-e", _SMTP_SERVER, str(port), str(certificate), str(key), str(out)]
    with _running(words, port, environment):
        yield port


@contextmanager
def _running(words: list[str], port: int, environment: dict[str, str] | None = None) -> Iterator[None]:
    """A server in the foreground, from its first greeting on; it and its children end with the block."""
    process = subprocess.Popen(
        words, stdin=_QUIET, stdout=_QUIET, stderr=_QUIET, env=environment, start_new_session=True
    )
    try:
        wait_for(port)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        give_up = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < give_up:
            time.sleep(0.02)
        process.kill()
        process.wait()
