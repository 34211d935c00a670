"""The six steps of a message, each walked over real sockets and each looked at afterwards."""

from __future__ import annotations

import email
import email.policy
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import TypeVar

from mailstack.admin.journey.client import Account, Client, Unexpected, plain
from mailstack.admin.journey.names import Names
from mailstack.admin.journey.screen import Screen
from mailstack.admin.journey.stacks import Stack

T = TypeVar("T")
PATIENCE = 30.0  # seconds for what a server does by itself: queue, transfer, delivery
_TRACE = ("return-path", "delivered-to", "x-original-to", "received")


class NotSeen(Exception):
    """A step did not do what it is for; the text says what is missing."""


@dataclass
class Journey:
    """What the steps share, and what each finds for the next."""

    screen: Screen
    names: Names
    near: Stack  # alice's
    far: Stack  # bob's
    token: str = field(default_factory=lambda: secrets.token_hex(4))  # in the message, to know it again
    queue_id: str = ""
    file: Path | None = None
    number: str = ""  # of the message in POP3's maildrop
    uid: str = ""
    by_pop3: bytes = b""
    by_imap: bytes = b""

    def letter(self) -> bytes:
        """What alice writes. Date and Message-ID are left to her server."""
        message = EmailMessage(policy=email.policy.SMTP.clone(cte_type="8bit"))
        message["From"] = f"Alice <{self.near.account.address}>"
        message["To"] = f"Bob <{self.far.account.address}>"
        message["Subject"] = f"Grüße through all six steps ({self.token})"
        message.set_content(
            "Lieber Bob,\n\nviele Grüße!\n.\nThe dot above is part of the message.\n\nAlice\n"
        )
        return message.as_bytes()


def submit(journey: Journey) -> str:
    """1: alice's mail program gives her message to her server (RFC 6409)."""
    alice, bob = journey.near.account, journey.far.account
    with Client(journey.screen, alice, "submission", tls=False) as client:
        client.reply("220")
        client.say("EHLO laptop.example")
        _offers(client.reply("250"), "STARTTLS")
        client.say("STARTTLS")
        client.reply("220")
        client.secure()
        client.say("EHLO laptop.example")
        _offers(client.reply("250"), "AUTH")
        client.say(f"AUTH PLAIN {plain(alice)}", "AUTH PLAIN ***")
        client.reply("235")
        client.say(f"MAIL FROM:<{alice.address}> BODY=8BITMIME")
        client.reply("250")
        client.say(f"RCPT TO:<{bob.address}>")
        client.reply("250")
        client.say("DATA")
        client.reply("354")
        client.say_message(journey.letter())
        taken = " ".join(client.reply("250"))
        client.say("QUIT")
        client.reply("221")
    found = re.search(r"queued as ([\w.-]+)", taken)
    if not found:
        raise NotSeen("the reply to the message names no queue id")
    journey.queue_id = found[1]
    return f"{alice.server} took the message from {alice.address}, who had logged in over TLS"


def queue(journey: Journey) -> str:
    """2: her server has it in its queue, on disk, and sends it on from there."""
    id = journey.queue_id
    journey.screen.note(f"queue id {id}; from the log of {journey.near.hostname}:")

    def sent() -> list[str]:
        lines = [line for line in journey.near.log() if id in line and " conversation: " not in line]
        return lines if any(" sent " in line for line in lines) else []

    for line in _eventually(sent, "the log does not say that the message was sent on"):
        journey.screen.line("*", line)
    return f"{journey.near.hostname} queued it as {id}, and tried it from there"


