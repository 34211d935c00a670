"""Mozilla Thunderbird itself: setting up, reading, writing, flags, folders, search, POP3.

What is asked of it is in verbs.sys.mjs. What the server holds is looked at with another client.
"""

from __future__ import annotations

import re
import smtplib
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

import pytest

from tests.clients.test_libraries import imap, letter, submit
from tests.clients.thunderbird.account import Account
from tests.clients.thunderbird.conftest import ANNA, BERT, CORA
from tests.clients.thunderbird.program import Thunderbird
from tests.running import RunningStack, eventually

SSL, STARTTLS, PASSWORD = 3, 2, 3  # Thunderbird's words for what the wizard finds


def _parsed(raw: bytes) -> EmailMessage:
    message = BytesParser(policy=policy.default).parsebytes(raw)
    assert isinstance(message, EmailMessage)
    return message


def test_the_wizard_finds_what_the_servers_offer(anna: Account, bert: Account, cora: Account) -> None:
    """Re-test in "Configure manually": encryption and authentication as docs/clients.md says; the login works."""
    assert anna.guessed == {"incoming": [SSL, PASSWORD, False], "outgoing": [SSL, PASSWORD, False]}
    assert bert.guessed == {"incoming": [STARTTLS, PASSWORD, False], "outgoing": [STARTTLS, PASSWORD, False]}
    assert cora.guessed == anna.guessed


def test_the_file_for_a_web_server_is_understood(program: Thunderbird) -> None:
    """deploy/config-v1.1.xml: with it nobody types in anything but name, address and password."""
    file = Path(__file__).parents[3] / "deploy" / "config-v1.1.xml"
    assert program.autoconfiguration(file.read_text()) == [
        [kind, "mail.example.org", port, SSL, PASSWORD, "%EMAILADDRESS%"]
        for kind, port in (("imap", 993), ("pop3", 995), ("smtp", 465))
    ]


def test_special_mailboxes_are_taken_for_what_they_are(anna: Account) -> None:
    special = {name: uses for name, uses in anna.folders().items() if uses}
    assert special == {
        "INBOX": ["Inbox"],
        **{name: [name] for name in ("Archive", "Drafts", "Junk", "Sent", "Trash")},
    }


def test_a_message_is_shown_as_it_was_sent(anna: Account, stack: RunningStack) -> None:
    message = letter(stack, "alice", ANNA, "Schöne Grüße aus Köln 🌍", "Zwölf Boxkämpfer\n.\njagen Viktor\n")
    message.replace_header("From", f"Älice <{stack.address('alice')}>")
    message.add_attachment(bytes(range(256)), maintype="application", subtype="pdf", filename="Übersicht.pdf")
    submit(stack, "alice", message)
    anna.folders()
    anna.shows("INBOX", ["Schöne Grüße aus Köln 🌍"])
    shown = anna.read("INBOX", "Schöne Grüße aus Köln 🌍")
    assert shown["subject"].endswith("Schöne Grüße aus Köln 🌍")
    assert "Älice" in shown["from"]
    assert "Zwölf Boxkämpfer\n.\njagen Viktor" in shown["text"]
    assert shown["attachments"] == [["Übersicht.pdf", "application/pdf"]]
    anna.kept("INBOX", lambda flags: "\\Seen" in flags["Schöne Grüße aus Köln 🌍"])
    anna.remove("INBOX", "Schöne Grüße aus Köln 🌍", True)


def test_new_mail_comes_by_itself(bert: Account, stack: RunningStack) -> None:
    """IDLE: nobody asks. The mailbox is empty, as a new user's is."""
    bert.open("INBOX")
    said = r" conversation: imap (\S+) C: \S+ "

    def waits() -> bool:
        log = stack.log()
        return bool(set(re.findall(said + 'select "INBOX"', log)) & set(re.findall(said + "IDLE", log)))

    eventually(waits)
    with smtplib.SMTP("127.0.0.1", stack.ports["smtp"]) as smtp:
        smtp.sendmail("a@elsewhere.test", [stack.address(BERT)], b"Subject: by itself\r\n\r\nHello\r\n")
    bert.shows("INBOX", ["by itself"], True)
    bert.remove("INBOX", "by itself", True)


@pytest.mark.parametrize("sender", [ANNA, BERT])
def test_what_is_sent_arrives_and_is_kept_once(
    sender: str, anna: Account, bert: Account, stack: RunningStack, tmp_path: Path
) -> None:
    """The compose window with SMTP over TLS and with STARTTLS; the server's own copy in Sent is not a second one."""
    account = {ANNA: anna, BERT: bert}[sender]
    (tmp_path / "file").write_bytes(bytes(range(256)) * 100)
    account.write(
        {
            "to": stack.address("alice"),
            "subject": f"Grüße von {sender}",
            "body": "Ähnlich\n.\n..\nFrom here\n",
            "attachment": {"url": (tmp_path / "file").as_uri(), "name": "Maße.bin"},
        }
    )
    with imap(stack, "alice") as client:
        client.select_folder("INBOX")
        [uid] = eventually(lambda: client.noop() and client.search(["FROM", sender]))
        raw = client.fetch([uid], ["BODY.PEEK[]"])[uid][b"BODY[]"]
    got = _parsed(raw)
    assert got["Subject"] == f"Grüße von {sender}"
    text, attachment = got.iter_parts()
    assert text.get_content().replace("\r\n", "\n").rstrip() == "Ähnlich\n.\n..\n From here"
    assert attachment.get_filename() == "Maße.bin"
    assert attachment.get_content() == bytes(range(256)) * 100
    account.shows("Sent", [f"Grüße von {sender}"])
    account.kept("Sent", lambda flags: len(flags) == 1 and "\\Seen" in next(iter(flags.values())))


