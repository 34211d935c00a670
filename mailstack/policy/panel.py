"""Asks the checks, one after another, and makes one answer of theirs.

Theory of operation. The first refusal ends a point. A check that fails, by a bug or by taking too long, is
logged and costs the client a 451, or nothing, as the operator has set; it never costs a message. A check
that only looks at some points is not called at the others. Fields that are found before there is a message
wait for it: those of the connection for each of its messages, those of a transaction for its own.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.reply import Refused, Reply
from mailstack.net.checks import Changes, Connection, Incoming, Outcome, Transaction, Verdict
from mailstack.policy.check import Check
from mailstack.policy.patience import Bounded
from mailstack.policy.settings import OnError

UNAVAILABLE = Reply(451, "4.7.1", "Cannot check this now; try again later")

POINTS = ("connected", "hello", "mail", "recipient", "message")
NOTICES = ("reset", "closed")
MOST_FIELDS = 100  # that the checks of one message may add
MOST_NOTES = 100  # that one point leaves in the trail

_log = Logger(namespace="mailstack.policy")
_NAME = re.compile(r"[!-9;-~]{1,76}")  # RFC 5322 section 2.2
_BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Seat:
    """One check and how it is asked."""

    name: str
    check: Check
    services: Sequence[str]
    on_error: OnError
    seconds: float
    message_seconds: float

    def looks_at(self, point: str) -> bool:
        """Whether the check overrides the point."""
        return getattr(type(self.check), point) is not getattr(Check, point)


_Points = dict[str, tuple[tuple[int, Seat], ...]]  # who looks at each point, by place in the list


class Panel:
    """All checks, for all connections (see `mailstack.net.checks.Policy`)."""

    def __init__(self, seats: Sequence[Seat], clock: Any) -> None:
        self._seats = tuple(seats)
        self._clock = clock
        self._by_service: dict[str, _Points] = {}

    def has(self, kind: type[Check], service: str) -> bool:
        """Whether a check of that class is asked about that service."""
        return any(isinstance(seat.check, kind) and service in seat.services for seat in self._seats)

    def inspection(self, connection: Connection) -> PanelInspection | None:
        """The checks of one connection; None where none is for its service."""
        points = self._by_service.get(connection.service)
        if points is None:
            points = self._by_service[connection.service] = self._points(connection.service)
        places = {place for seats in points.values() for place, _ in seats}
        concerned = {place for place in places if self._seats[place].check.concerns(connection)}
        if not concerned:
            return None
        if concerned != places:
            points = {
                point: tuple(one for one in seats if one[0] in concerned) for point, seats in points.items()
            }
        return PanelInspection(connection, points, self._clock)

    def _points(self, service: str) -> _Points:
        seats = [(place, seat) for place, seat in enumerate(self._seats) if service in seat.services]
        return {
            point: tuple((place, seat) for place, seat in seats if seat.looks_at(point))
            for point in (*POINTS, *NOTICES)
        }


@dataclass(slots=True)
class _Found:
    """What verdicts said that holds for a connection, or for a transaction."""

    fields: tuple[tuple[str, str], ...] = ()
    junk: bool = False
    discard: bool = False
    last: int = sys.maxsize  # the place of the check after which no other is asked
    notes: list[str] = field(default_factory=list)  # for the trail

    def note(self, seat: Seat, what: str) -> None:
        if what and len(self.notes) < MOST_NOTES:
            self.notes.append(f"{seat.name}: {what}")

    def add(self, place: int, verdict: Verdict) -> None:
        self.fields += verdict.fields
        self.junk |= verdict.junk
        self.discard |= verdict.discard
        if verdict.final:
            self.last = place

    def verdict(self) -> Verdict:
        return Verdict(self.fields, junk=self.junk, discard=self.discard)


class PanelInspection:
    """The checks of one connection."""

    def __init__(self, connection: Connection, points: _Points, clock: Any) -> None:
        self._connection = connection
        self._points = points
        self._clock = clock
        self._client = _Found()
        self._named = _Found()
        self._transaction = _Found()
        self._said = _Found()  # of a message

    async def connected(self, now: Transaction) -> None:
        """A client has connected."""
        await self._ask("connected", self._client, now)

    async def hello(self, now: Transaction) -> None:
        """It has named itself; what was found by another name is forgotten."""
        self._named = _Found()
        await self._ask("hello", self._named, now)

    async def mail(self, now: Transaction) -> None:
        """A transaction begins."""
        self._transaction = _Found()
        await self._ask("mail", self._transaction, now)

    async def recipient(self, now: Transaction) -> None:
        """One more recipient. Who trusts one has not trusted the others."""
        found = _Found(notes=self._transaction.notes)
        await self._ask("recipient", found, now)
        self._transaction.add(0, found.verdict())

    async def message(self, now: Transaction, envelope: Envelope, incoming: Incoming) -> Outcome:
        """The message, with all that the checks have said of it and of what was before."""
        state = _Message(envelope, incoming)
        for found in (self._client, self._named, self._transaction):
            state.apply(found.verdict())
        last = self._last()
        for place, seat in self._points["message"]:
            if state.discard or place > last:
                break
            call = seat.check.message(now, state.incoming)
            verdict = await self._guarded(seat, "message", call, seat.message_seconds, self._said)
            if verdict is not None:
                state.apply(verdict)
                if verdict.final:
                    break
        return state.outcome()

    def reset(self) -> None:
        """The transaction is over."""
        self._transaction, self._said = _Found(), _Found()
        self._tell("reset", lambda check: check.reset(self._connection))

    def closed(self) -> None:
        """The client is gone."""
        self._tell("closed", lambda check: check.closed(self._connection))

    def verdicts(self) -> list[str]:
        """What each check has said so far of the transaction, and of what came before it."""
        return [
            note
            for found in (self._client, self._named, self._transaction, self._said)
            for note in found.notes
        ]

    def _last(self) -> int:
        return min(self._client.last, self._named.last, self._transaction.last)

    async def _ask(self, point: str, found: _Found, now: Transaction) -> None:
        last = self._last()
        for place, seat in self._points[point]:
            if place > min(last, found.last):
                return
            call = getattr(seat.check, point)(now)
            verdict = await self._guarded(seat, point, call, seat.seconds, found)
            if verdict is not None:
                found.add(place, verdict)

    async def _guarded(
        self,
        seat: Seat,
        point: str,
        call: Coroutine[Deferred[Any], Any, Verdict | None],
        seconds: float,
        found: _Found,
    ) -> Verdict | None:
        try:
            verdict = await Bounded(f"{point} of {seat.name}", call).within(seconds, self._clock)
            if verdict is not None and not isinstance(verdict, Verdict):
                raise TypeError(f"{point} of {seat.name} returned {type(verdict).__name__}, not a Verdict")
            for name, value in verdict.fields if verdict else ():
                _field(name, value)
        except Refused as refused:
            found.note(seat, refused.note or "refused")
            raise
        except Exception as error:
            found.note(seat, "it failed")
            self._log_failure(seat, point, error)
            if seat.on_error == "pass":
                return None
            raise Refused(UNAVAILABLE) from error
        if verdict is not None:
            found.note(seat, verdict.note or _summary(verdict))
        return verdict

    def _log_failure(self, seat: Seat, point: str, error: Exception) -> None:
        peer = self._connection.peer.address
        if isinstance(error, OSError):  # a TimeoutError is one
            why = str(error) or "it took too long"
            _log.error(
                "{check} failed at {point} for {peer}: {why}",
                check=seat.name,
                point=point,
                peer=peer,
                why=why,
            )
        else:
            _log.failure("{check} failed at {point} for {peer}", check=seat.name, point=point, peer=peer)

    def _tell(self, notice: str, tell: Callable[[Check], None]) -> None:
        for _place, seat in self._points[notice]:
            try:
                tell(seat.check)
            except Exception:
                _log.failure("{check} failed at {point}", check=seat.name, point=notice)


class _Message:
    """A message on its way through the checks."""

    def __init__(self, envelope: Envelope, incoming: Incoming) -> None:
        self.envelope = envelope
        self.incoming = incoming
        self.discard = False
        self._body: Any = None
        self._fields = 0

    def apply(self, verdict: Verdict) -> None:
        """Make it as `verdict` says."""
        self.discard |= verdict.discard
        if verdict.junk:
            self.envelope = replace(self.envelope, junk=True)
        header = self.incoming.header
        body = None
        if verdict.changes is not None:
            self._change_envelope(verdict.changes)
            header = verdict.changes.header if verdict.changes.header is not None else header
            if verdict.changes.body is not None:
                self._body = verdict.changes.body
                body = self._body.message()
        fields = verdict.fields[: max(0, MOST_FIELDS - self._fields)]
        self._fields += len(fields)
        header = b"".join(_field(name, value) for name, value in fields) + header
        if body is not None or header is not self.incoming.header:
            self.incoming = self.incoming.changed(header, body)

    def outcome(self) -> Outcome:
        """What became of it."""
        return Outcome(self.envelope, self.incoming.header, self._body, self.discard)

    def _change_envelope(self, changes: Changes) -> None:
        gone = {address.key for address in changes.remove_recipients}
        kept = [one for one in self.envelope.recipients if one.address.key not in gone]
        there = {one.address.key for one in kept}
        kept += [Recipient(one) for one in changes.add_recipients if one.key not in there]
        self.envelope = self.envelope.only(tuple(kept))
        if changes.sender is not None:
            self.envelope = replace(self.envelope, reverse_path=changes.sender[0])


def _summary(verdict: Verdict) -> str:
    """A verdict in few words."""
    return _joined(
        "" if verdict.fields == () else f"adds {', '.join(name for name, _ in verdict.fields[:10])}",
        "changes the message" if verdict.changes else "",
        "junk" if verdict.junk else "",
        "discard" if verdict.discard else "",
        "trusted" if verdict.final else "",
    )


def _joined(*texts: str) -> str:
    return "; ".join(filter(None, texts))


def _field(name: str, value: str) -> bytes:
    """One header field; line ends in the value fold it, whatever follows them. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"not the name of a header field: {name[:40]!r}")
    if "\0" in value:
        raise ValueError(f"NUL in the field {name}")
    lines = [line for line in _BREAK.split(value) if line.strip(" \t")] or [""]
    folded = [line if line[:1] in " \t" else f"\t{line}" for line in lines[1:]]
    return "\r\n".join([f"{name}: {lines[0].lstrip(' ')}", *folded, ""]).encode("utf-8", "surrogateescape")
