"""Debian's mail clients against the running stack, each as a person would set it up."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path

from tests.clients.conftest import needs
from tests.clients.test_libraries import imap, letter, submit
from tests.running import PATIENCE, RunningStack

LOCALE = {"LC_ALL": "C.UTF-8"}  # of every client, whatever ours is


def ran(
    *words: str, stdin: str = "", good: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a client; what it printed, its warnings apart from it."""
    done = subprocess.run(
        words,
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        env={**os.environ, **LOCALE, **environment},
    )
    assert not good or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def run(*words: str, stdin: str = "", good: bool = True, **environment: str) -> str:
    """Run a client; return all it printed."""
    done = ran(*words, stdin=stdin, good=good, **environment)
    return done.stdout + done.stderr


def subjects(stack: RunningStack, user: str, mailbox: str = "INBOX") -> set[str]:
    """The subjects in a mailbox."""
    with imap(stack, user) as client:
        client.select_folder(mailbox, readonly=True)
        uids = client.search("ALL")
        envelopes = client.fetch(uids, ["ENVELOPE"]).values() if uids else ()
        return {(item[b"ENVELOPE"].subject or b"").decode() for item in envelopes}


@needs("curl")
def test_curl_sends_lists_reads_and_deletes(program: str, stack: RunningStack, tmp_path: Path) -> None:
    ca = [
        "--silent",
        "--show-error",
        "--cacert",
        str(stack.ca),
        "--user",
        f"{stack.address('curl')}:curl-secret",
    ]
    mail = tmp_path / "mail"
    mail.write_text("From: curl@example.test\r\nTo: curl@example.test\r\nSubject: from curl\r\n\r\nHello\r\n")
    smtp, smtps = stack.ports["submission"], stack.ports["submissions"]
    for url in (f"smtp://localhost:{smtp}", f"smtps://localhost:{smtps}"):
        run(program, *ca, "--ssl-reqd", url, "--mail-from", stack.address("curl"), "--mail-rcpt", stack.address("curl"),
            "--upload-file", str(mail))  # fmt: skip
    imaps = f"imaps://localhost:{stack.ports['imaps']}"
    assert "Archive" in run(program, *ca, imaps)
    assert "* SEARCH 1 2" in run(program, *ca, f"{imaps}/INBOX", "--request", "SEARCH SUBJECT curl")
    assert "Subject: from curl" in run(program, *ca, f"{imaps}/INBOX;UID=1")
    run(program, *ca, f"{imaps}/Drafts", "--upload-file", str(mail))
    assert subjects(stack, "curl", "Drafts") == {"from curl"}
    pop3 = f"pop3://localhost:{stack.ports['pop3']}"
    assert run(program, *ca, "--ssl-reqd", pop3).count("\n") == 2
    assert "Hello" in run(program, *ca, "--ssl-reqd", f"{pop3}/1")
    run(program, *ca, "--ssl-reqd", f"{pop3}/1", "--request", "DELE", "--list-only")
    assert run(program, *ca, "--ssl-reqd", pop3).count("\n") == 1


@needs("swaks")
def test_swaks_in_all_its_ways(program: str, stack: RunningStack) -> None:
    login = ["--auth-user", stack.address("swaks"), "--auth-password", "swaks-secret"]
    both = ["--from", stack.address("swaks"), "--to", stack.address("swaks"), "--server", "127.0.0.1"]
    ways = [
        ["--port", str(stack.ports["submission"]), "--tls", "--auth", "PLAIN", *login],
        ["--port", str(stack.ports["submission"]), "--tls", "--auth", "LOGIN", *login],
        ["--port", str(stack.ports["submissions"]), "--tls-on-connect", "--auth", *login],
        ["--port", str(stack.ports["smtp"])],
        ["--port", str(stack.ports["smtp"]), "--tls", "--pipeline"],
    ]
    for number, way in enumerate(ways):
        run(program, *both, *way, "--header", f"Subject: swaks {number}", "--h-From", stack.address("swaks"))
    assert subjects(stack, "swaks") == {f"swaks {number}" for number in range(len(ways))}
    refused = run(
        program, *both, "--port", str(stack.ports["submission"]), "--auth", "PLAIN", *login, good=False
    )
    assert "*** Host did not advertise authentication" in refused
    assert "\n<-  235" not in refused  # a reply: the port, which swaks prints too, may hold these digits


