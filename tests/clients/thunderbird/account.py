"""An account of the running Thunderbird, and what the server has of it, looked at with another client."""

from __future__ import annotations

from collections.abc import Callable
from email.header import decode_header, make_header
from typing import Any

from tests.clients.test_libraries import imap, letter
from tests.clients.thunderbird.program import Thunderbird
from tests.running import RunningStack, eventually


class Account:
    """One account of the program; its verbs are the program's, for this account."""

    def __init__(
        self, program: Thunderbird, stack: RunningStack, user: str, kind: str, tls: bool, **how: Any
    ) -> None:
        self.program, self.stack, self.user = program, stack, user
        made = program.addAccount(
            {
                "type": kind,
                "address": stack.address(user),
                "password": f"{user}-secret",
                "name": user.capitalize(),
                "port": stack.ports[f"{kind}s" if tls else kind],
                "smtpPort": stack.ports["submissions" if tls else "submission"],
                "ssl": tls,
                **how,
            }
        )
        self.key: str = made["key"]
        self.guessed: dict[str, list[Any]] = made["guessed"]
        if kind == "imap":
            program.folders(self.key)

    def __getattr__(self, verb: str) -> Any:
        if verb.startswith("_"):
            raise AttributeError(verb)
        return lambda *arguments: getattr(self.program, verb)(self.key, *arguments)

    @property
    def address(self) -> str:
        """Its user's address."""
        return self.stack.address(self.user)

    def gets(self, *titles: str, mailbox: str = "INBOX") -> None:
        """A new mailbox in which there are messages of these subjects, also in the program."""
        with imap(self.stack, self.user) as client:
            if mailbox != "INBOX":
                client.create_folder(mailbox)
                client.subscribe_folder(mailbox)
            if titles:
                client.multiappend(
                    mailbox, [bytes(letter(self.stack, "alice", self.user, one)) for one in titles]
                )
        if mailbox != "INBOX":
            self.folders()
            self.shows(mailbox, titles)

    def titles(self, mailbox: str) -> list[str]:
        """The subjects of all messages that the server's mailbox has, in order."""
        with imap(self.stack, self.user) as client:
            client.select_folder(mailbox, readonly=True)
            uids = client.search()
            found = client.fetch(uids, ["ENVELOPE"]).values() if uids else ()
        return sorted(_decoded(one[b"ENVELOPE"].subject) for one in found)

    def kept(self, mailbox: str, check: Callable[[dict[str, set[str]]], Any]) -> None:
        """Wait until the server's mailbox is so: flags by subject."""
        with imap(self.stack, self.user) as client:

            def good() -> bool:
                client.select_folder(mailbox, readonly=True)
                uids = client.search()
                found = client.fetch(uids, ["ENVELOPE", "FLAGS"]).values() if uids else ()
                return bool(
                    check(
                        {
                            _decoded(one[b"ENVELOPE"].subject): {
                                flag.decode() for flag in one[b"FLAGS"] if flag != b"\\Recent"
                            }
                            for one in found
                        }
                    )
                )

            eventually(good)

    def mark_of(self, mailbox: str, subject: str) -> dict[str, Any]:
        """What the program knows of a message."""
        [one] = [one for one in self.messages(mailbox) if one["subject"] == subject]
        return dict(one)


def _decoded(subject: bytes | None) -> str:
    return str(make_header(decode_header((subject or b"").decode())))
