"""Python's own clients and IMAPClient, as scripts use them."""

from __future__ import annotations

import imaplib
import poplib
import smtplib
import ssl
import threading
from email.message import EmailMessage

import pytest
from imapclient import IMAPClient

from tests.running import RunningStack, eventually


def trusting(stack: RunningStack) -> ssl.SSLContext:
    """A context that trusts our own authority only: the certificate is checked, name and all."""
    return ssl.create_default_context(cafile=str(stack.ca))


def letter(
    stack: RunningStack, sender: str, to: str, subject: str, text: str = "Hello,\n.dots\n..\nbye\n"
) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = stack.address(sender), stack.address(to), subject
    message.set_content(text)
    return message


def submit(stack: RunningStack, sender: str, message: EmailMessage) -> None:
    with smtplib.SMTP_SSL("localhost", stack.ports["submissions"], context=trusting(stack)) as smtp:
        smtp.login(stack.address(sender), f"{sender}-secret")
        smtp.send_message(message)


def imap(stack: RunningStack, user: str) -> IMAPClient:
    client = IMAPClient("localhost", stack.ports["imaps"], ssl_context=trusting(stack))
    client.login(stack.address(user), f"{user}-secret")
    return client


def test_starttls_submission_with_each_form_of_login(stack: RunningStack) -> None:
    for mechanism in ("auth_plain", "auth_login"):
        with smtplib.SMTP("localhost", stack.ports["submission"]) as smtp:
            assert b"AUTH" not in (smtp.ehlo()[1])
            smtp.starttls(context=trusting(stack))
            smtp.ehlo()
            smtp.user, smtp.password = stack.address("alice"), "alice-secret"
            for initial in (True, False):
                name = mechanism.removeprefix("auth_").upper()
                smtp_auth = getattr(smtp, mechanism)
                code, _ = smtp.auth(name, smtp_auth, initial_response_ok=initial)
                assert code == 235
                break
            smtp.send_message(letter(stack, "alice", "bob", f"by {mechanism}"))
    with imap(stack, "bob") as client:
        client.select_folder("INBOX", readonly=True)
        assert len(client.search(["SUBJECT", "by auth_"])) == 2


def test_wrong_password_and_no_login_are_refused(stack: RunningStack) -> None:
    with smtplib.SMTP_SSL("localhost", stack.ports["submissions"], context=trusting(stack)) as smtp:
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            smtp.login(stack.address("alice"), "wrong")
        assert refused.value.smtp_code == 535
        code, _ = smtp.mail(stack.address("alice"))
        assert code == 530


def test_a_user_may_not_send_as_another(stack: RunningStack) -> None:
    with pytest.raises(smtplib.SMTPSenderRefused):
        submit(stack, "bob", letter(stack, "alice", "bob", "forged"))


def test_no_relay_for_strangers(stack: RunningStack) -> None:
    with smtplib.SMTP("localhost", stack.ports["smtp"]) as smtp:
        smtp.ehlo()
        smtp.mail("stranger@elsewhere.test")
        assert smtp.rcpt("victim@elsewhere.test")[0] == 550
        assert smtp.rcpt("nobody@example.test")[0] == 550
        assert smtp.rcpt("alice%elsewhere.test@example.test")[0] == 550
        assert smtp.rcpt("postmaster@example.test")[0] == 250


def test_mail_from_outside_arrives_byte_for_byte(stack: RunningStack) -> None:
    body = b"Subject: outside\r\nFrom: a@elsewhere.test\r\n\r\n.\r\n..two\r\n" + b"x" * 300_000 + b"\r\nend"
    with smtplib.SMTP("localhost", stack.ports["smtp"]) as smtp:
        smtp.sendmail("a@elsewhere.test", [stack.address("imap")], body)
    with imap(stack, "imap") as client:
        client.select_folder("INBOX")
        [uid] = client.search(["SUBJECT", "outside"])
        got = client.fetch([uid], ["BODY.PEEK[]", "RFC822.SIZE", "ENVELOPE"])[uid]
        assert got[b"BODY[]"].endswith(body + b"\r\n")
        assert got[b"RFC822.SIZE"] == len(got[b"BODY[]"])
        assert got[b"BODY[]"].startswith(b"Return-Path: <a@elsewhere.test>\r\n")
        client.delete_messages([uid])
        client.expunge()