@needs("msmtp")
def test_msmtp_as_sendmail(program: str, stack: RunningStack, tmp_path: Path) -> None:
    settings = tmp_path / "msmtprc"
    for number, (port, starttls) in enumerate((("submission", "on"), ("submissions", "off"))):
        settings.write_text(
            f"account default\nhost localhost\nport {stack.ports[port]}\nfrom {stack.address('msmtp')}\n"
            f"auth on\nuser {stack.address('msmtp')}\npassword msmtp-secret\n"
            f"tls on\ntls_starttls {starttls}\ntls_trust_file {stack.ca}\n"
        )
        settings.chmod(0o600)
        text = f"From: {stack.address('msmtp')}\nTo: {stack.address('msmtp')}\nSubject: msmtp {number}\n\n.\nbye\n"
        run(program, "-C", str(settings), stack.address("msmtp"), stdin=text)
    assert subjects(stack, "msmtp") == {"msmtp 0", "msmtp 1"}


@needs("mbsync")
def test_mbsync_both_ways(program: str, stack: RunningStack, tmp_path: Path) -> None:
    submit(stack, "alice", letter(stack, "alice", "mbsync", "down"))
    local = tmp_path / "mail"
    local.mkdir()
    settings = tmp_path / "mbsyncrc"
    settings.write_text(
        f"IMAPStore far\nHost localhost\nPort {stack.ports['imaps']}\nUser {stack.address('mbsync')}\n"
        f"Pass mbsync-secret\nSSLType IMAPS\nCertificateFile {stack.ca}\nAuthMechs PLAIN\n\n"
        f"MaildirStore near\nPath {local}/\nInbox {local}/INBOX\nSubFolders Verbatim\n\n"
        "Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n"
    )
    run(program, "-c", str(settings), "-a")
    [down] = (local / "INBOX" / "new").iterdir()
    assert "Subject: down" in down.read_text()
    (local / "INBOX" / "cur" / "1.local:2,S").write_text("Subject: up\n\nwritten here\n")
    down.rename(local / "INBOX" / "cur" / f"{down.name.partition(':')[0]}:2,FS")
    run(program, "-c", str(settings), "-a")
    assert subjects(stack, "mbsync") == {"down", "up"}
    with imap(stack, "mbsync") as client:
        client.select_folder("INBOX")
        [uid] = client.search("FLAGGED")
        client.delete_messages([uid])
        client.expunge()
    run(program, "-c", str(settings), "-a")
    left = [path.read_text() for path in (local / "INBOX" / "cur").iterdir()]
    assert len(left) == 1
    assert "Subject: up" in left[0]


@needs("fetchmail")
def test_fetchmail_by_pop3_and_imap(program: str, stack: RunningStack, tmp_path: Path) -> None:
    for number, protocol in enumerate(("pop3", "imap")):
        submit(stack, "alice", letter(stack, "alice", "fetchmail", f"fetched {number}"))
        got = tmp_path / "got"
        settings = tmp_path / "fetchmailrc"
        settings.write_text(
            f"poll localhost protocol {protocol} port {stack.ports[protocol]}\n"
            f" user '{stack.address('fetchmail')}' password 'fetchmail-secret'\n"
            f" sslproto 'auto' sslcertck sslcertfile '{stack.ca}' mda 'cat >> {got}'\n"
        )
        settings.chmod(0o600)
        run(program, "-f", str(settings), "--pidfile", str(tmp_path / "pid"), FETCHMAILHOME=str(tmp_path))
        assert f"Subject: fetched {number}" in got.read_text()
        assert subjects(stack, "fetchmail") == set()


