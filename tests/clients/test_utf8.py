"""Clients that enable UTF8=ACCEPT where it is offered, mutt and neomutt; and POP3's UTF8 by poplib."""

from __future__ import annotations

import poplib
import smtplib
from pathlib import Path

import pytest

from tests.clients.test_libraries import imap, trusting
from tests.clients.test_programs import in_terminal
from tests.running import RunningStack

LETTER = (
    "From: Jörg <jörg@example.test>\r\nSubject: Grüße\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGuten Tag\r\n"
).encode()


@pytest.mark.parametrize("program", ["mutt", "neomutt"], indirect=True)
def test_a_letter_in_utf8_in_a_mailbox_with_such_a_name(
    program: str, stack: RunningStack, tmp_path: Path
) -> None:
    name = Path(program).name
    mailbox = f"Entwürfe {name}"
    with imap(stack, "mutt") as client:
        client.create_folder(mailbox)
        client.append(mailbox, LETTER)
    user = stack.address("mutt")
    (tmp_path / "muttrc").write_text(
        f'set ssl_ca_certificates_file="{stack.ca}"\nset charset=utf-8\nset imap_user="{user}"\nset imap_pass="mutt-secret"\n'
        f'set folder="imaps://localhost:{stack.ports["imaps"]}/"\nset spoolfile="+{mailbox}"\n'
        f'set header_cache=""\nset certificate_file="{tmp_path}/certs"\nset wait_key=no\nset timeout=1\nset sleep_time=0\n',
        "utf-8",
    )
    out, log = tmp_path / "out", tmp_path / ".muttdebug0"
    keys = f"<pipe-message>cat > {out}<enter><display-message><exit><flag-message><sync-mailbox><quit>"
    debug = ["-d", "5", *(["-l", str(tmp_path / "log")] if name == "neomutt" else [])]
    words = [program, *debug, "-n", "-F", str(tmp_path / "muttrc"), "-e", f'push "{keys}"']
    in_terminal(words, HOME=str(tmp_path))
    assert "Subject: Grüße" in out.read_text("utf-8")
    said = (tmp_path / "log0" if name == "neomutt" else log).read_text("utf-8", "replace")
    assert "* ENABLED UTF8=ACCEPT" in said
    with imap(stack, "mutt") as client:
        client.select_folder(mailbox, readonly=True)
        assert client.search(["SEEN", "FLAGGED"]) == [1]


def test_pop3_in_utf8(stack: RunningStack) -> None:
    """RFC 6856: said before the login, and after STLS; the password is in UTF-8 too."""
    address = stack.address("poplib")
    stack.configured("user", "add", address, "--password-stdin", stdin="Grüße-secret\n")
    with smtplib.SMTP("localhost", stack.ports["smtp"]) as smtp:
        smtp.sendmail("j@elsewhere.example", [address], LETTER, ["SMTPUTF8", "BODY=8BITMIME"])
    pop = poplib.POP3("localhost", stack.ports["pop3"])
    pop.stls(context=trusting(stack))
    assert pop.capa()["UTF8"] == ["USER"]
    assert pop.utf8().startswith(b"+OK")
    pop.user(address)
    pop.pass_("Grüße-secret")
    assert LETTER.splitlines() == pop.retr(1)[1][-5:]
    assert "Subject: Grüße".encode() in pop.top(1, 0)[1]
    pop.quit()
    early = poplib.POP3("localhost", stack.ports["pop3"])
    early.utf8()
    with pytest.raises(poplib.error_proto, match="STLS comes before UTF8"):
        early.stls(context=trusting(stack))
    early.quit()
