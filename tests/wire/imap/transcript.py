"""A scripted role over the real session, and conversations as text that people can read too."""

from __future__ import annotations

import textwrap

from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap import responses as r
from mailstack.wire.imap.framer import Limits
from mailstack.wire.imap.server import Server
from mailstack.wire.imap.states import State


class Script:
    """Answers every event in the plainest way, and keeps the events (AppendChunks of one message joined)."""

    def __init__(self, session: Server, refused: dict[type[c.Command], r.Tagged] | None = None) -> None:
        self.session = session
        self.events: list[c.Event] = []
        self._refuse = {
            kind: (reply.status, reply.text, reply.code) for kind, reply in (refused or {}).items()
        }

    def feed(self, data: bytes) -> bytes:
        """What the server says to these octets."""
        self.session.receive_data(data)
        said = b""
        while (event := self.session.next_event()) is not None or self.session.busy:
            if event is None:
                continue
            self._keep(event)
            answer = self._answer(event)
            if answer is not None:
                said += self.session.send(answer)
            if self.session.upgrading:
                self.session.secured()
        return said

    def _keep(self, event: c.Event) -> None:
        last = self.events[-1] if self.events else None
        if isinstance(event, c.AppendChunk) and isinstance(last, c.AppendChunk):
            self.events[-1] = c.AppendChunk(event.tag, last.data + event.data)
        else:
            self.events.append(event)

    def _answer(self, event: c.Event) -> r.AnyResponse | None:
        if isinstance(event, c.Malformed):
            return r.refusal(event)
        tag, name = event.tag, type(event).__name__
        if type(event) in self._refuse:
            return r.Tagged(tag, *self._refuse[type(event)])
        match event:
            case c.LiteralAnnounced() | c.Append() | x.CatenateText():
                return r.Continuation("go ahead")
            case c.AppendChunk() | x.CatenateUrl():
                return None
            case c.Enable(capabilities=names):
                return (r.Enabled(names), r.Tagged(tag, "OK", "Enable done"))
            case c.List(reference="", patterns=(name,)) if not name.isascii():
                return (r.ListResponse(name), r.Tagged(tag, "OK", "List done"))
            case c.Idle():
                return r.Continuation("idling")
            case c.Authenticate(initial=None):
                return r.Challenge(b"")
            case c.AuthResponse(data=None):
                return r.Tagged(tag, "BAD", "cancelled")
            case c.AuthResponse(data=b"more"):
                return r.Challenge(b"challenge")
            case c.Logout():
                return (r.Bye("farewell"), r.Tagged(tag, "OK", "done"))
            case c.Noop():
                return (b"* 3 EXISTS\r\n", r.Tagged(tag, "OK", "Noop done"))
        return r.Tagged(tag, "OK", f"{name} done")


def opened(state: State, limits: Limits | None = None) -> Server:
    """A session that has got to this state."""
    session = Server(limits or Limits())
    script = Script(session)
    if state is not State.NOT_AUTHENTICATED:
        script.feed(b"login LOGIN alice secret\r\n")
    if state is State.SELECTED:
        script.feed(b"select SELECT INBOX\r\n")
    assert session.state is state
    return session


def converse(
    text: str,
    state: State = State.NOT_AUTHENTICATED,
    limits: Limits | None = None,
    refused: dict[type[c.Command], r.Tagged] | None = None,
) -> Script:
    """Play `C:` and `S:` lines, whole and again one octet at a time."""
    whole = _play(text, opened(state, limits), refused, step=1 << 30)
    bit_by_bit = _play(text, opened(state, limits), refused, step=1)
    assert whole.events == bit_by_bit.events
    return whole


def _play(text: str, session: Server, refused: dict[type[c.Command], r.Tagged] | None, step: int) -> Script:
    script = Script(session, refused)
    said = b""
    sent = b""
    lines = [line for line in textwrap.dedent(text).strip().split("\n") if line.strip()]
    for line, following in zip(lines, [*lines[1:], "S:"], strict=True):
        side, content = line[:2], line[3:]
        if side == "C:":
            sent += content.encode() + b"\r\n"
            if following[:2] == "S:":
                said += b"".join(script.feed(sent[at : at + step]) for at in range(0, len(sent), step))
                sent = b""
        else:
            expected = content.encode() + b"\r\n"
            assert said[: len(expected)] == expected, f"expected {expected!r}, got {said!r}"
            said = said[len(expected) :]
        if following[:2] == "C:":
            assert not said, f"unexpected {said!r}"
    assert not said, f"unexpected {said!r}"
    return script


def one(line: bytes, state: State = State.SELECTED) -> c.Event:
    """The one event of these octets, other than announced literals; the same whole and split."""
    results = []
    for step in (1 << 30, 1):
        script = Script(opened(state))
        for at in range(0, len(line), step):
            script.feed(line[at : at + step])
        events = [event for event in script.events if not isinstance(event, c.LiteralAnnounced)]
        assert len(events) == 1, events
        results.append(events[0])
    assert results[0] == results[1]
    return results[0]
