"""A client that knows only what it was told, and sends the next command before the last is answered.

Every response is held against `chronicle` as it comes; when all is quiet, `agree` holds what the client knows
against what is there. The client keeps the rules for clients: RFC 9051 section 5.5 (no message numbers while an
EXPUNGE may come), RFC 7162 section 6 (HIGHESTMODSEQ counts at a tagged response).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.access.imap.chronicle import Chronicle, Effect, Flags, State
from tests.access.imap.effects import Copying
from tests.access.imap.model import changed
from tests.access.imap.picture import RECENT, items
from tests.access.imap.replies import Said, numbers, read
from tests.access.imap.turns import Host

ALICE = 1  # all mailboxes that are opened are hers


@dataclass(slots=True)
class Cache:
    """What is kept of a mailbox while it is not selected."""

    box: int
    uidvalidity: int
    modseq: int
    flags: dict[int, Flags]


@dataclass(slots=True, eq=False)
class Order:
    """A command that was sent."""

    tag: str
    text: str
    since: int  # the last commit before it was sent
    heard: int  # a commit that its process knew of then
    effect: Effect | None = None
    uids: tuple[int, ...] = ()
    expunges: bool = True  # message numbers may change while it is answered
    silent: tuple[str, Flags] | None = None
    opens: bool = False
    leaves: bool = False
    cache: Cache | None = None
    check: Callable[[Order, Said], None] | None = None
    untagged: list[Said] = field(default_factory=list)

    @property
    def verb(self) -> str:
        words = self.text.split()
        return words[1] if words[0] == "UID" else words[0]


class Onlooker:
    """One connection after the other, of one user to one process."""

    def __init__(self, chronicle: Chronicle, host: Host, user: int, login: str) -> None:
        self.chronicle, self.host, self.user = chronicle, host, user
        self._login = login
        self.caches: list[Cache] = []
        self._tags = 0
        self.begin()

    def begin(self) -> None:
        """Connect."""
        self.link = self.host.imap()
        self.orders: deque[Order] = deque()
        self.condstore = self.qresync = self.uid_only = self.notified = False
        self.idling: str | None = None  # the tag of an IDLE that was not ended
        self.idles = False  # and the server has said that it is idling
        self.ready = False
        self._started: Order | None = None
        self._left()
        self._rest = b""
        self.link.heard()
        self.order(self._login)

    def _left(self) -> None:
        self.box: int | None = None
        self.writable = False
        self.view: list[int | None] = []
        self.flags: dict[int, Flags] = {}
        self._places: dict[int, int] = {}  # of a message's history: what was told last
        self.saved: tuple[int, ...] | None = ()
        self.modseq = 0
        self._modseqs: list[int] = []
        self._highest = 0  # told since the last tagged response, until which it does not count

    # What the client says

    def order(self, text: str, literal: bytes | None = None, *, whole: bool = True, **options: Any) -> Order:
        """Send a command; with `whole` false its end is still to come."""
        self._tags += 1
        last = self.chronicle.last
        order = Order(f"t{self._tags}", text, last, self.chronicle.answered, **options)
        self.orders.append(order)
        if order.effect is not None:
            self.chronicle.expect(order.effect, self.link.role._context)
        self._start()
        data = f"{order.tag} {text}".encode()
        if literal is not None:
            data += b" {%d+}\r\n%b" % (len(literal), literal)
        self.link.send(data + b"\r\n" if whole else data)
        return order

    def lose(self) -> None:
        """The connection breaks: what was being answered may still be done, and nothing that follows it."""
        for order in list(self.orders)[1:]:
            if order.effect is not None:
                self.chronicle.effects.remove(order.effect)
        self.keep()
        self.link.lose()
        self.begin()

    def saves_after(self, order: Order) -> bool:
        """Whether it has sent another search whose hits will be `$`."""
        return any("(SAVE " in one.text for one in self.orders if one is not order)

    def keep(self) -> None:
        """Remember the mailbox for a quick resynchronization."""
        if self.box is not None and self.modseq:
            doubtful = {uid for order in self.orders if order.silent for uid in order.uids}
            flags = {uid: flags for uid, flags in self.flags.items() if uid not in doubtful}
            box = self.box
            [validity] = [key[1] for key, id in self.chronicle.boxes.items() if id == box]
            self.caches = [each for each in self.caches if each.box != box][-3:]
            self.caches.append(Cache(box, validity, self.modseq, flags))

    @property
    def has_selected(self) -> bool:
        """Whether it knows what it has selected, and will have."""
        moving = any(order.opens or order.leaves for order in self.orders)
        return self.ready and self.box is not None and not moving

    @property
    def may_number(self) -> bool:
        """Whether message numbers may be used now (RFC 9051 section 5.5)."""
        free = not self.notified and not self.uid_only and self.idling is None
        return free and not any(order.expunges for order in self.orders)

    # What the client hears

    def listen(self) -> None:
        """Take in all that was said."""
        data = self.link.heard()
        if not data:
            return
        data = self._rest + data
        whole = data.rfind(b"\r\n") + 2
        data, self._rest = data[:whole], data[whole:]
        for said in read(data):
            self._hear(said)
        if self.link.closed:
            self.keep()
            self.begin()

    def _hear(self, said: Said) -> None:
        if said.tag == "+":
            self.idles = True
            return
        if said.tag != "*":
            order = self.orders.popleft()
            assert said.tag == order.tag, f"{said}, but {order} is to be answered"
            self._answered(order, said)
            self._started = None
            self._start()
            return
        if self.orders:
            self.orders[0].untagged.append(said)
        if said.status:
            self._status(said)
            return
        match said.kind:
            case "EXISTS":
                self._exists(int(said.words[0]))
            case "EXPUNGE":
                self._expunged(int(said.words[0]))
            case "VANISHED":
                self._vanished(said.words[1:])
            case "FETCH" | "UIDFETCH":
                self._fetched(int(said.words[0]), items(said), said.kind == "UIDFETCH")

    def _start(self) -> None:
        """The first order is being answered from now on."""
        if not self.orders or self._started is self.orders[0]:
            return
        self._started = order = self.orders[0]
        if order.silent is not None:
            for uid in order.uids:
                if uid in self.flags:
                    self.flags[uid] = changed(self.flags[uid], *order.silent)
        if order.opens and self.box is None:
            self._opening(order)

    def _opening(self, order: Order) -> None:
        self.keep()
        self._left()
        if order.cache is not None:
            self.flags = dict(order.cache.flags)

    def _status(self, said: Said) -> None:
        name, _, rest = said.code.partition(" ")
        match said.status, name:
            case "BYE", _:
                gone = self.box is not None and self.box not in self.chronicle.state
                assert gone, f"{said}, but the mailbox is there"
            case "OK", "CLOSED":
                self._opening(self.orders[0])
            case "OK", "UIDVALIDITY":
                self._opened(int(rest))
            case "OK", "HIGHESTMODSEQ":
                self._highest, self._modseqs = int(rest), []

    def _opened(self, uidvalidity: int) -> None:
        self.box = self.chronicle.boxes[ALICE, uidvalidity]
        cache = self.orders[0].cache
        if cache is not None and cache.uidvalidity != uidvalidity:  # another one has the name by now
            self.flags.clear()

    def _exists(self, count: int) -> None:
        assert count >= len(self.view), f"EXISTS {count}, but there were {len(self.view)}"
        self.view += [None] * (count - len(self.view))

    def _expunged(self, number: int) -> None:
        assert not self.qresync
        assert not self.uid_only
        self._may_renumber()
        uid = self.view.pop(number - 1)
        if uid is not None:
            self._forget(uid)

    def _may_renumber(self) -> None:
        first = self.orders[0] if self.orders else None
        if first is None:
            assert self.idling or self.notified, "EXPUNGE while no command is in progress"
        else:
            assert first.expunges, f"EXPUNGE in {first.text}"

    def _forget(self, uid: int) -> None:
        assert (self.box, uid) in self.chronicle.gone, f"UID {uid} is there, but was told as expunged"
        self.flags.pop(uid, None)
        self._places.pop(uid, None)

    def _vanished(self, words: list[Any]) -> None:
        assert self.qresync or self.uid_only
        earlier = words[0] == ["EARLIER"]
        if not earlier:
            self._may_renumber()
        for uid in numbers(words[-1]):
            if earlier:
                assert uid not in self.view, f"VANISHED (EARLIER) {uid}, which still has a number"
                self.flags.pop(uid, None)
                continue
            self._forget(uid)
            if uid in self.view:
                self.view.remove(uid)
            else:
                self._take_unknown(uid)

    def _take_unknown(self, uid: int) -> None:
        """It has a number, but the client was not told which: one between those that it knows."""
        before = max((at for at, each in enumerate(self.view) if each and each < uid), default=-1)
        after = min((at for at, each in enumerate(self.view) if each and each > uid), default=len(self.view))
        free = [at for at in range(before + 1, after) if self.view[at] is None]
        assert free, f"VANISHED {uid}, which has no number in {self.view}"
        del self.view[free[0]]

    def _fetched(self, number: int, found: dict[str, Any], by_uid: bool) -> None:
        assert self.box is not None
        assert by_uid == self.uid_only, "FETCH or UIDFETCH"
        uid: int | None = number
        if not by_uid:
            assert 1 <= number <= len(self.view), f"FETCH of {number}, but there are {len(self.view)}"
            if "UID" in found:
                self._place(number, int(found["UID"]))
            uid = self.view[number - 1]
        if "MODSEQ" in found:
            self._modseqs.append(int(found["MODSEQ"][0]))
        if uid is None:
            return
        if "FLAGS" in found or "MODSEQ" in found:
            self._told(uid, found)
        if "BODY[]" in found:
            assert found["BODY[]"] == self.chronicle.bodies[self.box, uid]

    def _place(self, number: int, uid: int) -> None:
        known = self.view[number - 1]
        assert known in (None, uid), f"message {number} was UID {known} and is UID {uid}"
        assert all(each is None or each < uid for each in self.view[: number - 1]), f"{uid} in {self.view}"
        assert all(each is None or each > uid for each in self.view[number:]), f"{uid} in {self.view}"
        self.view[number - 1] = uid

    def _told(self, uid: int, found: dict[str, Any]) -> None:
        """Flags, modseq or both: true now or a moment ago, not older than what was told before."""
        assert self.box is not None
        history = self.chronicle.marks[self.box, uid]
        flags = frozenset(found["FLAGS"]) - {RECENT} if "FLAGS" in found else None
        modseq = int(found["MODSEQ"][0]) if "MODSEQ" in found else None
        first = self._places.get(uid, 0)
        for place in range(first, len(history)):
            mark = history[place]
            if flags in (None, mark.flags) and modseq in (None, mark.modseq):
                break
        else:
            raise AssertionError(
                f"UID {uid}: told {flags} {modseq}, but of {history} {first} was told before"
            )
        self._places[uid] = place
        if flags is not None:
            self.flags[uid] = flags

    def _answered(self, order: Order, said: Said) -> None:
        if said.code.startswith("HIGHESTMODSEQ"):
            self._highest, self._modseqs = int(said.code.split()[1]), []
        self.modseq = max([self._highest or self.modseq, *self._modseqs])
        self._modseqs, self._highest = [], 0
        if order.text == self._login:
            assert said.status == "OK"
            self.ready = True
        if order.opens:
            self.writable = said.code == "READ-WRITE"
            if said.status != "OK":
                self._left()
        if order.leaves and said.status == "OK":
            self.keep()
            self._left()
        effect = order.effect
        if effect is not None:
            self._done(order, effect, said)
            if hasattr(effect, "over"):
                effect.over = True
            self.chronicle.answer(effect)
        if order.check is not None:
            order.check(order, said)

    def _done(self, order: Order, effect: Effect, said: Said) -> None:
        """What is said to be done is done, and what is refused is not."""
        chronicle = self.chronicle
        if said.status == "OK":
            vain = effect.at is None and not chronicle.ever(order.heard, effect.is_vain)
            assert not vain, f"{order.text}: {said}, but it was not done"
            return
        done = effect.at is not None
        assert said.status == "NO", f"{order.text}: {said}"
        if order.verb in ("STORE", "FETCH"):
            some = any((self.box, uid) in chronicle.gone for uid in order.uids)
            assert some or not self.writable, f"{order.text}: {said}, but all are there"
        else:
            assert not done, f"{order.text}: {said}, but it was done"
        if isinstance(effect, Copying) and said.code == "TRYCREATE":
            assert chronicle.ever(order.heard, lambda state: chronicle.at(effect.target, state) is None)

    # What the client knows

    def known(self) -> list[int]:
        """The UIDs that it has heard of, ascending."""
        return sorted({uid for uid in self.view if uid is not None} | set(self.flags))

    def number(self, uid: int) -> int | None:
        """A message's number."""
        return self.view.index(uid) + 1 if uid in self.view else None

    def agree(self) -> None:
        """All is quiet, and it has just asked: what it knows is what there is."""
        state: State = self.chronicle.state
        if self.box is None or self.box not in state:
            return
        there = state[self.box].letters
        order = list(there)
        assert len(self.view) == len(order), f"{self.view} of {order}"
        for known, uid in zip(self.view, order, strict=True):
            assert known in (None, uid), f"{self.view} of {order}"
        for uid, flags in self.flags.items():
            assert uid in there, f"UID {uid} is gone, untold"
            assert flags == there[uid][0], f"UID {uid} has {there[uid][0]}, but was told {flags}"
