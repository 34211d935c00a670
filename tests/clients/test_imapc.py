"""Dovecot as a client (imapc): its doveadm works on a mailbox of ours, and asks for SAVEDATE (RFC 8514)."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

from tests.clients.test_libraries import imap
from tests.clients.test_programs import run
from tests.peers import needs_root, open_folder
from tests.running import RunningStack

INTERNAL = datetime.datetime(2020, 2, 3, 12, tzinfo=datetime.UTC)


def _configuration(folder: Path, stack: RunningStack, user: str) -> str:
    settings = {
        "base_dir": f"{folder}/run",
        "log_path": f"{folder}/log",
        "ssl": "no",
        "mail_uid": "mail",
        "mail_gid": "mail",
        "first_valid_uid": "1",
        "mail_location": f"imapc:{folder}/home/imapc",
        "imapc_host": "127.0.0.1",
        "imapc_port": stack.ports["imaps"],
        "imapc_ssl": "imaps",
        "imapc_ssl_verify": "no",  # it resolves no name without a server of its own
        "imapc_user": stack.address(user),
        "imapc_password": f"{user}-secret",
        "imapc_features": "rfc822.size fetch-headers search modseq fetch-bodystructure",
        "imapc_rawlog_dir": f"{folder}/said",
    }
    return "".join(f"{name} = {value}\n" for name, value in settings.items())


def test_when_a_message_was_saved(stack: RunningStack) -> None:
    """Not when it arrived, which is INTERNALDATE: it was put in by hand."""
    needs_root("dovecot-core", "doveadm")
    stack.add_user("imapc")
    with imap(stack, "imapc") as client:
        client.append("INBOX", b"Subject: old\r\n\r\nan old letter\r\n", msg_time=INTERNAL)
    today = datetime.date.today()
    with open_folder() as folder:
        for name in ("run", "home", "said"):
            (folder / name).mkdir()
            shutil.chown(folder / name, "mail", "mail")
        (folder / "conf").write_text(_configuration(folder, stack, "imapc"))
        words = ("doveadm", "-c", str(folder / "conf"), "-f", "tab", "fetch", "date.received date.saved text")
        out = run(
            *words, "mailbox", "INBOX", "savedsince", "2d", HOME=str(folder / "home"), USER="mail", TZ="UTC"
        )
        said = "".join(path.read_text(errors="replace") for path in (folder / "said").glob("*.out"))
    [line] = [line for line in out.splitlines() if line.startswith("2020-02-03")]
    received, saved, text = line.split("\t")[:3]
    assert received == "2020-02-03 12:00:00"
    assert abs(datetime.date.fromisoformat(saved[:10]) - today) <= datetime.timedelta(1)
    assert "Subject: old" in text
    assert "SAVEDATE)" in said
