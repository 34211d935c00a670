"""The steps of `test_model` that open mailboxes, leave them and look into them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from tests.access.imap.model import Letter
from tests.access.imap.picks import KEYS, Pick, busy, mailbox, picks, who
from tests.access.imap.picture import Answer, Cache, Picture
from tests.access.imap.replies import numbers
from tests.access.imap.steps import Steps


class Looking(Steps):
    """SELECT and its kin, NOOP, IDLE, FETCH, SEARCH, STATUS."""

    @rule(who=who, name=busy, verb=st.sampled_from(("SELECT", "SELECT", "EXAMINE")), condstore=st.booleans())
    def select(self, who: int, name: str, verb: str, condstore: bool) -> None:
        picture = self.ready(who, selected=False)
        assert picture is not None
        box = self.names.at(name)
        picture.condstore |= condstore
        command = f"{verb} {name}{' (CONDSTORE)' if condstore else ''}"
        if box is None:
            answer = picture.ask(command)
            self.refused("NONEXISTENT", answer)
            picture.left()
            return
        assert self.command(picture, command, selects=box).status == "OK"

    @rule(who=who, verb=st.sampled_from(("CLOSE", "UNSELECT", "LOGOUT", "loss")))
    def leave(self, who: int, verb: str) -> None:
        if verb == "loss":
            self.pictures[who].idle = None
            self.pictures[who].client.lose()
            self.reconnect(self.pictures[who])
            return
        picture = self.ready(who)
        if picture is None:
            return
        if verb == "LOGOUT":
            assert b"* BYE" in picture.client.ask("x LOGOUT")
            self.reconnect(picture)
            return
        box = picture.box
        assert box is not None
        if verb == "CLOSE" and not picture.read_only and not box.deleted:
            box.remove(box.marked(picture.view))
        assert picture.ask(verb).status == "OK"
        picture.left()

    @rule(who=who, name=st.sampled_from(("CONDSTORE", "QRESYNC")))
    def enable(self, who: int, name: str) -> None:
        picture = self.ready(who, selected=False)
        assert picture is not None
        picture.condstore = True
        picture.qresync |= name == "QRESYNC"
        assert self.command(picture, f"ENABLE {name}").status == "OK"

    @rule(who=who, other=who, subset=st.booleans())
    def resynchronize(self, who: int, other: int, subset: bool) -> None:
        """A client comes back with what it, or another, knew."""
        picture = self.ready(who, selected=False)
        assert picture is not None
        caches = [each for each in self.pictures[other].caches if not each.box.deleted]
        if not caches:
            return
        if not picture.qresync:
            self.enable(who, "QRESYNC")
        cache = caches[0]
        known = f" 1:{max(cache.flags)}" if subset and cache.flags else ""
        name = self.names.name_of(cache.box)
        command = f"SELECT {name} (QRESYNC ({cache.box.uidvalidity} {cache.modseq}{known}))"
        answer = self.command(picture, command, selects=cache.box)
        assert answer.status == "OK"
        self.up_to_date(picture, cache, answer, whole=not known)

    def up_to_date(self, picture: Picture, cache: Cache, answer: Answer, whole: bool) -> None:
        """What was told since makes of the cache the server's state."""
        vanished = {
            uid for said in answer.untagged if said.kind == "VANISHED" for uid in numbers(said.words[-1])
        }
        letters = cache.box.letters
        for uid, flags in cache.flags.items():
            if uid not in letters:
                assert uid in vanished, f"UID {uid} is gone since {cache.modseq}, untold"
            elif uid not in picture.flags:
                assert flags == letters[uid].flags, f"UID {uid} has changed since {cache.modseq}, untold"
                picture.flags[uid] = picture.truth(uid)
        for uid, letter in letters.items():
            if whole and letter.floor >= cache.modseq:
                assert uid in picture.flags, f"UID {uid} has changed since {cache.modseq}, untold"

    # Looking

    @rule(who=who, verb=st.sampled_from(("NOOP", "CHECK")))
    def look(self, who: int, verb: str) -> None:
        picture = self.ready(who, selected=verb == "CHECK")
        if picture is not None:
            assert self.command(picture, verb).status == "OK"

    @rule(who=who)
    def idle(self, who: int) -> None:
        picture = self.pictures[who]
        if picture.idle is None:
            picture.idle = picture.send("IDLE")
            self.idlers.append(picture)
            said = picture.client.heard()
            assert said.startswith(b"+ idling\r\n")
            picture.client.wire.write(said.removeprefix(b"+ idling\r\n"))

    @invariant()
    def idlers_know_all(self) -> None:
        self.idlers = [picture for picture in self.idlers if picture.idle is not None]
        for picture in self.idlers:
            if not picture.push():
                assert picture.box is not None
                assert picture.box.deleted, "BYE, but its mailbox is there"
                picture.idle = None
                self.reconnect(picture)
        self.idlers = [picture for picture in self.idlers if picture.idle is not None]
        for picture in self.idlers:
            self.check(picture)

    @rule(
        who=who,
        pick=picks,
        by_uid=st.booleans(),
        what=st.sampled_from(
            (
                "FLAGS",
                "(UID FLAGS)",
                "(FLAGS MODSEQ)",
                "RFC822.SIZE",
                "BODY.PEEK[]",
                "BODY[]",
                "(UID BODY[TEXT])",
            )
        ),
    )
    def fetch(self, who: int, pick: Pick, by_uid: bool, what: str) -> None:
        picture = self.ready(who)
        chosen = pick.choose(picture, by_uid) if picture else None
        if picture is None or chosen is None:
            return
        text, uids = chosen
        box = picture.box
        assert box is not None
        there = [uid for uid in uids if uid in box.letters]
        picture.condstore |= "MODSEQ" in what and not box.deleted
        if "BODY[" in what and not picture.read_only and not box.deleted:
            for uid in there:
                box.change(uid, box.letters[uid].flags | {r"\Seen"})
        places = {picture.view.index(uid) + 1: uid for uid in there}
        answer = self.command(picture, f"{'UID ' * by_uid}FETCH {text} {what}", by_uid)
        if answer.status == "BYE":
            return
        if len(there) < len(uids) and not by_uid:
            self.refused("EXPUNGEISSUED", answer)
        else:
            assert answer.status == "OK"
        found = self.before_updates(answer)
        for number, uid in places.items():
            self.fetched(found[number], box.letters[uid], what)

    def before_updates(self, answer: Answer) -> dict[int, dict[str, Any]]:
        """The FETCH responses, but those that follow an EXPUNGE have other numbers."""
        last = next((at for at, said in enumerate(answer.untagged) if said.renumbers), None)
        return Answer("", "", answer.untagged[:last]).fetched()

    def fetched(self, found: dict[str, Any], letter: Letter, what: str) -> None:
        for name in what.strip("()").split():
            assert name.replace(".PEEK", "") in found
        if "BODY[]" in found:
            assert found["BODY[]"] == letter.body
        if "BODY[TEXT]" in found:
            assert found["BODY[TEXT]"] == letter.body.partition(b"\r\n\r\n")[2]
        if "RFC822.SIZE" in found:
            assert found["RFC822.SIZE"] == str(len(letter.body))

    @rule(who=who, modseq=st.integers(0, 9), vanished=st.booleans())
    def fetch_changed(self, who: int, modseq: int, vanished: bool) -> None:
        picture = self.ready(who)
        if picture is None or picture.box is None or picture.box.deleted or not picture.view:
            return
        box = picture.box
        self.learn(box)
        since = max(1, box.highest - modseq)
        picture.condstore = True
        options = f"CHANGEDSINCE {since}{' VANISHED' if vanished and picture.qresync else ''}"
        wanted = {uid for uid in picture.view if uid in box.letters and box.letters[uid].modseq > since}
        answer = self.command(picture, f"UID FETCH 1:* (UID FLAGS) ({options})")
        assert answer.status == "OK"
        found = self.before_updates(answer).values()
        assert wanted <= {int(each["UID"]) for each in found}

    @rule(
        who=who,
        keys=st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=2),
        pick=picks,
        joined=st.sampled_from(("and", "or", "not", "numbers", "uids", "saved")),
        returns=st.sampled_from(("", "ALL COUNT", "MIN MAX", "SAVE", "SAVE COUNT", "SAVE MIN")),
        by_uid=st.booleans(),
    )
    def search(
        self, who: int, keys: Sequence[str], pick: Pick, joined: str, returns: str, by_uid: bool
    ) -> None:
        picture = self.ready(who)
        chosen = pick.choose(picture, joined == "uids") if picture else None
        if picture is None or chosen is None or picture.box is None:
            return
        box, (first, last) = picture.box, (keys[0], keys[-1])
        among = set(picture.view)
        test = KEYS[first]
        match joined:
            case "and":
                key = f"{first} {last}"
                test = lambda letter: KEYS[first](letter) and KEYS[last](letter)  # noqa: E731
            case "or":
                key = f"OR {first} {last}"
                test = lambda letter: KEYS[first](letter) or KEYS[last](letter)  # noqa: E731
            case "not":
                key = f"NOT ({first})"
                test = lambda letter: not KEYS[first](letter)  # noqa: E731
            case "saved":
                key, among = f"$ {first}", set(picture.saved)
            case _:
                key, among = f"{'UID ' * (joined == 'uids')}{chosen[0]} {first}", set(chosen[1])
        hits = [uid for uid in picture.view if uid in among and uid in box.letters and test(box.letters[uid])]
        shown = [uid if by_uid else picture.view.index(uid) + 1 for uid in hits]
        options = f"RETURN ({returns}) " if returns else ""
        answer = self.command(picture, f"{'UID ' * by_uid}SEARCH {options}{key}", by_uid)
        if answer.status == "BYE":
            return
        assert answer.status == "OK", answer
        self.compare_hits(answer, shown, returns)
        if "SAVE" in returns:
            ends = hits[:1] if returns == "SAVE MIN" else hits
            picture.saved = ends

    def compare_hits(self, answer: Answer, shown: list[int], returns: str) -> None:
        said = [each for each in answer.untagged if each.kind in ("SEARCH", "ESEARCH")]
        if returns == "SAVE":
            assert not said
            return
        [found] = said
        if not returns:
            assert list(map(int, found.words[1:])) == shown
            return
        words = [word for word in found.words[2:] if word != "UID"]
        values = dict(zip(words[::2], words[1::2], strict=True))
        if "COUNT" in returns:
            assert values["COUNT"] == str(len(shown))
        if "ALL" in returns:
            assert numbers(values.get("ALL", "")) == shown
        if "MIN" in returns:
            assert values.get("MIN") == (str(shown[0]) if shown else None)

    @rule(name=mailbox)
    def status(self, name: str) -> None:
        box = self.names.at(name)
        said = self.oracle.ask(
            f"o STATUS {name} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN RECENT HIGHESTMODSEQ)"
        ).decode()
        if box is None:
            assert said.startswith("o NO")
            return
        words = said.split("(")[1].split(")")[0].split()
        values = {name: int(value) for name, value in zip(words[::2], words[1::2], strict=True)}
        unseen = sum(r"\Seen" not in letter.flags for letter in box.letters.values())
        expected = {
            "MESSAGES": len(box.letters),
            "UIDNEXT": box.uidnext,
            "UIDVALIDITY": box.uidvalidity,
            "UNSEEN": unseen,
        }
        assert expected.items() <= values.items(), f"{values}, not {expected}"
        assert values["HIGHESTMODSEQ"] >= box.highest
        box.told(values["HIGHESTMODSEQ"])
        assert values["RECENT"] >= sum(
            uid >= box.unclaimed for uid in box.letters
        )  # claims are written behind