@needs("mutt")
def test_mutt_sends_and_reads(program: str, stack: RunningStack, tmp_path: Path) -> None:
    settings = tmp_path / "muttrc"
    user = stack.address("mutt").replace("@", "%40")
    settings.write_text(
        f'set from="{stack.address("mutt")}"\nset ssl_ca_certificates_file="{stack.ca}"\nset ssl_starttls=yes\n'
        f'set ssl_force_tls=yes\nset smtp_url="smtps://{user}:mutt-secret@localhost:{stack.ports["submissions"]}/"\n'
        f'set folder="imaps://{user}:mutt-secret@localhost:{stack.ports["imaps"]}/"\nset spoolfile="+INBOX"\n'
        f'set record="+Sent"\nset header_cache=""\nset certificate_file="{tmp_path}/certs"\nset wait_key=no\n'
        "set copy=yes\nset timeout=1\nset sleep_time=0\n"
    )
    run(
        program,
        "-F",
        str(settings),
        "-s",
        "from mutt",
        stack.address("mutt"),
        stdin="Hello\n",
        HOME=str(tmp_path),
    )
    assert subjects(stack, "mutt") == {"from mutt"}
    assert subjects(stack, "mutt", "Sent") == {"from mutt"}
    out = tmp_path / "out"
    keys = f"<pipe-message>cat > {out}<enter><display-message><exit><flag-message><sync-mailbox><quit>"
    in_terminal([program, "-n", "-F", str(settings), "-e", f'push "{keys}"'], HOME=str(tmp_path))
    assert "Subject: from mutt" in out.read_text()
    with imap(stack, "mutt") as client:
        client.select_folder("INBOX", readonly=True)
        assert client.search(["SEEN", "FLAGGED"]) == [1]


@needs("s-nail")
def test_s_nail_reads_by_imap(program: str, stack: RunningStack, tmp_path: Path) -> None:
    submit(stack, "alice", letter(stack, "alice", "snail", "slowly"))
    user = stack.address("snail").replace("@", "%40")
    options = ["-n", "-S", "v15-compat", "-S", f"tls-ca-file={stack.ca}", "-S", "imap-auth=login"]
    mailbox = f"imaps://{user}:snail-secret@localhost:{stack.ports['imaps']}/INBOX"
    shown = run(program, *options, "-S", "nopager", "-f", mailbox, stdin="type 1\nexit\n", HOME=str(tmp_path))
    assert "slowly" in shown


def in_terminal(words: list[str], types: Sequence[tuple[bytes, bytes]] = (), **environment: str) -> None:
    """Run a program that wants a screen until it ends by itself.

    `types`: what to wait for on the screen, and then to type, one after the other.
    """
    waiting = list(types)
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))  # ncurses since 6.5 takes no terminal without a size
    process = subprocess.Popen(
        ["setsid", "--ctty", *words],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, **LOCALE, "TERM": "xterm", **environment},
    )
    os.close(terminal)
    give_up = time.monotonic() + PATIENCE
    shown = last = b""
    try:
        while time.monotonic() < give_up:
            if select.select([screen], [], [], 0.5)[0]:
                piece = os.read(screen, 65536)
                if b"\x1b[c" in last + piece:  # what are you? aerc ends only when it has been told
                    os.write(screen, b"\x1b[?1;2c")
                shown, last = shown + piece, piece[-2:]
            if waiting and waiting[0][0] in shown:
                os.write(screen, waiting.pop(0)[1])
                shown = b""
    except OSError:  # the program has ended and closed its terminal
        assert not waiting, f"{words[0]} ended before {waiting[0][0]!r}: {shown[-2000:]!r}"
        return
    finally:
        os.close(screen)
        process.wait()
    raise AssertionError(f"{words[0]} did not end: {shown[-2000:]!r}")
