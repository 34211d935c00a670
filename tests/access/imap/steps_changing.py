"""The steps of `test_model` that change messages: by IMAP, by POP3, by delivery, by another program."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.access.imap.model import Box, changed
from tests.access.imap.picks import BODIES, Pick, busy, flag_sets, mailbox, picks, who
from tests.access.imap.picture import RECENT, Answer, Picture
from tests.access.imap.pop3_client import Pop3Client
from tests.access.imap.replies import numbers
from tests.access.imap.steps_looking import Looking


class Changing(Looking):
    """STORE, EXPUNGE, COPY, MOVE, APPEND; mail that comes in; POP3."""

    @rule(
        who=who,
        pick=picks,
        by_uid=st.booleans(),
        mode=st.sampled_from(("+FLAGS", "+FLAGS", "-FLAGS", "FLAGS")),
        silent=st.booleans(),
        flags=flag_sets,
        unchanged=st.sampled_from((None, None, 0, 1, 3)),
    )
    def store(
        self,
        who: int,
        pick: Pick,
        by_uid: bool,
        mode: str,
        silent: bool,
        flags: frozenset[str],
        unchanged: int | None,
    ) -> None:
        picture = self.ready(who)
        chosen = pick.choose(picture, by_uid) if picture else None
        if picture is None or chosen is None or picture.box is None:
            return
        (text, uids), box = chosen, picture.box
        condition = ""
        there = [uid for uid in uids if uid in box.letters]
        failed: list[int] = []
        if unchanged is not None and not box.deleted and not picture.read_only:
            self.learn(box)
            since = max(1, box.highest - unchanged)
            condition, picture.condstore = f"(UNCHANGEDSINCE {since}) ", True
            failed = [uid for uid in there if box.letters[uid].modseq > since]
        if not box.deleted and not picture.read_only:
            if mode != "-FLAGS":
                box.keywords |= {flag for flag in flags if not flag.startswith("\\")}
            for uid in there:
                if uid not in failed:
                    box.change(uid, changed(box.letters[uid].flags, mode, flags))
        before = dict(picture.flags)
        numbers_failed = sorted(uid if by_uid else picture.view.index(uid) + 1 for uid in failed)
        command = (
            f"{'UID ' * by_uid}STORE {text} {condition}{mode}{'.SILENT' * silent} ({' '.join(sorted(flags))})"
        )
        if silent and not picture.read_only and not box.deleted:
            self.expect(picture, [uid for uid in there if uid not in failed], mode, flags)
        answer = self.command(picture, command, by_uid)
        if answer.status == "BYE":
            return
        if picture.read_only:
            picture.flags = before
            assert answer.status == "NO"
            return
        assert [numbers(each) for each in answer.codes("MODIFIED")] == ([numbers_failed] if failed else [])
        assert answer.status == ("NO" if len(there) < len(uids) and not by_uid else "OK")
        if not silent:
            told = self.before_updates(answer)
            assert (
                all(
                    "FLAGS" in told.get(picture.view.index(uid) + 1, {})
                    for uid in there
                    if uid in picture.view
                )
                or by_uid
            )

    def expect(self, picture: Picture, uids: Sequence[int], mode: str, flags: frozenset[str]) -> None:
        """A client that says .SILENT makes the change in its own picture."""
        for uid in uids:
            if uid in picture.flags:
                kept = picture.flags[uid] & {RECENT}
                picture.flags[uid] = changed(picture.flags[uid] - {RECENT}, mode, flags) | kept

    @rule(who=who, pick=st.none() | picks)
    def expunge(self, who: int, pick: Pick | None) -> None:
        picture = self.ready(who)
        if picture is None or picture.box is None:
            return
        box, command, uids = picture.box, "EXPUNGE", list(picture.view)
        if pick is not None:
            chosen = pick.choose(picture, by_uid=True)
            assert chosen is not None
            command, uids = f"UID EXPUNGE {chosen[0]}", chosen[1]
        if not box.deleted and not picture.read_only:
            box.remove(box.marked(uids))
        answer = self.command(picture, command)
        if answer.status != "BYE":
            assert answer.status == ("NO" if picture.read_only else "OK")

    @rule(who=who, pick=picks, by_uid=st.booleans(), name=busy, move=st.booleans())
    def copy(self, who: int, pick: Pick, by_uid: bool, name: str, move: bool) -> None:
        picture = self.ready(who)
        chosen = pick.choose(picture, by_uid) if picture else None
        if picture is None or chosen is None or picture.box is None:
            return
        (text, uids), box, target = chosen, picture.box, self.names.at(name)
        there = [uid for uid in uids if uid in box.letters]
        possible = not box.deleted and not (move and picture.read_only) and target is not None
        possible = possible and (by_uid or len(there) == len(uids))
        pairs: list[tuple[int, int]] = []
        if possible and target is not None:
            pairs = [(uid, target.add(box.letters[uid].body, box.letters[uid].flags).uid) for uid in there]
            if move:
                box.remove(there)
        answer = self.command(picture, f"{'UID ' * by_uid}{'MOVE' if move else 'COPY'} {text} {name}")
        if answer.status == "BYE":
            return
        if move and picture.read_only:
            assert answer.status == "NO"
        elif not uids:
            assert answer.status == "OK"
        elif not by_uid and len(there) < len(uids):
            assert answer.status == "NO"
        elif target is None:
            self.refused("TRYCREATE", answer) if there else None
        else:
            self.copied(answer, target, pairs)

    def copied(self, answer: Answer, target: Box, pairs: list[tuple[int, int]]) -> None:
        assert answer.status == "OK", answer
        codes = [code.split() for code in answer.codes("COPYUID")]
        if not pairs:
            assert not codes
            return
        [[uidvalidity, old, new]] = codes
        assert int(uidvalidity) == target.uidvalidity
        assert list(zip(numbers(old), numbers(new), strict=True)) == pairs

    @rule(who=who, name=busy, flags=flag_sets, body=st.sampled_from(BODIES))
    def append(self, who: int, name: str, flags: frozenset[str], body: bytes) -> None:
        picture = self.ready(who, selected=False)
        assert picture is not None
        box = self.names.at(name)
        letter = box.add(body, flags) if box is not None else None
        answer = self.command(picture, f"APPEND {name} ({' '.join(sorted(flags))})", literal=body)
        if box is None or letter is None:
            self.refused("TRYCREATE", answer)
            return
        assert answer.codes("APPENDUID") == [f"{box.uidvalidity} {letter.uid}"]

    @rule(name=busy, count=st.integers(1, 3))
    def deliver(self, name: str, count: int) -> None:
        box = self.names.at(name)
        if box is not None:
            for _ in range(count):
                box.add(BODIES[0])
            self.world.deliver(*[BODIES[0]] * count, mailbox=name)

    @rule(name=mailbox)
    def another_program_delivers(self, name: str) -> None:
        """A file appears in new/; within `poll` seconds everybody who has the mailbox open sees it."""
        box = self.names.at(name)
        if box is None:
            return
        live = self.world.run(self.world.store.open(self.world.alice.id, name))
        self.drops += 1
        (live.directory / "new" / f"{self.drops}.other.host").write_bytes(BODIES[1])
        live.close()
        box.add(BODIES[1])
        self.world.clock.advance(3.0)
        self.world.settle()
        if self.watched(box):
            self.idlers_know_all()  # the message is recent to them, which is written down by now or soon
            self.status(name)
        else:
            self.opened(name)

    def watched(self, box: Box) -> bool:
        return any(picture.box is box for picture in self.pictures)

    def opened(self, name: str) -> None:
        """Nobody has it open: whoever opens it finds the file."""
        self.world.run(self.world.store.open(self.world.alice.id, name)).close()

    @rule(retrieve=st.frozensets(st.integers(1, 4)), delete=st.frozensets(st.integers(1, 4)))
    def pop3(self, retrieve: frozenset[int], delete: frozenset[int]) -> None:
        inbox = self.names.at("INBOX")
        assert inbox is not None
        uids = sorted(inbox.letters)
        client = Pop3Client(self.world)
        assert client.unique_ids() == [f"{inbox.uidvalidity}.{uid}" for uid in uids]
        there = [number for number in sorted(retrieve) if number <= len(uids)]
        gone = [number for number in sorted(delete) if number <= len(uids)]
        for number in there:
            client.retrieve(number)
        for number in there:
            if number not in gone:
                uid = uids[number - 1]
                inbox.change(uid, inbox.letters[uid].flags | {r"\Seen"})
        inbox.remove([uids[number - 1] for number in gone])
        client.delete_and_quit(gone)
