"""What one IMAP client knows: every response is applied to it, and held against the model at once.

The rules of RFC 3501 sections 2.3.1, 5.2, 7.3 and 7.4, RFC 7162 and RFC 4315 are assertions here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.access.imap.harness import Client
from tests.access.imap.model import Box, Flags
from tests.access.imap.replies import Said, numbers, read

RECENT = r"\Recent"
NUMBERED = ("FETCH", "STORE", "SEARCH")  # while they are answered no sequence number may change


@dataclass(slots=True)
class Cache:
    """What a client keeps of a mailbox while it is away (RFC 7162 section 6)."""

    box: Box
    modseq: int
    flags: dict[int, Flags]


@dataclass(slots=True)
class Answer:
    """All that came before a tagged response, and that."""

    status: str
    code: str
    untagged: list[Said]

    def fetched(self) -> dict[int, dict[str, Any]]:
        """The items of FETCH responses, by sequence number; those of one message together."""
        found: dict[int, dict[str, Any]] = {}
        for said in self.untagged:
            if said.kind == "FETCH":
                found.setdefault(int(said.words[0]), {}).update(items(said))
        return found

    def codes(self, name: str) -> list[str]:
        """The arguments of a response code, untagged ones first."""
        every = [*(said.code for said in self.untagged), self.code]
        return [code.partition(" ")[2] for code in every if code.partition(" ")[0] == name]


def items(said: Said) -> dict[str, Any]:
    """The items of a FETCH response."""
    words = said.words[2]
    return dict(zip(words[::2], words[1::2], strict=True))


class Picture:
    """One client and its view of what it has selected."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.box: Box | None = None
        self.read_only = False
        self.condstore = self.qresync = False
        self.idle: str | None = None  # the tag of the IDLE under way
        self.view: list[int] = []  # UIDs by sequence number
        self.flags: dict[int, Flags] = {}  # those that the client was told
        self.recent: set[int] = set()
        self.saved: list[int] = []
        self.keywords: set[str] = set()
        self.modseq = 0  # its copy of HIGHESTMODSEQ
        self.caches: list[Cache] = []
        self.others: Callable[[], None] = lambda: None
        self._modseqs: list[int] = []  # since the last tagged response
        self._tags = 0

    # Commands

    def ask(self, command: str, *, literal: bytes | None = None, selects: Box | None = None) -> Answer:
        """Send a command, apply all that is said until its end; `selects`: the mailbox that it opens."""
        tag = self.send(command, literal)
        self.others()  # an idle client hears of it at once, so it comes first in what is Recent
        return self.hear(tag, command, selects)

    def send(self, command: str, literal: bytes | None = None) -> str:
        """Send a command; its tag."""
        self._tags += 1
        tag = f"t{self._tags}"
        data = f"{tag} {command}".encode()
        if literal is not None:
            data += b" {%d+}\r\n%b" % (len(literal), literal)
        self.client.send(data + b"\r\n")
        return tag

    def hear(self, tag: str, command: str, selects: Box | None = None) -> Answer:
        """Apply what was said up to the end of a command."""
        said = read(self.client.heard())
        assert said, f"no answer to {command}"
        *before, last = said
        if last.status == "BYE":
            assert self.client.closed
            return Answer("BYE", last.code, before)
        assert last.tag == tag, f"{command}: {last}"
        if selects is not None:
            before = self._opened(before, selects, last)
        name = command.split()[0]
        for each in before:
            self.apply(each, name)
        self._count(last.code)
        return Answer(last.status, last.code, before)

    def push(self) -> bool:
        """Apply what came to an idle client; whether it is still idle, and not told BYE."""
        for each in read(self.client.heard()):
            if each.status == "BYE":
                assert self.client.closed
                return False
            self.apply(each, "IDLE")
        return True

    # Responses

    def apply(self, said: Said, command: str) -> None:
        """Take over one untagged response."""
        assert said.tag == "*", said
        if said.status:
            assert said.status == "OK", said
            self._code(said.code)
            return
        match said.kind:
            case "EXISTS":
                self._exists(int(said.words[0]))
            case "RECENT":
                assert int(said.words[0]) == len(self.recent), f"{said} and {self.recent}"
            case "EXPUNGE":
                assert not self.qresync, "EXPUNGE after ENABLE QRESYNC"
                assert command not in NUMBERED, f"EXPUNGE in {command}"
                self._gone([self.view[int(said.words[0]) - 1]])
            case "VANISHED":
                self._vanished(said.words[1:], command)
            case "FETCH":
                self._fetch(int(said.words[0]), items(said), command)
            case "FLAGS":
                self.keywords = {flag for flag in said.words[1] if not flag.startswith("\\")}
            case "SEARCH" | "ESEARCH" | "ENABLED" | "STATUS" | "LIST" | "CAPABILITY" as kind:
                assert kind in command or kind in ("SEARCH", "ESEARCH", "ENABLED", "STATUS"), said
            case kind:
                raise AssertionError(f"{kind} in {command}: {said}")

    def _exists(self, count: int) -> None:
        assert self.box is not None
        assert count >= len(self.view), f"EXISTS {count} after {len(self.view)}: only EXPUNGE takes away"
        last = self.view[-1] if self.view else 0
        coming = [uid for uid in sorted(self.box.letters) if uid > last]
        new = coming[: count - len(self.view)]
        assert len(new) == count - len(self.view), f"EXISTS {count}: there are not so many"
        self.view += new
        self._claim(new)

    def _claim(self, new: Iterable[int]) -> None:
        assert self.box is not None
        first = self.box.unclaimed
        self.recent |= {uid for uid in new if uid >= first}
        if not self.read_only:
            self.box.unclaimed = max(first, self.view[-1] + 1 if self.view else 1)

    def _gone(self, uids: Iterable[int]) -> None:
        assert self.box is not None
        for uid in uids:
            assert uid not in self.box.letters, f"UID {uid} is there, but was told as expunged"
            assert uid in self.view, f"UID {uid} was told as expunged, but the client does not know it"
            self.view.remove(uid)
            self.flags.pop(uid, None)
            self.recent.discard(uid)

    def _vanished(self, words: list[Any], command: str) -> None:
        assert self.qresync
        assert self.box is not None
        earlier = words[0] == ["EARLIER"]
        uids = numbers(words[-1])
        assert uids, "an empty VANISHED"
        if not earlier:
            assert command not in NUMBERED, f"VANISHED in {command}"
            self._gone(uids)
            return
        assert command in ("SELECT", "EXAMINE", "UID")
        for uid in uids:
            assert uid < self.box.uidnext
            assert uid not in self.view, f"VANISHED (EARLIER) {uid}, which still has a number"
            assert uid not in self.box.letters

    def _fetch(self, number: int, found: dict[str, Any], command: str) -> None:
        assert 1 <= number <= len(self.view), f"FETCH of {number}, but there are {len(self.view)}"
        assert self.box is not None
        uid = self.view[number - 1]
        assert found.get("UID", str(uid)) == str(uid)
        if self.qresync and "FLAGS" in found and command != "FETCH":
            assert "UID" in found, "RFC 7162 section 3.2.4: UID in every FETCH with flags that was not asked"
        letter = self.box.letters.get(uid)
        assert letter is not None, f"FETCH of UID {uid}, which is gone"
        if "FLAGS" in found:
            flags = frozenset(found["FLAGS"])
            known = {flag for flag in flags if not flag.startswith("\\")}
            assert known <= self.keywords, f"{known} was not in FLAGS: {self.keywords}"
            assert flags == self.truth(uid), f"UID {uid} has {self.truth(uid)}, not {flags}"
            self.flags[uid] = flags
        if "MODSEQ" in found:
            assert self.condstore
            modseq = int(found["MODSEQ"][0])
            letter.told(modseq)
            self.box.told(modseq)
            self._modseqs.append(modseq)

    def truth(self, uid: int) -> Flags:
        r"""The flags of a message as this client must see them, with \Recent."""
        assert self.box is not None
        flags = self.box.letters[uid].flags
        return flags | {RECENT} if uid in self.recent else flags

    # HIGHESTMODSEQ (RFC 7162 section 6)

    def _code(self, code: str) -> None:
        name, _, rest = code.partition(" ")
        if name == "HIGHESTMODSEQ":
            assert self.box is not None
            self.box.told(int(rest))
            self.modseq, self._modseqs = int(rest), []

    def _count(self, code: str) -> None:
        if code.startswith("HIGHESTMODSEQ"):
            self._code(code)
        elif self._modseqs:
            self.modseq = max(self.modseq, *self._modseqs)
        self._modseqs = []

    # Coming and going

    def _opened(self, before: list[Said], box: Box, last: Said) -> list[Said]:
        """A mailbox is selected; what is left to apply: flags."""
        self.left()
        if last.status != "OK":
            return []
        self.box, self.read_only = box, last.code == "READ-ONLY"
        [exists] = [each for each in before if each.kind == "EXISTS"]
        assert int(exists.words[0]) == len(box.letters)
        self.view = sorted(box.letters)
        self._claim(self.view)
        codes = Answer("OK", "", before)
        assert codes.codes("UIDVALIDITY") == [str(box.uidvalidity)]
        assert codes.codes("UIDNEXT") == [str(box.uidnext)]
        unseen = [at for at, uid in enumerate(self.view, 1) if r"\Seen" not in box.letters[uid].flags]
        assert codes.codes("UNSEEN") == [str(at) for at in unseen[:1]]
        return [each for each in before if each is not exists]

    def left(self) -> None:
        """Nothing is selected; what is known of the mailbox is kept, if it can be brought up to date later."""
        if self.box is not None and self.modseq:
            flags = {uid: flags - {RECENT} for uid, flags in self.flags.items()}
            self.caches = [each for each in self.caches if each.box is not self.box]
            self.caches.append(Cache(self.box, self.modseq, flags))
        self.box, self.view, self.flags, self.recent, self.saved = None, [], {}, set(), []
        self.keywords, self.modseq, self._modseqs = set(), 0, []
