"""The checks: asked at five points, in order; their answers; their failures; their settings."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import globalLogPublisher

from mailstack.mta.relay import Relay
from mailstack.mta.relay_settings import RelayConfig
from mailstack.net.transaction import Reception
from mailstack.policy import (
    ACCEPT,
    Address,
    Changes,
    Check,
    Incoming,
    Refused,
    Reply,
    Surroundings,
    Transaction,
    Verdict,
)
from mailstack.policy.loader import BadPolicy, load
from mailstack.policy.panel import Panel, Seat
from mailstack.policy.settings import PolicyConfig
from tests.net.fakes import Box, Connection, Here, Town, reception

POINTS = ("connected", "hello", "mail", "recipient", "message")
BAD = Reply(550, "5.7.1", "Bad")


class Asked(Check):
    """Notes what it is asked, and does at each point what a test says."""

    def __init__(self, **does: Any) -> None:
        super().__init__(None, None)
        self.does = does
        self.seen: list[tuple[str, Transaction]] = []
        self.notices: list[str] = []
        self.content: list[tuple[bytes, bytes]] = []

    async def _at(self, point: str, now: Transaction, *more: Any) -> Verdict | None:
        self.seen.append((point, now))
        do = self.does.get(point)
        if isinstance(do, Exception):
            raise do
        if callable(do):
            do = do(now, *more)
        if hasattr(do, "__await__"):
            do = await do
        return do

    async def connected(self, now: Transaction) -> Verdict | None:
        return await self._at("connected", now)

    async def hello(self, now: Transaction) -> Verdict | None:
        return await self._at("hello", now)

    async def mail(self, now: Transaction) -> Verdict | None:
        return await self._at("mail", now)

    async def recipient(self, now: Transaction) -> Verdict | None:
        return await self._at("recipient", now)

    async def message(self, now: Transaction, incoming: Incoming) -> Verdict | None:
        self.content.append((incoming.header, b"".join([piece async for piece in incoming.body()])))
        return await self._at("message", now, incoming)

    def reset(self, connection: Any) -> None:
        self.notices.append("reset")

    def closed(self, connection: Any) -> None:
        self.notices.append("closed")

    @property
    def points(self) -> list[str]:
        return [point for point, _ in self.seen]


class Stubborn:
    """A check's method that catches its cancellation and waits on, until a test lets it go."""

    def __init__(self) -> None:
        self.canceled = 0
        self.go_on: Deferred[None] = Deferred()

    async def __call__(self, *_: Any) -> None:
        try:
            await Deferred()
        except CancelledError:
            self.canceled += 1
        await self.go_on


class Place:
    """A relay with checks."""

    def __init__(
        self, folder: Path, *checks: Check, on_error: Any = "tempfail", services: Any = ("relay",)
    ) -> None:
        self.box = Box()
        self.work = Here()
        self.folder = folder
        made, self.clock = reception(self.work, folder)
        seats = [Seat(f"check{n}", one, services, on_error, 60, 480) for n, one in enumerate(checks)]
        made.policy = Panel(seats, self.clock)
        self.made: Reception = made
        self.relay = Relay(
            RelayConfig(), hostname="mx.example.org", directory=Town(), accepts=self.box, reception=made
        )

    def connect(self) -> Connection:
        return Connection(self.relay, self.clock)

    def deliver(self, content: str = "Subject: hello\r\n\r\nworld\r\n") -> str:
        """Send one message; the reply to its end."""
        connection = self.connect()
        connection.say(
            "EHLO mta.example.net", "MAIL FROM:<x@example.net>", "RCPT TO:<bob@example.org>", "DATA"
        )
        return connection.send(content.encode() + b".\r\n")

    def through(self, connection: Connection) -> None:
        """Say all of a message in one packet, whatever is answered."""
        lines = ("EHLO x", "MAIL FROM:<>", "RCPT TO:<bob@example.org>", "DATA", "Subject: x", "", ".")
        connection.say(*lines)

    def message(self) -> str:
        """The message that was taken, without our trace field."""
        [(_, data)] = self.box.taken
        return data.decode().partition("+0000\r\n")[2]


