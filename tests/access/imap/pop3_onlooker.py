"""A POP3 client beside IMAP sessions: INBOX as it was at its login, whatever becomes of it (RFC 1939 section 4)."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from tests.access.imap.chronicle import Chronicle, State
from tests.access.imap.effects import Removing, Seeing
from tests.access.imap.turns import Host

LISTS = ("UIDL", "RETR", "TOP")  # answered with many lines


@dataclass(slots=True)
class Line:
    """A command that was sent."""

    text: str
    heard: int  # a commit that its process knew of then
    number: int = 0
    uid: int = 0


class Pop3Onlooker:
    """One connection, which says the next before it is answered (RFC 2449 section 6.6)."""

    def __init__(self, chronicle: Chronicle, host: Host, inbox: int) -> None:
        self.chronicle, self.inbox = chronicle, inbox
        self.link = host.pop3()
        self.lines: deque[Line] = deque()
        self.uids: list[int] | None = None  # what UIDL said first
        self.deleted: set[int] = set()  # numbers
        self.over = False
        self.seeing = Seeing(inbox, ())
        self.removing = Removing(inbox, (), (), marked=False)
        self._rest = b""
        self._greeted = False
        for text in ("USER alice@example.test", "PASS secret", "UIDL"):
            self.say(text)

    def say(self, text: str, number: int = 0) -> None:
        """Send a command."""
        uid = self.uids[number - 1] if self.uids is not None and number else 0
        self.lines.append(Line(text, self.chronicle.answered, number, uid))
        if text.startswith("RETR"):
            self.seeing.uids |= {uid}
        self.link.send(text.encode() + b"\r\n")

    def begin_marking(self) -> None:
        """From now on what it fetches may be seen."""
        self.chronicle.expect(self.seeing)

    def quit(self) -> None:
        """What it has marked is removed, and nothing else."""
        uids = {self.uids[number - 1] for number in self.deleted} if self.uids else set()
        self.removing = Removing(self.inbox, uids, uids, marked=False)
        self.chronicle.expect(self.removing)
        self.say("QUIT")

    def lose(self) -> None:
        """Without QUIT nothing is removed (RFC 1939 section 6); a QUIT under way may be done."""
        self.over = True
        self.link.lose()

    def listen(self) -> None:
        """Take in what was said."""
        self._rest += self.link.heard()
        while not self.over and (answer := self._next()) is not None:
            if not self._greeted:
                self._greeted = True
                continue
            self._answered(self.lines.popleft(), answer)
        if self.link.closed:
            self.over = True

    def _next(self) -> bytes | None:
        """The next answer, if it is whole."""
        first, end, rest = self._rest.partition(b"\r\n")
        if not end:
            return None
        many = self._greeted and self.lines[0].text.split()[0] in LISTS and first.startswith(b"+OK")
        if not many:
            self._rest = rest
            return first
        body, end, rest = (b"\r\n" + rest).partition(b"\r\n.\r\n")
        if not end:
            return None
        self._rest = rest
        return first + body + b"\r\n"

    def _answered(self, line: Line, said: bytes) -> None:
        done, verb = said.startswith(b"+OK"), line.text.split()[0]
        if verb == "PASS" and not done:
            assert said.startswith(b"-ERR [IN-USE]"), said
            self.lose()
        elif verb == "UIDL":
            self._listed(line, said)
        elif verb in ("RETR", "TOP"):
            self._fetched(line, verb, done, said)
        elif verb == "QUIT":
            self._left(done)
        else:
            assert done, f"{line.text}: {said!r}"

    def _listed(self, line: Line, said: bytes) -> None:
        words = [row.split() for row in said.split(b"\r\n")[1:-1]]
        found = {int(number): int(name.split(b".")[1]) for number, name in words}
        if self.uids is None:
            uids = list(found.values())

            def was(state: State) -> bool:
                return list(state[self.inbox].letters) == uids

            assert self.chronicle.ever(line.heard, was), f"INBOX was never so: {uids}"
            self.uids = uids
        expected = {number: uid for number, uid in enumerate(self.uids, 1) if number not in self.deleted}
        assert found == expected, f"UIDL says {found}, and said {self.uids}"

    def _fetched(self, line: Line, verb: str, done: bool, said: bytes) -> None:
        if not done:
            assert (self.inbox, line.uid) in self.chronicle.gone, f"{line.text}: {said!r}"
            return
        octets = re.sub(rb"(?<=\r\n)\.", b"", said[said.index(b"\r\n") :])[2:]
        whole = re.sub(rb"(?<!\r)\n", b"\r\n", self.chronicle.bodies[self.inbox, line.uid])
        whole += b"" if whole.endswith(b"\r\n") else b"\r\n"
        assert octets == whole if verb == "RETR" else whole.startswith(octets)

    def _left(self, done: bool) -> None:
        self.over = True
        self.chronicle.answer(self.removing)
        vain = self.removing.at is None and not self.chronicle.ever(0, self.removing.is_vain)
        assert done, "QUIT could not remove what was marked"
        assert not vain, "QUIT has removed nothing"
