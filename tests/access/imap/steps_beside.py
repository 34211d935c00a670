"""The steps of `test_interleaved` of those who come to the mail by other ways: POP3, deliveries, other programs."""

from __future__ import annotations

from random import Random

from tests.access.imap.effects import Adopting
from tests.access.imap.picks import BODIES
from tests.access.imap.pop3_onlooker import Pop3Onlooker
from tests.access.imap.steps_under_way import ALICE, UnderWay


class Beside(UnderWay):
    """Beside IMAP."""

    def __init__(self, url: str | None = None) -> None:
        super().__init__(url)
        self.popper: Pop3Onlooker | None = None
        self.dropped = 0
        self.adopting = Adopting((ALICE, "INBOX"), BODIES[1], frozenset((r"\Draft", r"\Answered")))

    def listen(self) -> None:
        super().listen()
        if self.popper is not None:
            self.popper.listen()

    def pop3(self, r: Random) -> None:
        """One more command, of a client that stays, or of the next."""
        popper = self.popper
        if popper is None or popper.over:
            inbox = self.chronicle.at((ALICE, "INBOX"))
            assert inbox is not None
            self.popper = popper = Pop3Onlooker(self.chronicle, r.choice(self.stage.hosts), inbox)
            popper.begin_marking()
            return
        left = [at for at in range(1, len(popper.uids or ()) + 1) if at not in popper.deleted]
        if popper.uids is None or any(line.text in ("DELE", "QUIT", "RSET") for line in popper.lines):
            return
        match r.choice(("RETR", "RETR", "RETR", "TOP", "DELE", "DELE", "UIDL", "RSET", "QUIT", "lose")):
            case "lose":
                popper.lose()
            case "QUIT":
                popper.quit()
            case "RSET" if not popper.lines:
                popper.deleted.clear()
                popper.say("RSET")
            case "UIDL" if not popper.lines:
                popper.say("UIDL")
            case "DELE" if left:
                number = r.choice(left)
                popper.deleted.add(number)
                popper.say(f"DELE {number}", number)
            case "TOP" if left:
                number = r.choice(left)
                popper.say(f"TOP {number} 1", number)
            case "RETR" if left:
                number = r.choice(left)
                popper.say(f"RETR {number}", number)

    def drop(self, r: Random) -> None:
        """Another program puts a file into INBOX; it is found at the next look."""
        inbox = self.chronicle.at((ALICE, "INBOX"))
        if inbox is None:
            return
        if not self.dropped:
            self.chronicle.expect(self.adopting)
        self.dropped += 1
        self.adopting.waiting += 1
        [home] = (self.world.path / "mail").glob("*/alice/Maildir")
        (home / "cur" / f"{self.dropped}.other.host:2,DR").write_bytes(BODIES[1])

    def quiet(self) -> None:
        """POP3 has no IDLE: what it waits for comes."""
        super().quiet()
        if self.popper is not None and not self.popper.over:
            assert not self.popper.lines, f"{self.popper.lines[0].text} is not answered"