def transfer(journey: Journey) -> str:
    """3: DNS names the exchanger of bob's domain; her server gives the message to it (RFC 5321)."""
    screen, domain = journey.screen, journey.far.domain
    screen.note(f"what {journey.near.hostname} asked the name server, and heard:")
    for name, record in ((domain, "MX"), (journey.far.hostname, "A")):
        answers = journey.names.asked(name, record)
        if not answers:
            raise NotSeen(f"nobody asked for {name} {record}")
        screen.line("C", f"{name}. IN {record}?")
        for answer in answers:
            screen.line("S", answer)
    screen.note(f"what was said to {journey.far.hostname}:")
    sender = f"MAIL FROM:<{journey.near.account.address}>"
    spoken = _eventually(lambda: journey.far.conversation("smtp", sender), "no transfer is in the log")
    for side, text in spoken:
        screen.line(side, text)
    said = {text.split(" ")[0].upper() for side, text in spoken if side == "C"}
    if not {"EHLO", "STARTTLS", "MAIL", "RCPT"} <= said:
        raise NotSeen("the transfer was not EHLO, STARTTLS, MAIL, RCPT")
    return f"{journey.far.hostname} took it from {journey.near.hostname}, over TLS"


def deliver(journey: Journey) -> str:
    """4: bob's server saves it in his Maildir."""
    token = journey.token.encode()
    file = _eventually(lambda: journey.far.message_file(token), "no file in a Maildir has the message")
    journey.file = file
    journey.screen.note(f"{file.relative_to(journey.far.directory)}, its trace fields:")
    header = file.read_bytes().partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
    trace = [
        field for field in re.split(r"\r\n(?![ \t])", header) if field.partition(":")[0].lower() in _TRACE
    ]
    for field_ in trace:
        for line in field_.split("\r\n"):
            journey.screen.line("*", line)
    hops = [field_ for field_ in trace if field_.lower().startswith("received:")]
    if len(hops) < 2 or journey.queue_id not in hops[-1]:
        raise NotSeen("the Received fields do not tell of both servers")
    return f"one file of {file.stat().st_size} octets, with a Received field from each server"


def fetch(journey: Journey) -> str:
    """5: bob's mail program logs in and asks what there is, by POP3 (RFC 1939) and by IMAP (RFC 3501)."""
    bob = journey.far.account
    with _pop3(journey, bob) as client:
        client.say("STAT")
        journey.number = client.hear(["+OK"]).split(" ")[1]
        client.say("QUIT")
        client.hear(["+OK"])
    with Client(journey.screen, bob, "imaps", tls=True) as client:
        client.hear(["* OK"])
        client.tagged("a1", f"LOGIN {bob.address} {bob.password}", f"LOGIN {bob.address} ***")
        client.tagged("a2", "EXAMINE INBOX")
        found = b" ".join(client.tagged("a3", f"UID SEARCH SUBJECT {journey.token}"))
        numbers = re.fullmatch(rb"\* SEARCH (\d+)", found, re.IGNORECASE)
        if not numbers:
            raise NotSeen(f"IMAP does not find the message once: {found.decode()}")
        journey.uid = numbers[1].decode()
        envelope = b" ".join(client.tagged("a4", f"UID FETCH {journey.uid} (FLAGS ENVELOPE BODYSTRUCTURE)"))
        if journey.token.encode() not in envelope:
            raise NotSeen("ENVELOPE has not the message's subject")
        if b"\\Seen" in envelope:
            raise NotSeen("the message is marked as read, and nobody has read it")
        client.tagged("a5", "LOGOUT")
    return f"{bob.address} logged in by POP3 and by IMAP, and the message is there"