def test_pop3_all_the_way(stack: RunningStack) -> None:
    for number in range(3):
        submit(stack, "alice", letter(stack, "alice", "pop", f"pop {number}"))
    pop = poplib.POP3("localhost", stack.ports["pop3"])
    with pytest.raises(poplib.error_proto):
        pop.user(stack.address("pop"))
        pop.pass_("pop-secret")
    pop.stls(context=trusting(stack))
    pop.user(stack.address("pop"))
    pop.pass_("pop-secret")
    assert pop.stat()[0] == 3
    sizes = [int(line.split()[1]) for line in pop.list()[1]]
    assert pop.stat()[1] == sum(sizes)
    unique = [line.split()[1] for line in pop.uidl()[1]]
    _, lines, octets = pop.retr(1)
    assert b"Subject: pop 0" in lines
    assert b".dots" in lines
    assert octets == sizes[0]
    assert b"Subject: pop 1" in pop.top(2, 0)[1]
    with pytest.raises(poplib.error_proto, match="IN-USE"):
        second = poplib.POP3_SSL("localhost", stack.ports["pop3s"], context=trusting(stack))
        second.user(stack.address("pop"))
        second.pass_("pop-secret")
    pop.dele(1)
    pop.quit()
    again = poplib.POP3_SSL("localhost", stack.ports["pop3s"], context=trusting(stack))
    again.user(stack.address("pop"))
    again.pass_("pop-secret")
    assert [line.split()[1] for line in again.uidl()[1]] == unique[1:]
    again.quit()


def test_imaplib_login_and_literals(stack: RunningStack) -> None:
    with imaplib.IMAP4("localhost", stack.ports["imap"]) as client:
        with pytest.raises(imaplib.IMAP4.error):
            client.login(stack.address("imap"), "imap-secret")
        client.starttls(ssl_context=trusting(stack))
        client.login(stack.address("imap"), "imap-secret")
        assert client.append("Drafts", r"(\Draft)", None, b"Subject: draft\r\n\r\nunfinished\r\n")[0] == "OK"
        status, [count] = client.select("Drafts")
        assert (status, count) == ("OK", b"1")
        assert client.search(None, "DRAFT")[1] == [b"1"]
        client.store("1", "+FLAGS", r"(\Deleted)")
        assert client.expunge()[1] == [b"1"]


def test_imapclient_folders_flags_copy_move_and_special_use(stack: RunningStack) -> None:
    submit(stack, "alice", letter(stack, "alice", "imap", "to move"))
    with imap(stack, "imap") as client:
        flags = {name: set(flags) for flags, _, name in client.list_folders()}
        assert {"INBOX", "Drafts", "Sent", "Junk", "Trash", "Archive"} <= set(flags)
        assert b"\\Sent" in flags["Sent"]
        assert {name for *_, name in client.list_sub_folders()} >= {"INBOX", "Sent"}
        client.create_folder("Projekte/Größe & Zahl")
        client.rename_folder("Projekte/Größe & Zahl", "Projekte/Größe")
        client.select_folder("INBOX")
        [uid] = client.search(["SUBJECT", "to move"])
        client.add_flags([uid], [rb"\Flagged", b"$Forwarded"])
        assert set(client.get_flags([uid])[uid]) >= {rb"\Flagged", b"$Forwarded"}
        client.copy([uid], "Archive")
        assert client.folder_status("Archive", ["MESSAGES"]) == {b"MESSAGES": 1}
        client.move([uid], "Projekte/Größe")
        assert client.search(["SUBJECT", "to move"]) == []
        client.select_folder("Projekte/Größe")
        [moved] = client.search("ALL")
        assert client.fetch([moved], ["BODYSTRUCTURE"])[moved][b"BODYSTRUCTURE"][0] == b"text"
        client.close_folder()
        client.delete_folder("Projekte/Größe")
        assert client.namespace().personal[0][1] == "/"


def test_idle_hears_of_new_mail_and_of_the_other_sessions_flags(stack: RunningStack) -> None:
    with imap(stack, "idle") as one, imap(stack, "idle") as other:
        one.select_folder("INBOX")
        other.select_folder("INBOX")
        one.idle()
        sending = threading.Thread(
            target=submit, args=(stack, "alice", letter(stack, "alice", "idle", "push"))
        )
        sending.start()
        eventually(lambda: (1, b"EXISTS") in one.idle_check(timeout=1))
        sending.join()
        other.noop()
        other.add_flags([1], [rb"\Flagged"])
        eventually(lambda: any(h[1] == b"FETCH" and r"\Flagged" in str(h) for h in one.idle_check(timeout=1)))
        other.delete_messages([1])
        other.expunge()
        heard = eventually(lambda: [h for h in one.idle_check(timeout=1) if h[1] == b"EXPUNGE"])
        assert heard == [(1, b"EXPUNGE")]
        one.idle_done()
