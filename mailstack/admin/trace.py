"""`mailstack trace`: what became of a message, as the six steps of its way, with times."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mailstack.admin.operator import json_option, operator
from mailstack.admin.output import Misuse, OperatorError, moment, show_json, show_rows

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from mailstack.trail.notes import Note

STEPS = ("1 submission", "2 queue", "3 transfer", "4 delivery", "5 access", "6 inbox")
_RELAY = "3 relay"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_ATTEMPTS = ("sent", "deferred", "bounced", "expired")
_REPORTING = 60.0  # seconds that it may take to queue a report
_COLUMNS = ("id", "time", "step", "event", "address", "what")


class Span(click.ParamType["float"]):
    """A span of time in seconds: 90s, 30m, 2h, 2d, 1w."""

    name = "span"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """The seconds."""
        if isinstance(value, (int, float)):
            return float(value)
        match = re.fullmatch(r"([0-9]{1,9})([smhdw]?)", str(value).strip().lower())
        if not match:
            self.fail(f"{value!r} is no span of time; write for example 90s, 30m, 2h, 2d or 1w", param, ctx)
        return float(match[1]) * _UNITS[match[2] or "s"]


@click.command("trace")
@click.argument("what", metavar="MESSAGE-ID|QUEUE-ID|ADDRESS")
@click.option("--since", type=Span(), default=None, help="Not before so long ago: 90s, 30m, 2h, 2d, 1w.")
@json_option
def command(what: str, since: float | None, as_json: bool) -> None:
    """Tell what became of a message, step by step; of an address, of all its messages.

    Columns in a pipe: queue id, time, step, event, address, what happened.

    \b
    Examples: mailstack trace '<20261122.1@example.org>'
              mailstack trace bob@example.net --since 2d
    """
    from mailstack.trail import rows

    if not what.strip():
        raise Misuse("name a Message-ID, a queue id or an address")
    earliest = 0.0 if since is None else time.time() - since
    notes = operator().read(rows.find, what, earliest)
    if not notes:
        raise OperatorError(f"{what}: nothing is written down about that{' since then' if since else ''}")
    present = operator().read(_present, notes)
    lines = list(_lines(notes, present))
    _put_attempts_before_their_reports(lines)
    lines.sort(key=lambda line: line["order"])
    if as_json:
        show_json([{key: one for key, one in line.items() if key != "order"} for line in lines])
    else:
        show_rows(_COLUMNS, [{**line, "address": _shown(line["address"])} for line in lines], False)


def _shown(address: str | None) -> str | None:
    return "<>" if address == "" else address


def _lines(notes: Sequence[Note], present: dict[tuple[int, int], str]) -> Iterator[dict[str, Any]]:
    first: dict[str, float] = {}
    for note in notes:
        first.setdefault(_root(note.id), note.at)
    for note in notes:
        row = asdict(note)
        row |= {"order": (first[_root(note.id)], note.at), "time": _moment(note.at), "step": step(note)}
        yield row | {"what": words(note)}
        seen = present.get((note.detail.get("mailbox_id", 0), note.detail.get("uid", 0)))
        if note.event == "delivered" and seen:
            now = {**row, "event": "now", "what": seen, "step": STEPS[4 if "read" in seen else 5]}
            yield now | {"detail": {}, "message_id": None}


def _put_attempts_before_their_reports(lines: Sequence[dict[str, Any]]) -> None:
    """An attempt is written down when its sender has been told, which is after the report was made."""
    made: dict[tuple[str, str], float] = {}  # when a report about (message, recipient) began
    for report in (line for line in lines if line["event"] == "reported"):
        own = [line["at"] for line in lines if line["id"] == report["detail"].get("report")]
        for address in report["detail"].get("about") or ():
            made[report["id"], str(address).lower()] = min([report["at"], *own])
    for line in lines:
        began = made.get((line["id"], line["address"] or ""))
        if line["event"] in _ATTEMPTS and began is not None and began <= line["at"] < began + _REPORTING:
            line["order"] = (line["order"][0], began - 0.0005)


def step(note: Note) -> str:
    """Which of the six steps a note belongs to."""
    detail = note.detail
    match note.event:
        case "received" | "refused" | "checked":
            if detail.get("made_here"):
                return STEPS[1]
            ours = detail.get("login") or detail.get("trusted") or detail.get("port") in (465, 587)
            return STEPS[0] if ours else _RELAY
        case "signed" | "queued" | "held" | "released" | "retried" | "reported" | "dropped" | "forwarded":
            return STEPS[1]
        case "delivered":
            return STEPS[3]
    return STEPS[3] if _is_local(detail) else STEPS[2]


def words(note: Note) -> str:
    """What a note says, for a person."""
    detail = note.detail
    match note.event:
        case "received":
            return _received(detail)
        case "refused":
            why = _said("; ", "; ".join(detail.get("verdicts") or ()))
            return f"{detail.get('what')} refused from {detail.get('peer')}: {detail.get('reply')}{why}"
        case "checked":
            return "; ".join(detail.get("verdicts") or ()) or "; ".join(_pairs(detail))
        case "held" if "hop" in detail:
            return f"for {_hop(detail)}: {detail.get('last_reply')}"
        case "queued":
            return f"for {_hop(detail)}" + _said(" after ", detail.get("last_reply"))
        case "delivered":
            where = f"{detail.get('user')} {detail.get('mailbox')} UID {detail.get('uid')}"
            return f"into {where}" + (" (again: it was there)" if detail.get("repeated") else "")
        case "sent" | "deferred" | "bounced" | "expired":
            return _attempt(detail)
        case "reported":
            return f"{detail.get('action')} report {detail.get('report')}: {detail.get('reply')}"
    return "; ".join(_pairs(detail))


def _pairs(detail: dict[str, Any]) -> list[str]:
    return [f"{name} {_text(value)}" for name, value in detail.items()]


def _received(detail: dict[str, Any]) -> str:
    to = f"{detail.get('size')} octets to {_text(detail.get('recipients'))}"
    if detail.get("made_here"):
        return f"{detail['made_here']}, {to}"
    who = _said(" as ", detail.get("login")) + _said(" of the trusted network ", detail.get("trusted"))
    who += _said(" (HELO ", detail.get("helo"), ")")
    return f"from {detail.get('peer')}{who} by {detail.get('protocol')}{_said(', ', detail.get('tls'))}; {to}"


def _attempt(detail: dict[str, Any]) -> str:
    place = detail.get("exchanger") or _hop(detail)
    tls = f", {detail.get('tls') or 'in clear'}{_said(' (', detail.get('security'), ')')}"
    if not (detail.get("tls") or detail.get("security")):
        tls = ""  # nobody was reached, or it is not known
    following = detail.get("next_attempt")
    again = f"; again {moment(following)}" if following else ""
    return f"attempt {detail.get('attempt')} at {place}{tls}: {detail.get('reply')}{again}"


def _hop(detail: dict[str, Any]) -> Any:
    return "our mailboxes" if _is_local(detail) else detail.get("hop")


def _is_local(detail: dict[str, Any]) -> bool:
    return detail.get("hop") == "local:"  # `LOCAL` of mta/routes.py, which brings all of Twisted


def _said(before: str, value: Any, after: str = "") -> str:
    return f"{before}{value}{after}" if value else ""


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _moment(at: float) -> str:
    return f"{moment(at)[:-1]}.{int(at % 1 * 1000):03}Z"


def _root(id_: str) -> str:
    return id_.partition(".")[0]


def _present(db: Connection, notes: Sequence[Note]) -> dict[tuple[int, int], str]:
    """What the delivered messages are now, by mailbox and UID."""
    from sqlalchemy import select

    from mailstack.store.flags import SEEN_BIT
    from mailstack.store.tables import message_id, messages

    places = {
        (note.detail["mailbox_id"], note.detail["uid"]): message_id(
            note.detail["mailbox_id"], note.detail["uid"]
        )
        for note in notes
        if note.event == "delivered" and "uid" in note.detail
    }
    flags: dict[int, int] = {}
    wanted = list(places.values())
    for at in range(0, len(wanted), 500):
        query = select(messages.c.id, messages.c.flags).where(messages.c.id.in_(wanted[at : at + 500]))
        flags |= {row.id: row.flags for row in db.execute(query)}
    found = {}
    for place, id_ in places.items():
        there = flags.get(id_)
        found[place] = (
            "moved or expunged" if there is None else "read" if there & SEEN_BIT else "there, unread"
        )
    return found
