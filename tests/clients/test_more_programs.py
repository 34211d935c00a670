"""More of Debian's clients against the running stack, each with the extensions that it knows.

All are one user's; each has a mailbox of its own.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import aioimaplib

from tests.clients.conftest import needs
from tests.clients.test_libraries import imap, letter, submit, trusting
from tests.clients.test_programs import in_terminal, run, subjects
from tests.running import PATIENCE, RunningStack

USER = "more"


def filled(stack: RunningStack, mailbox: str, *titles: str) -> None:
    """A new mailbox with messages of these subjects."""
    with imap(stack, USER) as client:
        client.create_folder(mailbox)
        client.subscribe_folder(mailbox)
        for title in titles:
            client.append(mailbox, bytes(letter(stack, USER, USER, title)))


@needs("neomutt")
def test_neomutt_resynchronizes_its_cache(program: str, stack: RunningStack, tmp_path: Path) -> None:
    """CONDSTORE and QRESYNC: the second time only what has changed is told."""
    filled(stack, "neomutt", "one", "two", "three", "four")
    settings, cache, log = tmp_path / "neomuttrc", tmp_path / "cache", tmp_path / "log"
    cache.mkdir()
    settings.write_text(
        f'set folder="imaps://localhost:{stack.ports["imaps"]}/"\nset spoolfile="+neomutt"\n'
        f'set imap_user="{stack.address(USER)}"\nset imap_pass="{USER}-secret"\n'
        f'set ssl_ca_certificates_file="{stack.ca}"\nset certificate_file="{tmp_path}/certificates"\n'
        f'set header_cache="{cache}"\nset imap_condstore=yes\nset imap_qresync=yes\n'
        "set imap_idle=yes\nset wait_key=no\nset sleep_time=0\nset timeout=1\n"
    )
    start = [program, "-n", "-F", str(settings), "-d", "3", "-l", str(log)]
    out = tmp_path / "out"
    in_terminal([*start, "-e", 'push "<quit>"'], HOME=str(tmp_path))
    with imap(stack, USER) as client:
        client.select_folder("neomutt")
        client.add_flags([2], [b"\\Flagged"])
        client.append("neomutt", bytes(letter(stack, USER, USER, "five")))
    keys = f"<tag-pattern>~A<enter><tag-prefix><pipe-message>cat >> {out}<enter><quit>"
    in_terminal([*start, "-e", f'push "{keys}"'], HOME=str(tmp_path))
    assert out.read_text().count("Subject: ") == 5
    conversation = (tmp_path / "log0").read_text(errors="replace")
    for said in ("ENABLE QRESYNC", "(FLAGS) (CHANGEDSINCE ", "Message UID 2 updated"):
        assert said in conversation, said
    assert "QRESYNC failed" not in conversation
    with imap(stack, USER) as client:
        client.select_folder("neomutt")
        client.delete_messages([1, 3])
        client.expunge()
    out.unlink()
    in_terminal(
        [*start, "-e", f'push "{keys}"'], HOME=str(tmp_path)
    )  # hears VANISHED, and then reads all again
    found = [line for line in out.read_text().splitlines() if line.startswith("Subject:")]
    assert sorted(found) == ["Subject: five", "Subject: four", "Subject: two"]


@needs("offlineimap")
def test_offlineimap_both_ways(program: str, stack: RunningStack, tmp_path: Path) -> None:
    filled(stack, "offline", "down")
    local = tmp_path / "mail"
    settings = tmp_path / "offlineimaprc"
    settings.write_text(
        f"[general]\naccounts = a\nmetadata = {tmp_path}/state\nui = quiet\n"
        "[Account a]\nlocalrepository = near\nremoterepository = far\n"
        f"[Repository near]\ntype = Maildir\nlocalfolders = {local}\n"
        f"[Repository far]\ntype = IMAP\nremotehost = localhost\nremoteport = {stack.ports['imaps']}\nssl = yes\n"
        f"remoteuser = {stack.address(USER)}\nremotepass = {USER}-secret\nsslcacertfile = {stack.ca}\n"
        "folderfilter = lambda name: name == 'offline'\n"
    )
    sync = (program, "-o", "-c", str(settings))
    run(*sync)
    [down] = [path for path in (local / "offline").glob("*/*") if path.is_file()]
    assert "Subject: down" in down.read_text()
    down.rename(local / "offline" / "cur" / f"{down.name.partition(':')[0]}:2,F")
    (local / "offline" / "new" / "1.local").write_text(
        "From: a@example.test\nDate: Sun, 22 Nov 2026 10:00:00 +0000\nMessage-ID: <up@here>\nSubject: up\n\nHello\n"
    )
    run(*sync)
    assert subjects(stack, USER, "offline") == {"down", "up"}
    with imap(stack, USER) as client:
        client.select_folder("offline")
        [uid] = client.search("FLAGGED")
        client.delete_messages([uid])
        client.expunge()
    run(*sync)
    [left] = [path for path in (local / "offline").glob("*/*") if path.is_file()]
    assert "Subject: up" in left.read_text()


@needs("getmail")
def test_getmail_by_pop3_and_imap(program: str, stack: RunningStack, tmp_path: Path) -> None:
    for protocol, port in (("POP3", "pop3s"), ("IMAP", "imaps")):
        submit(stack, "alice", letter(stack, "alice", USER, f"by {protocol}"))
        got = tmp_path / protocol
        (tmp_path / "getmailrc").write_text(
            f"[retriever]\ntype = Simple{protocol}SSLRetriever\nserver = localhost\nport = {stack.ports[port]}\n"
            f"username = {stack.address(USER)}\npassword = {USER}-secret\nca_certs = {stack.ca}\n"
            "[destination]\ntype = MDA_external\npath = /bin/sh\nallow_root_commands = true\n"
            f"arguments = ('-c', 'cat >> {got}')\n"
            "[options]\ndelete = true\nread_all = true\nverbose = 1\n"
        )
        run(program, "--getmaildir", str(tmp_path), "--rcfile", "getmailrc", HOME=str(tmp_path))
        assert f"Subject: by {protocol}" in got.read_text()
        assert subjects(stack, USER) == set()


@needs("imapfilter")
def test_imapfilter_searches_and_moves(program: str, stack: RunningStack, tmp_path: Path) -> None:
    filled(stack, "filtered", "keep this", "other", "keep that")
    filled(stack, "kept")
    settings = tmp_path / "config.lua"
    settings.write_text(
        "options.timeout = 60\n"
        f"account = IMAP {{ server = 'localhost', port = {stack.ports['imaps']}, ssl = 'auto',\n"
        f"  username = '{stack.address(USER)}', password = '{USER}-secret' }}\n"
        "found = account.filtered:contain_subject('keep') * account.filtered:contain_body('dots')\n"
        "found:move_messages(account.kept)\n"
    )
    run(program, "-c", str(settings), "-t", str(stack.ca), HOME=str(tmp_path))
    assert subjects(stack, USER, "kept") == {"keep this", "keep that"}
    assert subjects(stack, USER, "filtered") == {"other"}


@needs("aerc")
def test_aerc_reads_and_flags(program: str, stack: RunningStack, tmp_path: Path) -> None:
    filled(stack, "seaside", "first letter")
    folder = tmp_path / "aerc"
    folder.mkdir()
    accounts = folder / "accounts.conf"
    user = stack.address(USER).replace("@", "%40")
    accounts.write_text(
        f"[sea]\nsource = imaps://{user}:{USER}-secret@localhost:{stack.ports['imaps']}\n"
        f"default = seaside\nfolders = seaside\nfrom = <{stack.address(USER)}>\ncopy-to = Sent\n"
    )
    accounts.chmod(0o600)
    steps = [(b"first letter", b":flag\r"), (b"!", b":quit\r")]
    environment = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "SSL_CERT_FILE": str(stack.ca)}
    in_terminal([program], steps, **environment)
    with imap(stack, USER) as client:
        client.select_folder("seaside", readonly=True)
        assert client.search("FLAGGED") == [1]


def test_aioimaplib_is_pushed_to(stack: RunningStack) -> None:
    filled(stack, "pushed")
    asyncio.run(_push(stack))


async def _push(stack: RunningStack) -> None:
    client = aioimaplib.IMAP4_SSL(
        "localhost", stack.ports["imaps"], timeout=PATIENCE, ssl_context=trusting(stack)
    )
    await client.wait_hello_from_server()
    assert (await client.login(stack.address(USER), f"{USER}-secret")).result == "OK"
    await client.select("pushed")
    idle = await client.idle_start(timeout=PATIENCE)
    filling = asyncio.get_running_loop().run_in_executor(None, _append, stack)
    pushed = await client.wait_server_push(PATIENCE)
    assert b"1 EXISTS" in pushed
    client.idle_done()
    await asyncio.wait_for(idle, PATIENCE)
    await filling
    answer = await client.uid("fetch", "1", "(FLAGS BODY.PEEK[])")
    assert answer.result == "OK"
    assert b"Subject: news" in b"".join(answer.lines)
    assert (await client.uid("move", "1", "Trash")).result == "OK"
    await client.logout()


def _append(stack: RunningStack) -> None:
    with imap(stack, USER) as client:
        client.append("pushed", bytes(letter(stack, USER, USER, "news")))