def test_a_draft_is_kept_until_it_is_sent(bert: Account, stack: RunningStack) -> None:
    """Saved twice, the second takes the first one's place; sent, there is none left."""
    draft = {"to": stack.address("alice"), "subject": "draft", "body": "x"}
    bert.write({**draft, "then": ["SaveAsDraft", "SaveAsDraft", "Now"]})
    bert.kept("Drafts", lambda flags: not flags)
    bert.kept("Sent", lambda flags: "draft" in flags)


def test_flags_go_both_ways(anna: Account, stack: RunningStack) -> None:
    anna.gets("here", "there", mailbox="Flags")
    anna.mark("Flags", "here", {"read": True, "starred": True, "tag": "$label1"})
    anna.kept("Flags", lambda flags: flags["here"] >= {"\\Seen", "\\Flagged", "$label1"})
    anna.mark("Flags", "here", {"read": False, "starred": False, "untag": "$label1"})
    anna.kept("Flags", lambda flags: not flags["here"] & {"\\Seen", "\\Flagged", "$label1"})
    with imap(stack, ANNA) as client:
        client.select_folder("Flags")
        client.add_flags(
            client.search(["SUBJECT", "there"]),
            ["\\Seen", "\\Flagged", "\\Answered", "$Forwarded", "$label2"],
        )
    marks = {"read", "starred", "replied", "forwarded"}
    eventually(
        lambda: (
            anna.open("Flags") is None
            and marks == set(anna.mark_of("Flags", "there")["marks"])
            and "$label2" in anna.mark_of("Flags", "there")["keywords"]
        )
    )


def test_replying_and_forwarding_mark_the_message(anna: Account, stack: RunningStack) -> None:
    anna.gets("question", mailbox="Answers")
    anna.write({"kind": "reply", "of": ["Answers", "question"]})
    anna.write({"kind": "forward", "of": ["Answers", "question"], "to": stack.address("alice")})
    anna.kept("Answers", lambda flags: flags["question"] >= {"\\Answered", "$Forwarded"})
    with imap(stack, "alice") as client:
        client.select_folder("INBOX")
        eventually(lambda: client.noop() and client.search(["SUBJECT", "Re: question"]))
        eventually(lambda: client.noop() and client.search(["SUBJECT", "Fwd: question"]))


def test_copy_move_delete_and_undo(anna: Account, program: Thunderbird) -> None:
    """One after the other, each to its end: of several asked for at once Thunderbird does the first, also with Dovecot."""
    anna.gets(mailbox="Target")
    anna.gets("one", "two", "three", mailbox="Source")
    anna.transfer("Source", ["one"], "Target", False)
    anna.kept("Target", lambda flags: set(flags) == {"one"})
    anna.open("Source")
    anna.transfer("Source", ["two"], "Target", True)
    anna.kept("Target", lambda flags: set(flags) == {"one", "two"})
    anna.kept("Source", lambda flags: set(flags) == {"one", "three"})
    anna.shows("Source", ["one", "three"])
    anna.shows("Target", ["one", "two"])
    anna.open("Source")
    anna.remove("Source", "three")
    anna.kept("Trash", lambda flags: "three" in flags)
    anna.open("Source")
    anna.shows("Source", ["one"])
    program.undo()
    anna.kept("Source", lambda flags: set(flags) == {"one", "three"})
    anna.kept("Trash", lambda flags: "three" not in flags)
    anna.shows("Source", ["one", "three"])


def test_between_two_accounts(anna: Account, bert: Account) -> None:
    anna.gets("wanders", mailbox="Away")
    bert.gets(mailbox="Home")
    anna.transfer("Away", ["wanders"], "Home", True, bert.key)
    bert.kept("Home", lambda flags: set(flags) == {"wanders"})
    bert.shows("Home", ["wanders"])


def test_archiving(bert: Account) -> None:
    bert.gets("old", mailbox="Done")
    bert.archive("Done", "old")
    bert.kept("Done", lambda flags: not flags)
    [year] = [name for name in bert.folders() if name.startswith("Archive/")]
    bert.kept(year, lambda flags: set(flags) == {"old"})


def test_marked_as_deleted_until_compacted(bert: Account) -> None:
    """The other way of deleting, with CONDSTORE, which Thunderbird uses where it is told to."""
    bert.closeConnections()
    bert.set("useCondStore", True)
    bert.set("deleteModel", 0)
    try:
        bert.gets("stays", "goes", mailbox="Marked")
        bert.remove("Marked", "goes")
        bert.kept("Marked", lambda flags: "\\Deleted" in flags["goes"])
        eventually(lambda: "deleted" in bert.mark_of("Marked", "goes")["marks"])
        bert.compact("Marked")
        bert.kept("Marked", lambda flags: set(flags) == {"stays"})
        bert.shows("Marked", ["stays"])
    finally:
        bert.set("deleteModel", 1)
        bert.set("useCondStore", False)


