"""A load for a stack whose power will be cut: something of all that a server promises, each with its promise."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from tests.crash.promises import ABSENT, Flags, Mark, Promises, Uid, Where
from tests.crash.wire import Imap, NextHop, Pop3, Smtp
from tests.running import RunningStack, eventually

_NONE: Flags = frozenset()
_SUBJECT = re.compile(rb"Subject: (\S+)\r\n")
_UID = re.compile(rb"UID (\d+)")
_NUMBERS = re.compile(rb"\[(?:APPENDUID|COPYUID) (\d+) (?:\S+ )?(\S+)\]")
_ELSEWHERE = "elsewhere.test"


@dataclass(slots=True)
class Load:
    """The clients of one stack."""

    stack: RunningStack
    promises: Promises
    random: Random
    hop: NextHop
    rounds: int
    between: Callable[[], None]  # what happens in each while nobody waits for an answer
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def run(self) -> None:
        """All of it, until nothing is left to be done behind."""
        for number in range(self.rounds):
            together(
                *(partial(self.receive, many) for many in (4, 3, 3)),
                partial(self.append, "alice", "Drafts"),
                partial(self.submit, number),
            )
            self.between()
            if number == 0:
                self.hop.open()
            together(partial(self.tidy, f"Round{number}"), self.fetch_and_delete, partial(self.receive, 2))
        eventually(self._is_drained)

    # SMTP

    def receive(self, count: int) -> None:
        """Mail from elsewhere, on one connection."""
        smtp = Smtp(self.stack.ports["smtp"])
        for number in range(count):
            users = (["alice"], ["bob"], ["alice", "bob"])[number % 3]
            token, message = self._message(self.random.choice((300, 3_000, 30_000)))
            begun = smtp.mark
            to = [self.stack.address(user) for user in users]
            answered = smtp.send(
                f"sender@{_ELSEWHERE}", to, message, ("pipelined", "data", "bdat")[number % 3]
            )
            for user in users:
                self.promises.step(user, [token], begun, answered, {"INBOX": _NONE})
        smtp.close()

    def submit(self, number: int) -> None:
        """Mail of alice's to elsewhere, with a copy in Sent; some of it bounces."""
        smtp = Smtp(self.stack.ports["submission"], (self.stack.address("alice"), "alice-secret"))
        for kind in range(3):
            token, message = self._message((500, 40_000)[(kind + number) % 2], kind=f"q{kind}-")
            to = [f"friend{number}@{_ELSEWHERE}"]
            if kind == 1:
                to.append(self.stack.address("bob"))
            if kind == 2:
                to.append(f"nobody{number}@{_ELSEWHERE}")  # whom we are told of is refused from then on
            begun = smtp.mark
            answered = smtp.send(self.stack.address("alice"), to, message)
            self.promises.step("alice", [token], begun, answered, {"Sent": frozenset({"\\Seen"})})
            if kind == 1:
                self.promises.step("bob", [token], begun, answered, {"INBOX": _NONE})
            for recipient in to:
                if recipient.endswith(_ELSEWHERE):
                    self.promises.queue(token, recipient, begun, answered)
        smtp.close()

    # IMAP

    def append(self, user: str, mailbox: str) -> None:
        """APPEND, MULTIAPPEND, and a message of more than a megabyte."""
        imap = self._imap(user)
        for sizes in ((400,), (300, 20_000, 5_000), (1_300_000,)):
            made = [self._message(size) for size in sizes]
            begun = imap.mark
            words = " ".join(r"(\Flagged) {}" for _ in made)
            answer = imap.command(f"APPEND {mailbox} {words}", *(message for _, message in made))[-1]
            where = {mailbox: frozenset({"\\Flagged"})}
            self.promises.step(user, [token for token, _ in made], begun, imap.mark, where)
            self._tell(user, imap, answer, [token for token, _ in made])
        imap.close()

    def tidy(self, name: str) -> None:
        """Alice reads her mail: flags, copies, moves, and mailboxes made, renamed and removed."""
        imap = self._imap("alice")
        here = self._select(imap, "alice", "INBOX")
        uids = sorted(here)
        third = max(1, len(uids) // 3)
        seen, moved, gone = uids[:third], uids[third : 2 * third], uids[2 * third :]
        self._flag(imap, here, seen, r"\Seen")
        self._flag(imap, here, gone, r"\Deleted")
        self._create(imap, name)
        begun = imap.mark
        answer = imap.command(f"UID COPY {_list(seen)} {name}")[-1]
        copied = [here[uid] for uid in seen]
        for token in copied:
            self._step(imap, token, begun, {name: self.promises.last("alice", token)["INBOX"]})
        self._tell("alice", imap, answer, copied)
        begun = imap.mark
        answers = imap.command(f"UID MOVE {_list(moved)} {name}")
        tokens = [here[uid] for uid in moved]
        for token in tokens:
            where = {**self.promises.last("alice", token), name: _NONE}
            self.promises.step("alice", [token], begun, imap.mark, _without(where, "INBOX"))
        for answer in answers:
            self._tell("alice", imap, answer, tokens)
        begun = imap.mark
        imap.command(f"UID EXPUNGE {_list(gone)}")
        for uid in gone:
            left = _without(self.promises.last("alice", here[uid]), "INBOX")
            self.promises.step("alice", [here[uid]], begun, imap.mark, left)
        self._rename(imap, name, f"{name}-old", [*copied, *tokens])
        self._create(imap, name)  # where the renamed one's directory lies
        self._append_to(imap, name)
        self._create(imap, f"{name}-brief")
        brief = self._append_to(imap, f"{name}-brief")
        begun = imap.mark
        imap.command(f"DELETE {name}-brief")
        self.promises.mailbox("alice", f"{name}-brief", begun, imap.mark, False)
        self.promises.step("alice", [brief], begun, imap.mark, ABSENT)
        imap.command("LOGOUT")
        imap.close()

    # POP3

    def fetch_and_delete(self) -> None:
        """Bob fetches his mail and deletes half of it, which counts from the answer to QUIT on."""
        pop3 = Pop3(self.stack.ports["pop3"], self.stack.address("bob"), "bob-secret")
        count = int(pop3.command("STAT").split()[1])
        tokens = []
        for number in range(1, count + 1, 2):
            head = b"".join(pop3.lines(f"TOP {number} 0"))
            found = _SUBJECT.search(head)
            assert found is not None
            tokens.append(found[1].decode())
            pop3.command(f"DELE {number}")
        begun = pop3.mark
        pop3.command("QUIT")
        self.promises.step("bob", tokens, begun, pop3.mark, ABSENT)
        pop3.close()

    # Inside

    def _message(self, size: int, kind: str = "t") -> tuple[str, bytes]:
        """A token, and a message of about that many octets that has it as its subject."""
        token = f"{kind}{next(self._numbers):04}"
        head = f"From: alice@{self.stack.domain}\r\nMessage-ID: <{token}@{_ELSEWHERE}>\r\nSubject: {token}\r\n\r\n"
        line = f"{token} {self.random.getrandbits(200):x}\r\n"
        body = line * (size // len(line) + 1) + f"end of {token}\r\n"
        self.promises.content[token] = body.encode()
        return token, (head + body).encode()

    def _imap(self, user: str) -> Imap:
        return Imap(self.stack.ports["imap"], self.stack.address(user), f"{user}-secret")

    def _select(self, imap: Imap, user: str, mailbox: str) -> dict[int, str]:
        """Tokens by UID, which are told by that."""
        validity = 0
        for line in imap.command(f"SELECT {mailbox}"):
            if b"[UIDVALIDITY " in line:
                validity = int(line.partition(b"[UIDVALIDITY ")[2].partition(b"]")[0])
        here: dict[int, str] = {}
        for line in imap.command("UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])"):
            uid, subject = _UID.search(line), _SUBJECT.search(line)
            # A bounce has no token: only what we have sent ourselves is looked after by UID.
            if uid and subject and (user, subject[1].decode()) in self.promises.steps:
                here[int(uid[1])] = subject[1].decode()
        for number, token in here.items():
            self.promises.told(user, Uid(imap.mark, validity, number, token))
        return here

    def _flag(self, imap: Imap, here: dict[int, str], uids: Iterable[int], flag: str) -> None:
        uids = list(uids)
        begun = imap.mark
        imap.command(f"UID STORE {_list(uids)} +FLAGS ({flag})")
        for uid in uids:
            before = self.promises.last("alice", here[uid])
            flags = before["INBOX"] | {flag}
            self._step(imap, here[uid], begun, {"INBOX": flags})

    def _step(self, imap: Imap, token: str, begun: Mark, more: dict[str, Flags]) -> None:
        where = {**self.promises.last("alice", token), **more}
        self.promises.step("alice", [token], begun, imap.mark, where)

    def _create(self, imap: Imap, name: str) -> None:
        begun = imap.mark
        imap.command(f"CREATE {name}")
        self.promises.mailbox("alice", name, begun, imap.mark, True)

    def _rename(self, imap: Imap, old: str, new: str, tokens: Iterable[str]) -> None:
        begun = imap.mark
        imap.command(f"RENAME {old} {new}")
        self.promises.mailbox("alice", old, begun, imap.mark, False)
        self.promises.mailbox("alice", new, begun, imap.mark, True)
        for token in tokens:
            where = dict(self.promises.last("alice", token))
            where[new] = where.pop(old)
            self.promises.step("alice", [token], begun, imap.mark, where)

    def _append_to(self, imap: Imap, name: str) -> str:
        token, message = self._message(800)
        begun = imap.mark
        answer = imap.command(f"APPEND {name} {{}}", message)[-1]
        self.promises.step("alice", [token], begun, imap.mark, {name: _NONE})
        self._tell("alice", imap, answer, [token])
        return token

    def _tell(self, user: str, imap: Imap, answer: bytes, tokens: list[str]) -> None:
        """What APPENDUID or COPYUID says, if it is there."""
        found = _NUMBERS.search(answer)
        if found is not None:
            for uid, token in zip(_uids(found[2].decode()), tokens, strict=True):
                self.promises.told(user, Uid(imap.mark, int(found[1]), uid, token))

    def _is_drained(self) -> bool:
        """Whether the next hop has all, and the files' names and number follow the index."""
        with self.promises.lock:
            friends = {key for key in self.promises.queued if not key[1].startswith("nobody")}
            if friends - set(self.promises.taken):
                return False
            expected = sum(len(steps[-1].where) for steps in self.promises.steps.values())
            bounced = len({token for token, to in self.promises.queued if to.startswith("nobody")})
        mail = self.stack.directory / "data" / "mail"
        try:
            found = sum(len([*mail.glob(f"*/*/Maildir/**/{name}/*")]) for name in ("new", "cur"))
        except FileNotFoundError:  # of a mailbox that is just being removed
            return False
        return found == expected + bounced


def together(*programs: Callable[[], None]) -> None:
    """Run them at the same time; raise what one of them raises."""
    failed: list[BaseException] = []

    def run(program: Callable[[], None]) -> None:
        try:
            program()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(program,)) for program in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def _list(uids: Iterable[int]) -> str:
    return ",".join(map(str, uids))


def _uids(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition(":")
        found += range(int(first), int(last or first) + 1)
    return found


def _without(where: Where, name: str) -> Where:
    return {other: flags for other, flags in where.items() if other != name}
