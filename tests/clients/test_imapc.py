"""Dovecot as a client (imapc): its doveadm works on a mailbox of ours, and asks for SAVEDATE (RFC 8514)."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

from tests.clients.test_libraries import imap
from tests.clients.test_programs import run
from tests.dovecot import dovecot_conf, is_2_3
from tests.peers import needs_root, open_folder
from tests.running import RunningStack

INTERNAL = datetime.datetime(2020, 2, 3, 12, tzinfo=datetime.UTC)


def _conf(folder: Path, stack: RunningStack, user: str) -> Path:
    """The account; our certificate is not looked at, since it resolves no name without a server of its own."""
    account = f"""
        ssl = no
        mail_uid = mail
        mail_gid = mail
        imapc_host = 127.0.0.1
        imapc_port = {stack.ports["imaps"]}
        imapc_ssl = imaps
        imapc_user = {stack.address(user)}
        imapc_password = {user}-secret
        imapc_rawlog_dir = {folder}/said
    """
    old = f"""
        mail_location = imapc:{folder}/home/imapc
        imapc_ssl_verify = no
        imapc_features = rfc822.size fetch-headers search modseq fetch-bodystructure
    """
    new = f"""
        mail_driver = imapc
        mail_path = {folder}/home/imapc
        ssl_client_require_valid_cert = no
    """
    return dovecot_conf(folder, account, old=old, new=new)


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
        fetch = ["fetch"] if is_2_3() else ["fetch", "--no-userdb-lookup"]
        words = ["doveadm", "-c", str(_conf(folder, stack, "imapc")), "-f", "tab", *fetch]
        search = ("mailbox", "INBOX", "savedsince", "2d")
        environment = {"HOME": str(folder / "home"), "USER": "mail", "TZ": "UTC"}
        out = run(*words, "date.received date.saved text", *search, **environment)
        said = "".join(path.read_text(errors="replace") for path in (folder / "said").glob("*.out"))
    [line] = [line for line in out.splitlines() if line.startswith("2020-02-03")]
    received, saved, text = line.split("\t")[:3]
    assert received == "2020-02-03 12:00:00"
    assert abs(datetime.date.fromisoformat(saved[:10]) - today) <= datetime.timedelta(1)
    assert "Subject: old" in text
    assert "SAVEDATE)" in said