def read(journey: Journey) -> str:
    """6: bob opens the message, by IMAP and by POP3; it stays in his INBOX, marked as read."""
    bob = journey.far.account
    with Client(journey.screen, bob, "imap", tls=False) as client:
        client.hear(["* OK"])
        client.tagged("b1", "STARTTLS")
        client.secure()
        client.tagged("b2", f"LOGIN {bob.address} {bob.password}", f"LOGIN {bob.address} ***")
        client.tagged("b3", "SELECT INBOX")
        answer = b"\r\n".join(client.tagged("b4", f"UID FETCH {journey.uid} (BODY[])"))
        journey.by_imap = literal(answer)
        flags = b" ".join(client.tagged("b5", f"UID FETCH {journey.uid} (FLAGS)"))
        client.tagged("b6", "LOGOUT")
    with _pop3(journey, bob) as client:
        client.say(f"RETR {journey.number}")
        client.hear(["+OK"])
        journey.by_pop3 = client.hear_message()
        client.say("QUIT")
        client.hear(["+OK"])
    message = email.message_from_bytes(journey.by_imap, policy=email.policy.default)
    journey.screen.note("what bob reads:")
    body = str(message.get_content())
    for name in ("From", "To", "Date", "Subject"):
        journey.screen.line("*", f"{name}: {message[name]}")
    for line in ("", *body.splitlines()):
        journey.screen.line("*", line)
    _check_read(journey, message, body, flags)
    return "it came as it was written, the same by POP3, by IMAP and in the Maildir; it is marked \\Seen"


STEPS: tuple[tuple[str, Callable[[Journey], str]], ...] = (
    ("MUA to MSA: alice submits a message", submit),
    ("MSA to queue: it is safe, and on its way", queue),
    ("MX and MTA to MTA: it goes to bob's server", transfer),
    ("MTA to MDA: it is saved in bob's Maildir", deliver),
    ("MUA to POP3 and IMAP: bob asks for his mail", fetch),
    ("Inbox: bob reads it", read),
)


def walk(journey: Journey) -> bool:
    """All steps, as far as they are seen to work; False where one was not."""
    for number, (title, step) in enumerate(STEPS, 1):
        journey.screen.step(number, title)
        try:
            journey.screen.seen(step(journey))
        except (NotSeen, Unexpected, OSError, LookupError, ValueError) as error:
            journey.screen.failed(f"step {number}: {error}")
            for stack in (journey.near, journey.far):
                journey.screen.failed(f"the end of the log of {stack.hostname}:", stack.log()[-15:])
            return False
    return True


def literal(answer: bytes) -> bytes:
    """The first literal in an IMAP answer; raise NotSeen where there is none."""
    found = re.search(rb"\{(\d+)\}\r\n", answer)
    if not found:
        raise NotSeen("the answer to BODY[] has no message")
    return answer[found.end() : found.end() + int(found[1])]


@contextmanager
def _pop3(journey: Journey, bob: Account) -> Iterator[Client]:
    """A POP3 connection that is encrypted and logged in."""
    with Client(journey.screen, bob, "pop3", tls=False) as client:
        client.hear(["+OK"])
        client.say("STLS")
        client.hear(["+OK"])
        client.secure()
        client.say(f"USER {bob.address}")
        client.hear(["+OK"])
        client.say(f"PASS {bob.password}", "PASS ***")
        client.hear(["+OK"])
        yield client


def _check_read(journey: Journey, message: EmailMessage, body: str, flags: bytes) -> None:
    sent = email.message_from_bytes(journey.letter(), policy=email.policy.default)
    if message["Subject"] != sent["Subject"] or body != sent.get_content():
        raise NotSeen("subject or text is not what alice wrote")
    if not message["Date"] or not message["Message-ID"]:
        raise NotSeen("alice's server did not add Date and Message-ID")
    if journey.file is None or journey.by_imap != _current(journey).read_bytes():
        raise NotSeen("IMAP and Maildir have different octets")
    if journey.by_imap != journey.by_pop3:
        raise NotSeen("IMAP and POP3 have different octets")
    if b"\\Seen" not in flags:
        raise NotSeen("the message is not marked as read")


def _current(journey: Journey) -> Path:
    """The message's file: its name changes when its flags do."""
    return journey.far.message_file(journey.token.encode()) or Path()


def _offers(lines: list[str], keyword: str) -> None:
    if not any(line[4:].upper().split(" ")[0] == keyword for line in lines):
        raise NotSeen(f"EHLO does not offer {keyword}")


def _eventually(look: Callable[[], T | None], otherwise: str) -> T:
    give_up = time.monotonic() + PATIENCE
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > give_up:
            raise NotSeen(otherwise)
        time.sleep(0.05)
