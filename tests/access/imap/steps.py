"""The steps of `test_model` that concern whole mailboxes and the server, and what all steps share."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.access.imap.harness import World
from tests.access.imap.model import Box, Names, Refusal
from tests.access.imap.picks import NAMES, mailbox, who
from tests.access.imap.picture import Answer, Picture


class Steps(RuleBasedStateMachine):
    """Three clients of alice, and whoever else comes to her mail."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.names = Names()
        self.pictures: list[Picture] = []
        self.idlers: list[Picture] = []  # in the order in which they are told
        self.drops = 0

    def uidvalidity(self, name: str) -> int:
        said = self.oracle.ask(f"o STATUS {name} (UIDVALIDITY)").decode()
        return int(said.split("(UIDVALIDITY ")[1].split(")")[0])

    def ready(self, who: int, *, selected: bool = True) -> Picture | None:
        """The client, out of IDLE; None where the command needs a mailbox and it has none."""
        picture = self.pictures[who]
        if picture.idle is not None:
            tag, picture.idle = picture.idle, None
            picture.client.send(b"DONE\r\n")
            assert picture.hear(tag, "IDLE").status == "OK"
        return None if selected and picture.box is None else picture

    def command(self, picture: Picture, command: str, expunges: bool = True, **options: Any) -> Answer:
        """Ask; afterwards the client must know everything."""
        box = picture.box
        answer = picture.ask(command, **options)
        if answer.status == "BYE":
            assert box is not None
            assert box.deleted, "BYE, but its mailbox is there"
            self.reconnect(picture)
        else:
            self.check(picture, expunges)
        return answer

    def reconnect(self, picture: Picture) -> None:
        picture.left()
        picture.client = self.world.connect().login()
        picture.condstore = picture.qresync = False

    def check(self, picture: Picture, expunges: bool = True) -> None:
        """The client's view is the server's state, as far as it may be told."""
        box = picture.box
        if box is None or box.deleted:
            return
        there = sorted(box.letters)
        if expunges:
            assert picture.view == there
        known = [uid for uid in picture.view if uid in box.letters]
        assert known == there[: len(known)]
        if known == picture.view:
            assert known == there, "nothing is in the way of EXISTS"
        for uid in known:
            if uid in picture.flags:
                assert picture.flags[uid] == picture.truth(uid), f"UID {uid}: not told of its flags"

    def refused(self, code: str, answer: Answer) -> None:
        assert (answer.status, answer.code.split(" ")[0]) == ("NO", code), answer

    def learn(self, box: Box) -> None:
        """Note the modseq of every message."""
        live = self.world.run(self.world.store.open(self.world.alice.id, self.names.name_of(box)))
        for uid, letter in box.letters.items():
            letter.told(live.entry(uid).modseq)
            box.told(letter.modseq)
        live.close()

    # Mailboxes

    @rule(name=st.sampled_from(NAMES[2:]))
    def create(self, name: str) -> None:
        self.tell(f"CREATE {name}", lambda: self.names.make(name))

    @rule(who=who, name=mailbox)
    def delete(self, who: int, name: str) -> None:
        picture = self.ready(who, selected=False)
        assert picture is not None
        try:
            box = self.names.remove(name)
        except Refusal as refusal:
            self.refused(str(refusal), self.command(picture, f"DELETE {name}"))
            return
        assert self.command(picture, f"DELETE {name}").status == "OK"
        if box is not None and picture.box is box:
            picture.left()

    @rule(old=mailbox, new=st.sampled_from(NAMES[2:]))
    def rename(self, old: str, new: str) -> None:
        if old != "INBOX":
            self.tell(f"RENAME {old} {new}", lambda: self.names.rename(old, new))
            return
        if self.tell(
            f"RENAME INBOX {new}",
            lambda: self.names.make(new) if new not in self.names.boxes else self._taken(),
        ):
            inbox, target = self.names.at("INBOX"), self.names.at(new)
            assert inbox is not None
            assert target is not None
            for letter in inbox.letters.values():
                target.add(letter.body, letter.flags)
            inbox.letters.clear()

    def _taken(self) -> list[str]:
        raise Refusal("ALREADYEXISTS")

    def tell(self, command: str, predict: Any) -> bool:
        """A command about names by a client that selects nothing; whether it was done."""
        made, expected = [], "o OK"
        try:
            made = predict()
        except Refusal as refusal:
            expected = f"o NO [{refusal}"
        said = self.oracle.ask(f"o {command}").decode()
        assert said.startswith(expected), said
        for name in made:
            self.names.add(name, self.uidvalidity(name))
        return expected == "o OK"

    # Life

    @rule(seconds=st.sampled_from((1.0, 4.0, 40.0)))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        self.world.settle()

    @rule()
    def restart(self) -> None:
        """The server stops and starts again; all sessions are lost."""
        self.world.clock.advance(2.0)  # what is behind is written
        self.world.settle()
        for picture in self.pictures:
            picture.idle = None
            picture.client.lose()
        self.oracle.lose()
        self.world.restart()
        self.world.store.startService()
        self.oracle = self.world.connect().login()
        for picture in self.pictures:
            self.reconnect(picture)