def test_folders_of_any_name(anna: Account, stack: RunningStack) -> None:
    anna.createFolder("", "Bücher & Hefte")
    anna.createFolder("Bücher & Hefte", "日本語")
    anna.createFolder("Bücher & Hefte/日本語", "tief")
    anna.createFolder("", "falsch")
    anna.renameFolder("falsch", "Ελλάδα")
    anna.renameFolder("Bücher & Hefte", "Bücher")
    expected = {"Bücher", "Bücher/日本語", "Bücher/日本語/tief", "Ελλάδα"}
    with imap(stack, ANNA) as client:
        listed = {name for _, _, name in client.list_folders()}
        subscribed = {name for _, _, name in client.list_sub_folders()}
    assert expected <= listed
    assert expected <= subscribed
    assert not {"falsch", "Bücher & Hefte"} & (listed | subscribed)
    assert expected <= set(anna.folders())
    anna.deleteFolder("Ελλάδα")  # into the trash
    eventually(lambda: "Trash/Ελλάδα" in anna.folders())
    anna.deleteForGood("Trash/Ελλάδα")
    with imap(stack, ANNA) as client:
        eventually(lambda: not [name for _, _, name in client.list_folders() if "Ελλάδα" in name])


def test_search_on_the_server(anna: Account, stack: RunningStack) -> None:
    anna.gets("Äpfel", "Birnen", mailbox="Fruit")
    assert anna.search("Fruit", "Subject", "äpf") == ["Äpfel"]
    assert anna.search("Fruit", "Body", "DOTS") == ["Birnen", "Äpfel"]
    assert anna.search("Fruit", "Sender", "alice") == ["Birnen", "Äpfel"]
    assert anna.search("Fruit", "Body", "日本") == []


def test_a_large_message_comes_in_pieces(anna: Account, stack: RunningStack) -> None:
    big = letter(stack, "alice", ANNA, "big", "begins\n" + "0123456789" * 7 + "\n")
    data = bytes(number * number % 251 for number in range(400_000))
    big.add_attachment(data, maintype="application", subtype="octet-stream", filename="big.bin")
    with imap(stack, ANNA) as client:
        client.create_folder("Big")
        client.subscribe_folder("Big")
        client.append("Big", bytes(big))
    anna.folders()
    anna.shows("Big", ["big"])
    assert "begins" in anna.read("Big", "big")["text"]
    [got] = _parsed(anna.source("Big", "big").encode("latin-1")).iter_attachments()
    assert got.get_content() == data


def test_several_connections_at_once(bert: Account, program: Thunderbird) -> None:
    names = [f"Side {count}" for count in range(4)]
    for name in names:
        bert.gets(f"in {name}", mailbox=name)
    program.script(
        "await Promise.all(arguments[1].map(name => tb.shows(arguments[0], name, [`in ${name}`])))",
        bert.key,
        names,
    )


def test_the_limit_is_shown(anna: Account) -> None:
    anna.open("INBOX")
    quota = eventually(lambda: anna.quota("INBOX"))
    [[_, usage, limit]] = [one for one in quota if "STORAGE" in one[0]]
    assert limit == 50 * 1024
    assert 0 < usage < limit


def test_pop3_fetches_leaves_and_deletes(cora: Account, stack: RunningStack) -> None:
    """Left on the server until it is deleted in the program, as Thunderbird is set when an account is new."""
    for number in range(3):
        submit(stack, "alice", letter(stack, "alice", CORA, f"Nummer {number} ✓"))
    cora.fetch()
    assert [one["subject"] for one in cora.messages("Inbox")] == [f"Nummer {number} ✓" for number in range(3)]
    assert ".dots\n..\nbye" in cora.source("Inbox", "Nummer 1 ✓").replace("\r\n", "\n")
    cora.fetch()
    assert len(cora.messages("Inbox")) == 3  # none comes twice
    cora.kept("INBOX", lambda flags: len(flags) == 3)
    cora.remove("Inbox", "Nummer 1 ✓")
    cora.fetch()
    cora.kept("INBOX", lambda flags: len(flags) == 2)
    cora.set("leaveMessagesOnServer", False)
    cora.fetch()
    cora.kept("INBOX", lambda flags: not flags)
    assert len(cora.messages("Inbox")) == 2


def test_it_goes_on_after_the_server_was_away(anna: Account, stack: RunningStack) -> None:
    anna.gets("before", mailbox="Restart")
    stack.stop()
    stack.start()
    with imap(stack, ANNA) as client:
        client.append("Restart", bytes(letter(stack, "alice", ANNA, "after")))
    anna.shows("Restart", ["before", "after"])
    anna.mark("Restart", "after", {"starred": True})
    anna.kept("Restart", lambda flags: "\\Flagged" in flags["after"])
