"""The steps of `test_interleaved`: each sends something, then lets some of what is under way go on."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.access.imap.chronicle import Chronicle, Flags, Name, State
from tests.access.imap.effects import Adding, Copying, Dropping, Flagging, Making, Naming, Removing, Seeing
from tests.access.imap.harness import World
from tests.access.imap.onlooker import Onlooker, Order
from tests.access.imap.picks import BODIES
from tests.access.imap.replies import Said, numbers
from tests.access.imap.turns import Stage

ALICE = 1
NAMES = ("INBOX", "A", "B")
OF_ALICE = "Other Users/alice@example.test/"
TESTS: dict[str, Any] = {
    "ALL": lambda flags: True,
    "SEEN": lambda flags: r"\Seen" in flags,
    "UNDELETED": lambda flags: r"\Deleted" not in flags,
    "KEYWORD Work": lambda flags: "Work" in flags,
}

MODES = ("CONDSTORE", "QRESYNC", "UIDONLY", "NOTIFY")
BUSY = (*("INBOX",) * 6, *NAMES[1:])
FLAGS = (r"\Seen", r"\Deleted", "Work")


def some_flags(r: Random) -> Flags:
    return frozenset(r.sample(FLAGS, r.choice((0, 1, 1, 1, 2))))


class Base:
    """Three clients of alice and one of bob, to whom she gave all rights; a clerk who sees to the names."""

    def __init__(self, url: str | None = None) -> None:
        self.world = World(url=url)

    def open(self, hosts: int, r: Random) -> None:
        self.chronicle = Chronicle(self.world.database.url)
        self.chronicle.alone = hosts == 1
        self.stage = Stage(self.world, hosts, self.chronicle.committed)
        self.clerk = self.client(0)
        self.clients = [self.client(0), self.client(1), self.client(0), self.client(1, "bob")]
        self.settle()
        for each in NAMES[1:]:
            self.clerk.order(f"CREATE {each}", effect=Making((ALICE, each)))
        for each in NAMES:
            self.clerk.order(f"SETACL {each} bob@example.test lrswipkxtea")
        for number in range(6):
            flags = frozenset((r"\Deleted", "Work")[: number % 3])
            self.append_to(self.clerk, NAMES[number % 3 // 2], [BODIES[number % 3]], flags)
        self.settle()
        for client in self.clients:
            self.adopt(client, r.choice(("", "", "QRESYNC", *MODES)))
            self.open_box(client, r.choice(BUSY), "SELECT")
            self.look_at_all(client)
        self.settle()

    def adopt(self, client: Onlooker, mode: str) -> None:
        """What kind of client it is."""
        if mode in ("CONDSTORE", "QRESYNC", "UIDONLY"):
            client.order(f"ENABLE {mode}")
            client.qresync |= mode == "QRESYNC"
            client.uid_only |= mode == "UIDONLY"
        elif mode == "NOTIFY":
            client.notified = True
            client.order("NOTIFY SET (SELECTED (MessageNew MessageExpunge FlagChange))")

    def look_at_all(self, client: Onlooker) -> None:
        """As clients do after SELECT, without waiting for its answer."""
        if client.uid_only or client.notified:
            client.order("UID FETCH 1:* (FLAGS)")
        else:
            client.order("FETCH 1:* (UID FLAGS)", expunges=False)

    def client(self, host: int, user: str = "alice") -> Onlooker:
        number, password = (1, "secret") if user == "alice" else (2, "sesame")
        login = f"LOGIN {user}@example.test {password}"
        return Onlooker(self.chronicle, self.stage.hosts[host % len(self.stage.hosts)], number, login)

    def close(self) -> None:
        self.stage.close()
        self.chronicle.close()
        self.world.close()

    # The order of things

    def listen(self) -> None:
        self.chronicle.verify()
        for client in (self.clerk, *self.clients):
            client.listen()

    def go_on(self, r: Random) -> None:
        """Some of what is under way goes on."""
        self.listen()
        for _ in range(r.choice((0, 0, 0, 1, 1, 2, 3, 5, 8))):
            choices = self.stage.choices()
            if choices:
                r.choice(choices)()
                self.listen()

    def settle(self) -> None:
        self.listen()
        self.stage.drain(self.listen)
        if len(self.stage.hosts) > 1:
            self.stage.clock.advance(0.3)  # `peers` looks at what may have been missed
            self.stage.drain(self.listen)
        self.chronicle.settle()

    def quiet(self) -> None:
        """All that is under way ends; everybody asks, and knows all."""
        self.settle()
        for client in self.clients:
            self.awake(client)
        self.settle()
        for client in self.clients:
            assert not client.orders, f"{client.orders[0].text} is not answered"
            client.order("NOOP")
        self.settle()
        for client in self.clients:
            client.agree()

    def compare_all(self) -> None:
        """Whoever comes fresh sees what there is, every octet of it."""
        for id, box in self.chronicle.state.items():
            if box.name[0] != ALICE or not box.letters:
                continue
            client = self.client(0)
            self.settle()
            self.open_box(client, box.name[1], "EXAMINE")
            self.clients.append(client)
            self.settle()
            order = client.order("FETCH 1:* (UID FLAGS BODY.PEEK[])", expunges=False)
            self.settle()
            letters = self.chronicle.state[id].letters  # files of other programs are found by now
            assert sorted(client.flags) == list(letters)
            assert len([said for said in order.untagged if said.kind == "FETCH"]) == len(letters)
            client.agree()
            assert id == client.box

    # What clients may say now

    def awake(self, client: Onlooker) -> bool:
        """Out of IDLE; false if it does not even know that it is in."""
        if client.idling is None:
            return client.ready
        if not client.idles:
            return False
        client.idling = None
        client.link.send(b"DONE\r\n")
        return True

    def free(self, r: Random) -> Onlooker | None:
        """A client that waits for nothing."""
        found = [client for client in self.clients if self.awake(client) and not client.orders]
        return r.choice(found) if found else None

    def selected(self, r: Random) -> Onlooker | None:
        """A client that knows what it has selected; out of IDLE, if it was in."""
        found = [client for client in self.clients if client.has_selected]
        client = r.choice(found) if found else None
        return client if client is not None and self.awake(client) else None

    def chosen(self, client: Onlooker, r: Random) -> tuple[bool, str, tuple[int, ...]] | None:
        """Whether by UID, a sequence set, and the UIDs that it names."""
        by_uid = not client.may_number or r.random() < 0.4
        known = client.known() if by_uid else [uid for uid in client.view if uid is not None]
        if not known:
            return None
        uids = sorted(set(r.choices(known, k=r.choice((1, 1, 2, 4)))))
        named = uids if by_uid else [client.number(uid) or 0 for uid in uids]
        return by_uid, ",".join(map(str, named)), tuple(uids)

    def spelled(self, client: Onlooker, name: str) -> str:
        return name if client.user == ALICE else f'"{OF_ALICE}{name}"'

    # Shared by several steps

    def open_box(self, client: Onlooker, name: str, verb: str, cache: Any = None) -> None:
        text = f"{verb} {self.spelled(client, name)}"
        if cache is not None:
            text += f" (QRESYNC ({cache.uidvalidity} {cache.modseq}))"
        client.order(text, opens=True, cache=cache, check=self.opened(client, name))

    def opened(self, client: Onlooker, name: str) -> Any:
        def check(order: Order, said: Said) -> None:
            def was(state: State) -> bool:
                return self.chronicle.at((ALICE, name), state) == client.box

            assert self.chronicle.ever(order.heard, was), f"{order.text}: {said}"
            if said.status == "OK":
                assert client.box is not None

        return check

    def append_to(self, client: Onlooker, name: str, bodies: list[bytes], flags: Flags) -> None:
        effect = Adding((ALICE, name), [(body, flags) for body in bodies])

        def check(order: Order, said: Said) -> None:
            if said.status == "OK":
                [box] = effect.did.added
                validity = self.chronicle.states[effect.at or 0][box].uidvalidity
                assert said.code.startswith(f"APPENDUID {validity} ")
                assert numbers(said.code.split()[2]) == effect.uids
            else:
                self.was_missing(order, (ALICE, name))

        some = f"({' '.join(sorted(flags))})"
        text = f"APPEND {self.spelled(client, name)} {some}"
        for body in bodies[:-1]:
            text += f" {{{len(body)}+}}\r\n{body.decode('latin-1')} {some}"
        client.order(text, literal=bodies[-1], effect=effect, check=check)

    def was_missing(self, order: Order, *names: Name) -> None:
        """NO, because there was no such mailbox."""
        for name in names:
            if self.chronicle.ever(
                order.heard, lambda state, name=name: self.chronicle.at(name, state) is None
            ):
                return
        raise AssertionError(f"{order.text} was refused, but {names} were there")


class Shifting(Base):
    """Coming, going, waiting, and whole mailboxes."""

    def turn(self, r: Random) -> None:
        self.go_on(r)

    def time(self, r: Random) -> None:
        self.stage.clock.advance(r.choice((0.2, 1.0, 2.5)))

    def quietly(self, r: Random) -> None:
        self.quiet()

    def select(self, r: Random) -> None:
        client = self.free(r)
        if client is not None:
            self.open_box(client, r.choice(BUSY), r.choice(("SELECT", "SELECT", "EXAMINE")))
            self.look_at_all(client)

    def noop(self, r: Random) -> None:
        client = r.choice(self.clients)
        if self.awake(client):
            client.order("NOOP")

    def idle(self, r: Random) -> None:
        client = r.choice(self.clients)
        if client.ready and client.idling is None:
            client.idling, client.idles = client.order("IDLE").tag, False

    def mode(self, r: Random) -> None:
        client, mode = self.free(r), r.choice(MODES)
        if client is not None and (mode == "NOTIFY" or client.box is None):
            self.adopt(client, mode)

    def leave(self, r: Random) -> None:
        client, verb = self.selected(r), r.choice(("CLOSE", "UNSELECT"))
        if client is not None and client.box is not None:
            effect = Removing(client.box, None, ()) if verb == "CLOSE" and client.writable else None
            client.order(verb, effect=effect, leaves=True)

    def lose(self, r: Random) -> None:
        r.choice(self.clients).lose()

    def resynchronize(self, r: Random) -> None:
        """The connection is lost; with another, the client asks what it has missed."""
        client = r.choice(self.clients)
        if not client.ready:
            return
        client.lose()
        self.adopt(client, "QRESYNC")
        caches = [each for each in client.caches if each.box in self.chronicle.state]
        if caches:
            cache = r.choice(caches)
            self.open_box(client, self.chronicle.state[cache.box].name[1], "SELECT", cache)

    def name_it(self, r: Random) -> None:
        verb, old, new = (
            r.choice(("CREATE", "CREATE", "DELETE", "RENAME")),
            r.choice(NAMES),
            r.choice(NAMES[1:]),
        )
        target, source = (ALICE, new), (ALICE, old)
        effect: Any = Making(target) if verb == "CREATE" else Dropping(target)
        text = f"{verb} {new}"
        if verb == "RENAME":
            text, effect = f"RENAME {old} {new}", Naming(source, target)

        def check(order: Order, said: Said) -> None:
            if said.status == "OK":
                return
            if verb == "DELETE":
                self.was_missing(order, target)
            elif said.code == "NONEXISTENT":
                self.was_missing(order, source)
            else:
                there = self.chronicle.ever(
                    order.heard, lambda state: self.chronicle.at(target, state) is not None
                )
                assert there or old == new, f"{text}: {said}"

        self.clerk.order(text, effect=effect, check=check)
        if verb in ("CREATE", "RENAME"):
            self.clerk.order(f"SETACL {new} bob@example.test lrswipkxtea")

    def status(self, r: Random) -> None:
        name = r.choice(NAMES)

        def check(order: Order, said: Said) -> None:
            if said.status != "OK":
                self.was_missing(order, (ALICE, name))
                return
            [found] = [each for each in order.untagged if each.kind == "STATUS"]
            values = dict(zip(found.words[2][::2], map(int, found.words[2][1::2]), strict=True))

            def was(state: State) -> bool:
                id = self.chronicle.at((ALICE, name), state)
                if id is None:
                    return False
                box = state[id]
                unseen = sum(r"\Seen" not in flags for flags, _ in box.letters.values())
                return values == {
                    "MESSAGES": len(box.letters),
                    "UIDNEXT": box.uidnext,
                    "UIDVALIDITY": box.uidvalidity,
                    "UNSEEN": unseen,
                    "HIGHESTMODSEQ": box.modseq,
                }

            assert self.chronicle.ever(order.since, was), f"{name} was never so: {values}"

        self.clerk.order(f"STATUS {name} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)", check=check)


class UnderWay(Shifting):
    """Messages: looked at, changed, added, taken away."""

    def fetch(self, r: Random) -> None:
        what = r.choice(("FLAGS", "(UID FLAGS)", "(UID FLAGS MODSEQ)", "BODY.PEEK[]", "BODY[]", "BODY[]"))
        client = self.selected(r)
        chosen = None if client is None else self.chosen(client, r)
        if client is not None and chosen is not None and client.box is not None:
            by_uid, text, uids = chosen
            box = client.box
            effect = Seeing(box, uids) if what == "BODY[]" and client.writable else None
            client.condstore |= "MODSEQ" in what

            def check(order: Order, said: Said) -> None:
                if said.status == "OK" and not by_uid:
                    answers = {each.words[0] for each in order.untagged if each.kind == "FETCH"}
                    assert len(answers) >= len(uids)
                elif said.status != "OK":
                    assert any((box, uid) in self.chronicle.gone for uid in uids), f"{text}: {said}"

            if by_uid and client.qresync and client.modseq and what == "(UID FLAGS MODSEQ)":
                what += f" (CHANGEDSINCE {max(1, client.modseq - r.choice((0, 2, 9)))} VANISHED)"
            verb = f"{'UID ' * by_uid}FETCH {text} {what}"
            client.order(verb, effect=effect, uids=uids, expunges=by_uid, check=check)

    def store(self, r: Random) -> None:
        silent, flags = r.random() < 0.5, some_flags(r)
        mode, unchanged = r.choice(("+FLAGS", "-FLAGS", "FLAGS")), r.choice((None, None, None, 0, 2))
        client = self.selected(r)
        chosen = None if client is None else self.chosen(client, r)
        if client is not None and chosen is not None and client.box is not None and client.writable:
            (by_uid, text, uids), condition, since = chosen, "", None
            silent = silent and not client.notified and unchanged is None
            if unchanged is not None and client.modseq:
                since = max(1, client.modseq - unchanged)
                condition, client.condstore = f"(UNCHANGEDSINCE {since}) ", True
            effect = Flagging(client.box, uids, mode, flags, since)
            client.order(
                f"{'UID ' * by_uid}STORE {text} {condition}{mode}{'.SILENT' * silent} "
                f"({' '.join(sorted(flags))})",
                effect=effect,
                uids=uids,
                expunges=by_uid,
                silent=(mode, flags) if silent else None,
            )

    def search(self, r: Random) -> None:
        key, save = r.choice(sorted(TESTS)), r.random() < 0.4
        client = self.selected(r)
        if client is not None and client.box is not None:
            by_uid = not client.may_number or r.random() < 0.5
            known, box, test = tuple(client.view), client.box, TESTS[key]

            def check(order: Order, said: Said) -> None:
                if said.status != "OK":
                    raise AssertionError(f"{order.text}: {said}")
                [found] = [each for each in order.untagged if each.kind == "ESEARCH"]
                words = [word for word in found.words[2:] if word != "UID"]
                hits = numbers(dict(zip(words[::2], words[1::2], strict=True)).get("ALL", ""))
                uids = set(hits) if by_uid else {client.view[hit - 1] for hit in hits}
                if save and by_uid and not client.saves_after(order):
                    client.saved = tuple(sorted(uids))  # type: ignore[type-var]
                for uid in {*known, *uids} - {None}:
                    values = {test(flags) for flags in self.between(box, uid or 0, order.heard)}
                    assert values != {uid not in uids} or self.is_gone(box, uid or 0), f"{order.text}: {hits}"

            options = "SAVE ALL" if save else "ALL"
            if save:
                client.saved = None
            text = f"{'UID ' * by_uid}SEARCH RETURN ({options}) {key}"
            client.order(text, expunges=by_uid, check=check)

    def between(self, box: int, uid: int, since: int) -> list[Flags]:
        """The flags that a message has had since a commit."""
        marks = self.chronicle.marks[box, uid]
        first = max((at for at, mark in enumerate(marks) if mark.at <= since), default=0)
        return [mark.flags for mark in marks[first:]]

    def is_gone(self, box: int, uid: int) -> bool:
        return (box, uid) in self.chronicle.gone

    def store_saved(self, r: Random) -> None:
        flags, mode = some_flags(r), r.choice(("+FLAGS", "-FLAGS"))
        client = self.selected(r)
        if client is not None and client.box is not None and client.writable and client.saved:
            effect = Flagging(client.box, client.saved, mode, flags)
            text = f"UID STORE $ {mode} ({' '.join(sorted(flags))})"
            client.order(text, effect=effect, uids=client.saved)

    def expunge(self, r: Random) -> None:
        client = self.selected(r)
        if client is not None and client.box is not None and client.writable:
            text, uids = "EXPUNGE", None
            if r.random() < 0.5:
                uids = tuple(r.sample(client.known(), min(3, len(client.known()))))
                text = f"UID EXPUNGE {','.join(map(str, uids))}" if uids else "NOOP"
            deleted = [uid for uid, flags in client.flags.items() if r"\Deleted" in flags]
            sure = [uid for uid in deleted if self.surely(client, uid, r"\Deleted")]
            effect = Removing(client.box, uids, sure)
            if text != "NOOP":
                client.order(text, effect=effect, check=self.told(client, effect))

    def surely(self, client: Onlooker, uid: int, flag: str) -> bool:
        """Whether the message has had a flag for so long that its process must know."""
        box = client.box or 0
        return all(flag in flags for flags in self.between(box, uid, self.chronicle.answered))

    def told(self, client: Onlooker, effect: Any) -> Any:
        """After EXPUNGE and MOVE the client knows what is gone by that."""

        def check(order: Order, said: Said) -> None:
            if said.status == "OK" and client.box == effect.box:
                for uid in effect.did.removed.get(effect.box, ()):
                    assert uid not in client.view, f"{order.text}: UID {uid} is gone, untold"

        return check

    def copy(self, r: Random) -> None:
        name, move = r.choice(BUSY), r.random() < 0.5
        client = self.selected(r)
        chosen = None if client is None else self.chosen(client, r)
        if client is not None and chosen is not None and client.box is not None:
            if not move or client.writable:
                (by_uid, text, uids), verb = chosen, "MOVE" if move else "COPY"
                effect = Copying(client.box, uids, (ALICE, name), move)
                words = f"{'UID ' * by_uid}{verb} {text} {self.spelled(client, name)}"
                client.order(words, effect=effect, uids=uids, check=self.copied(client, effect))

    def copied(self, client: Onlooker, effect: Copying) -> Any:
        told = self.told(client, effect)

        def check(order: Order, said: Said) -> None:
            codes = [each.code for each in (*order.untagged, said) if each.code.startswith("COPYUID")]
            if effect.at is None:
                assert not codes
                if said.status == "NO":
                    gone = any(self.is_gone(effect.box, uid) for uid in effect.uids)
                    if not gone:
                        self.was_missing(order, effect.target)
                return
            [code] = codes
            _, validity, old, new = code.split()
            assert int(validity) == self.chronicle.states[effect.at][effect.to].uidvalidity
            assert list(zip(numbers(old), numbers(new), strict=True)) == effect.pairs
            told(order, said)

        return check

    def append(self, r: Random) -> None:
        bodies = r.choices(BODIES[:2], k=r.choice((1, 1, 2)))
        client = r.choice(self.clients)
        if self.awake(client):
            self.append_to(client, r.choice(BUSY), bodies, some_flags(r))

    def append_and_break(self, r: Random) -> None:
        """The connection is lost in the middle of the literal: nothing comes of it."""
        client = self.free(r)
        if client is not None:
            name = self.spelled(client, r.choice(NAMES))
            client.order(f"APPEND {name} {{100+}}\r\nSubject: half", whole=False)
            self.go_on(r)
            client.lose()