@pytest.fixture
def log() -> Iterator[list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


class TestPoints:
    def test_each_knows_what_was_said_so_far(self, tmp_path: Path) -> None:
        check = Asked()
        place = Place(tmp_path, check)
        assert place.deliver().startswith("250 2.0.0")
        assert check.points == list(POINTS)
        known = [
            (now.helo, str(now.reverse_path), [str(r.address) for r in now.recipients])
            for _, now in check.seen
        ]
        assert known == [
            (None, "None", []),
            ("mta.example.net", "None", []),
            ("mta.example.net", "x@example.net", []),
            ("mta.example.net", "x@example.net", ["bob@example.org"]),
            ("mta.example.net", "x@example.net", ["bob@example.org"]),
        ]
        [first, *_, last] = [now for _, now in check.seen]
        assert first.connection is last.connection
        assert (last.address, last.connection.service, last.extended) == ("192.0.2.1", "relay", True)
        assert (first.id, last.id) == ("", place.box.taken[0][0].id)
        assert check.content == [(b"Subject: hello\r\n", b"world\r\n")]

    @pytest.mark.parametrize("point", POINTS)
    def test_each_may_refuse(self, tmp_path: Path, point: str) -> None:
        after = Asked()
        place = Place(tmp_path, Asked(**{point: Refused(BAD)}), after)
        connection = place.connect()
        replies = {"connected": connection.greeting}
        if point != "connected":
            replies["hello"] = connection.say("EHLO mta.example.net")
            connection.say("RSET")
            replies["mail"] = connection.say("MAIL FROM:<x@example.net>")
            replies["recipient"] = connection.say("RCPT TO:<bob@example.org>")
            if connection.say("DATA").startswith("354"):
                replies["message"] = connection.send(b"Subject: hello\r\n\r\n.\r\n")
        assert replies[point] == f"{554 if point == 'connected' else 550} 5.7.1 Bad\r\n"
        assert place.box.taken == []
        assert point not in after.points
        if point == "connected":
            assert connection.say("EHLO mta.example.net") == "503 5.5.1 Bad sequence of commands\r\n"
            assert not connection.transport.disconnecting
            assert connection.say("QUIT")[:3] == "221"
        else:
            assert connection.say("NOOP") == "250 2.0.0 Ok\r\n"
        assert [path.name for path in place.folder.iterdir()] == []

    def test_after_a_refused_sender_another_may_come(self, tmp_path: Path) -> None:
        def only_good(now: Transaction) -> None:
            if str(now.reverse_path) != "good@example.net":
                raise Refused(BAD)

        check = Asked(mail=only_good)
        connection = Place(tmp_path, check).connect()
        connection.say("EHLO mta.example.net")
        assert connection.say("MAIL FROM:<bad@example.net>") == "550 5.7.1 Bad\r\n"
        assert connection.say("MAIL FROM:<good@example.net>") == "250 2.1.0 Ok\r\n"
        assert check.notices == ["reset"]
        connection.vanish()
        assert check.notices == ["reset", "reset", "closed"]

    def test_unknown_recipients_are_refused_before_checks_see_them(self, tmp_path: Path) -> None:
        check = Asked()
        connection = Place(tmp_path, check).connect()
        connection.say("EHLO x", "MAIL FROM:<>", "RCPT TO:<nobody@example.org>")
        assert check.points == ["connected", "hello", "mail"]

    def test_a_421_closes(self, tmp_path: Path) -> None:
        place = Place(tmp_path, Asked(mail=Refused(Reply(421, "4.7.0", "Go"))))
        connection = place.connect()
        connection.say("EHLO x")
        assert connection.say("MAIL FROM:<>") == "421 4.7.0 Go\r\n"
        assert connection.transport.disconnecting

    def test_checks_of_another_service_are_not_asked(self, tmp_path: Path) -> None:
        check = Asked()
        place = Place(tmp_path, check, services=("submission",))
        assert place.deliver().startswith("250")
        assert check.seen == []


class TestVerdicts:
    def test_fields_of_all_points_in_front(self, tmp_path: Path) -> None:
        says = {point: Verdict(fields=((f"X-{point}", "1"),)) for point in POINTS}
        place = Place(tmp_path, Asked(**says), Asked(message=Verdict(fields=(("X-Second", "two\nlines"),))))
        place.deliver()
        assert place.message() == (
            "X-Second: two\r\n\tlines\r\nX-message: 1\r\nX-mail: 1\r\nX-recipient: 1\r\nX-hello: 1\r\nX-connected: 1\r\n"
            "Subject: hello\r\n\r\nworld\r\n"
        )

    def test_a_later_check_sees_what_an_earlier_one_added(self, tmp_path: Path) -> None:
        second = Asked()
        Place(tmp_path, Asked(message=Verdict(fields=(("X-A", "1"),))), second).deliver()
        assert second.content == [(b"X-A: 1\r\nSubject: hello\r\n", b"world\r\n")]

    @pytest.mark.parametrize(
        "content", ["no header section\r\n", "\r\nonly a body\r\n", "Subject: only a header\r\n", "", "\r\n"]
    )
    def test_odd_messages_stay_as_they_are(self, tmp_path: Path, content: str) -> None:
        place = Place(tmp_path, Asked(message=Verdict(fields=(("X-A", "1"),))))
        assert place.deliver(content).startswith("250")
        blank = "\r\n" if content.startswith("no header") else ""
        assert place.message() == "X-A: 1\r\n" + blank + content

    def test_the_hello_before_starttls_counts_for_nothing(self, tmp_path: Path) -> None:
        place = Place(tmp_path, Asked(hello=lambda now: Verdict(fields=(("X-Helo", now.helo or ""),))))
        connection = place.connect()
        connection.say("EHLO one", "EHLO two", "MAIL FROM:<>", "RCPT TO:<bob@example.org>", "DATA")
        connection.send(b"\r\n.\r\n")
        assert place.message() == "X-Helo: two\r\n\r\n"

    @pytest.mark.parametrize(
        ("point", "asked"),
        [
            ("connected", []),
            ("hello", ["connected"]),
            ("mail", ["connected", "hello"]),
            ("recipient", ["connected", "hello", "mail", "message"]),
            ("message", ["connected", "hello", "mail", "recipient"]),
        ],
    )
    def test_accept_spares_the_checks_after(self, tmp_path: Path, point: str, asked: list[str]) -> None:
        before, after = Asked(), Asked()
        place = Place(tmp_path, before, Asked(**{point: ACCEPT}), after)
        assert place.deliver().startswith("250")
        assert before.points == list(POINTS)
        assert after.points == asked

    def test_junk_and_discard(self, tmp_path: Path) -> None:
        place = Place(tmp_path, Asked(recipient=Verdict(junk=True)))
        place.deliver()
        assert place.box.taken[0][0].junk
        place = Place(tmp_path, Asked(message=Verdict(discard=True)), Asked(message=Refused(BAD)))
        assert place.deliver().startswith("250 2.0.0 Ok: queued as")
        assert place.box.taken == []

    def test_changes(self, tmp_path: Path) -> None:
        async def change(incoming: Incoming) -> Verdict:
            body = incoming.new_body()
            for _ in range(30):
                await body.write(b"new body " * 1000 + b"\r\n")
            await body.finish()
            header = incoming.header.replace(b"hello", b"changed")
            alice, bob = Address.parse("alice@example.org"), Address.parse("BOB@example.org")
            return Verdict(changes=Changes(header, body, (None,), (alice,), (bob,)))

        second = Asked()
        place = Place(
            tmp_path, Asked(message=lambda now, incoming: Deferred.fromCoroutine(change(incoming))), second
        )
        assert place.deliver().startswith("250")
        new = (b"new body " * 1000 + b"\r\n") * 30
        assert second.content == [(b"Subject: changed\r\n", new)]
        [(envelope, _)] = place.box.taken
        assert (envelope.reverse_path, [str(one.address) for one in envelope.recipients]) == (
            None,
            ["alice@example.org"],
        )
        assert place.message() == "Subject: changed\r\n\r\n" + new.decode()
        assert list(place.folder.iterdir()) == []

    def test_a_big_message_is_read_in_pieces(self, tmp_path: Path) -> None:
        sizes: list[int] = []

        async def read(incoming: Incoming) -> None:
            sizes.extend([len(piece) async for piece in incoming.body()])

        place = Place(tmp_path, Asked(message=lambda now, incoming: Deferred.fromCoroutine(read(incoming))))
        body = ("x" * 78 + "\r\n") * 10_000
        assert place.deliver("Subject: big\r\n\r\n" + body).startswith("250")
        assert (sum(sizes), max(sizes)) == (len(body), 65_535)
        assert place.message() == "Subject: big\r\n\r\n" + body


class TestFailures:
    @pytest.mark.parametrize("point", POINTS)
    @pytest.mark.parametrize("on_error", ["tempfail", "pass"])
    def test_a_bug_costs_a_451_or_nothing(
        self, tmp_path: Path, point: str, on_error: str, log: list[dict[str, Any]]
    ) -> None:
        place = Place(tmp_path, Asked(**{point: ZeroDivisionError("oops")}), on_error=on_error)
        said = place.connect().greeting if point == "connected" else ""
        said = said or place.connect().say(
            "EHLO x", "MAIL FROM:<>", "RCPT TO:<bob@example.org>", "DATA", "Subject: x", "", "."
        )
        if on_error == "pass":
            assert said.startswith("220") or "250 2.0.0 Ok: queued" in said
        else:
            code = "421" if point == "connected" else "451"
            assert f"{code} 4.7.1 Cannot check this now; try again later" in said
            assert place.box.taken == []
        failed = [event for event in log if "log_failure" in event]
        assert failed[0]["check"] == "check0"
        assert failed[0]["point"] == point

    @pytest.mark.parametrize(
        "wrong", ["yes", True, Verdict(fields=(("Bad name", "x"),)), Verdict(fields=(("X", "\0"),))]
    )
    def test_nonsense_is_a_bug(self, tmp_path: Path, wrong: Any, log: list[dict[str, Any]]) -> None:
        place = Place(tmp_path, Asked(message=lambda now, incoming: wrong))
        assert place.deliver().startswith("451 4.7.1")
        assert any("log_failure" in event for event in log)

    @pytest.mark.parametrize(("point", "seconds"), [("mail", 60), ("message", 480)])
    def test_a_slow_one_is_given_up(self, tmp_path: Path, point: str, seconds: int) -> None:
        forever: Deferred[None] = Deferred()
        place = Place(tmp_path, Asked(**{point: lambda *_: forever}))
        connection = place.connect()
        connection.say("EHLO x", "MAIL FROM:<>", "RCPT TO:<bob@example.org>", "DATA", "Subject: x", "", ".")
        place.clock.advance(seconds - 1)
        assert connection.heard() == ""
        place.clock.advance(2)
        assert connection.heard().startswith("451 4.7.1")

    @pytest.mark.parametrize(("point", "seconds"), [*((one, 60) for one in POINTS[:4]), ("message", 480)])
    def test_one_that_does_not_let_itself_be_canceled_is_left_alone(
        self, tmp_path: Path, point: str, seconds: int, log: list[dict[str, Any]]
    ) -> None:
        stubborn = Stubborn()
        place = Place(tmp_path, Asked(**{point: stubborn}))
        connection = place.connect()
        if point != "connected":
            place.through(connection)
            connection.heard()
        place.clock.advance(seconds + 1)
        said = connection.heard()
        code = "421" if point == "connected" else "451"
        assert f"{code} 4.7.1 Cannot check this now; try again later" in said
        assert stubborn.canceled == 1
        assert [event["check"] for event in log if "does not stop" in event.get("log_format", "")]
        stubborn.go_on.callback(None)  # what it says now is no answer to anybody
        assert (connection.heard(), place.box.taken) == ("", [])
        if point != "connected":
            assert connection.say("RSET") == "250 2.0.0 Ok\r\n"
        connection.vanish()
        assert place.clock.getDelayedCalls() == []

    def test_what_it_raises_when_its_time_is_over_is_only_logged(
        self, tmp_path: Path, log: list[dict[str, Any]]
    ) -> None:
        stubborn = Stubborn()
        place = Place(tmp_path, Asked(mail=stubborn))
        place.connect().say("EHLO x", "MAIL FROM:<>")
        place.clock.advance(61)
        stubborn.go_on.errback(ZeroDivisionError("too late"))
        [event] = [event for event in log if "log_failure" in event]
        assert event["log_failure"].check(ZeroDivisionError)
        assert event["check"] == "mail of check0"

    def test_what_it_says_when_it_is_canceled_counts(self, tmp_path: Path) -> None:
        async def patient(now: Transaction) -> Verdict:
            try:
                await Deferred()
            except CancelledError:
                return Verdict(fields=(("X-Waited", "long"),))
            raise AssertionError

        place = Place(tmp_path, Asked(mail=patient))
        connection = place.connect()
        place.through(connection)
        place.clock.advance(61)
        assert "250 2.0.0 Ok: queued" in connection.heard()
        assert "X-Waited: long" in place.message()

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
    def test_what_would_end_a_program_is_a_bug(
        self, tmp_path: Path, error: type[BaseException], log: list[dict[str, Any]]
    ) -> None:
        async def end(now: Transaction) -> None:
            raise error

        connection = Place(tmp_path, Asked(mail=end)).connect()
        connection.say("EHLO x")
        assert connection.say("MAIL FROM:<>").startswith("451 4.7.1")
        assert connection.say("NOOP").startswith("250")
        assert any("log_failure" in event for event in log)

    def test_a_notice_that_fails_does_no_harm(self, tmp_path: Path, log: list[dict[str, Any]]) -> None:
        class Clumsy(Asked):
            def reset(self, connection: Any) -> None:
                raise ZeroDivisionError

        place = Place(tmp_path, Clumsy())
        assert place.deliver().startswith("250")
        assert len([event for event in log if "log_failure" in event]) == 1


@dataclass(frozen=True)
class Words:
    words: tuple[str, ...] = ()
    file: Path = Path("words")


class WithSettings(Check):
    """A check with settings, for the loader."""

    Settings = Words

    def __init__(self, settings: Words, surroundings: Surroundings) -> None:
        super().__init__(settings, surroundings)
        if "bad" in settings.words:
            raise ValueError("words must not be bad")


def around(name: str) -> Surroundings:
    return Surroundings(name, "mx.example.org", None, None, None)


HERE = f"{__name__}:WithSettings"


class TestLoading:
    def load(self, tmp_path: Path, *checks: str, **settings: Any) -> Panel | None:
        return load(PolicyConfig(checks=checks, plugins=tmp_path, settings=settings), around, None)

    def test_none(self, tmp_path: Path) -> None:
        assert self.load(tmp_path) is None

    def test_in_order_with_their_own_settings(self, tmp_path: Path) -> None:
        sys.modules.setdefault(__name__, sys.modules[self.__class__.__module__])
        panel = self.load(
            tmp_path, f"a={HERE}", f"b={HERE}", b={"words": ["x"], "services": ["relay"], "seconds": 5}
        )
        assert panel is not None
        first, second = panel._seats
        assert (first.name, first.check.settings.words, first.services, first.seconds) == (
            "a",
            (),
            ("relay", "submission", "lmtp"),
            60.0,
        )
        assert (second.check.settings.words, second.services, second.seconds) == (("x",), ("relay",), 5.0)
        assert second.check.settings.file == tmp_path / "words"
        assert second.check.surroundings.name == "b"

    def test_from_the_plugins_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "path", sys.path[:])
        (tmp_path / "my_very_own_check.py").write_text(
            "from mailstack.policy import Check\nclass Mine(Check):\n    async def mail(self, now): ...\n"
        )
        panel = self.load(tmp_path, "my_very_own_check:Mine")
        assert panel is not None
        assert panel._seats[0].name == "my_very_own_check"

    @pytest.mark.parametrize(
        ("text", "settings", "says"),
        [
            ("no_such_module:X", {}, "no such module"),
            (f"{__name__}:Nothing", {}, "not a class that derives from"),
            (f"{__name__}:Words", {}, "not a class that derives from"),
            (f"x={HERE}", {"x": {"wrods": []}}, "policy.x.wrods - unknown key; there are: words, file"),
            (f"x={HERE}", {"x": {"words": [1]}}, "policy.x.words.0 - "),
            (f"x={HERE}", {"x": {"words": ["bad"]}}, "policy.x: words must not be bad"),
            (f"x={HERE}", {"x": {"services": ["imap"]}}, "policy.x.services.0 - "),
            ("mailstack.policy.milter:Milter", {}, "policy.milter.address - "),
            (
                "mailstack.policy.milter:Milter",
                {"milter": {"address": "localhost"}},
                'neither "inet:HOST:PORT"',
            ),
            (f"x={__name__}:Asked", {"x": {"words": []}}, "policy.x.words - unknown key; the check has none"),
        ],
    )
    def test_mistakes_are_one_line_each(
        self, tmp_path: Path, text: str, settings: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(BadPolicy) as error:
            self.load(tmp_path, text, **settings)
        assert says in str(error.value)
        assert "\n" not in str(error.value)

    def test_a_module_that_does_not_load(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "path", sys.path[:])
        (tmp_path / "breaks_at_once.py").write_text("1/0")
        (tmp_path / "lacks_something.py").write_text("import something_not_installed")
        with pytest.raises(BadPolicy, match="does not load: ZeroDivisionError"):
            self.load(tmp_path, "breaks_at_once:X")
        with pytest.raises(BadPolicy, match="needs something_not_installed, which is not installed"):
            self.load(tmp_path, "lacks_something:X")

    @pytest.mark.parametrize("checks", [("nonsense",), ("a:B", "a:C"), ("x=a:B", "x=c:D"), ("checks=a:B",)])
    def test_what_cannot_be_listed(self, checks: tuple[str, ...]) -> None:
        with pytest.raises(ValueError, match=r"policy\.checks"):
            PolicyConfig(checks=checks)
