"""The log as lines, for people or, with ``format = "json"``, for programs.

Theory of operation. Events of twisted.logger come in at any rate and from hostile peers: an event below the
level costs one comparison, the fields of a format string are looked up once, and every control character is
escaped, so that no peer can forge a line or speak to the operator's terminal.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from string import Formatter
from typing import Any, TextIO

from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

from mailstack.net.settings import LogConfig

_RANKS = {LogLevel.debug: 0, LogLevel.info: 1, LogLevel.warn: 2, LogLevel.error: 3, LogLevel.critical: 4}
_LOOK_SECONDS = 5.0  # how often we ask whether the log file was moved away


def observer(config: LogConfig) -> ILogObserver:
    """What to give to twisted.logger for [log]; raises OSError where the file cannot be opened."""
    write = _LogFile(config.file).write if config.file else _to_standard_error()
    return LogLines(write, config.level, config.format == "json")


@implementer(ILogObserver)
class LogLines:
    """Writes each event of `level` or worse as one line; a traceback follows indented, in JSON as a field."""

    def __init__(self, write: Callable[[str], object], level: str = "info", as_json: bool = False) -> None:
        self._write = write
        self._least = _RANKS[LogLevel.lookupByName(level)]
        self._line = _json_line if as_json else _text_line

    def __call__(self, event: LogEvent) -> None:
        """Take one event; never raises."""
        if "log_failure" in event and event["log_failure"].check(ReactorNotRunning):
            event = _stopping(event)
        level = event.get("log_level", LogLevel.info)
        namespace = event.get("log_namespace", "-")
        rank = _RANKS.get(level, 1)
        if rank == 1 and not namespace.startswith("mailstack"):
            rank = 0  # Twisted's own news of factories and ports is for debugging
        if rank < self._least:
            return
        try:
            self._write(self._line(event, level.name, namespace.removeprefix("mailstack.")))
        except (OSError, ValueError):
            pass  # a full disk or a closed terminal must not stop the mail


def _stopping(event: LogEvent) -> LogEvent:
    """A second signal while we stop: Twisted has nothing left to do for it, and says so with a traceback."""
    return {
        "log_time": event.get("log_time", time.time()),
        "log_level": LogLevel.info,
        "log_namespace": "mailstack",
        "log_format": "told again to stop, which is under way",
    }


def _text_line(event: LogEvent, level: str, namespace: str) -> str:
    fields = "".join(f" {name}={_value(value)}" for name, value in _fields(event))
    line = f"{_stamp(event)} {level:<5} {namespace}: {_escaped(_message(event))}{fields}\n"
    if "log_failure" in event:
        trace = event["log_failure"].getTraceback()
        line += "".join(f"    {_escaped(one)}\n" for one in trace.splitlines())
    return line


def _json_line(event: LogEvent, level: str, namespace: str) -> str:
    entry = {"time": _stamp(event), "level": level, "from": namespace, "message": _message(event)}
    for name, value in event.items():
        if _ours(name):
            entry.setdefault(name, value)
    if "log_failure" in event:
        entry["traceback"] = event["log_failure"].getTraceback()
    return json.dumps(entry, default=str) + "\n"


def _stamp(event: LogEvent) -> str:
    moment = datetime.fromtimestamp(event.get("log_time", time.time()), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _fields(event: LogEvent) -> list[tuple[str, Any]]:
    """The event's own values that its message does not show."""
    told = _told(event.get("log_format") or "")
    return [(name, value) for name, value in event.items() if _ours(name) and name not in told]


def _ours(name: str) -> bool:
    # The second line: what Twisted's older log system adds to its events.
    return not name.startswith("log_") and name not in (
        "time", "isError", "format", "message", "system", "failure", "why", "log_text",
    )  # fmt: skip


def _message(event: LogEvent) -> str:
    """What Twisted's `formatEvent` says, at a tenth of its cost for fields that are plain names."""
    pieces = _pieces(event.get("log_format") or "")
    if pieces is None:
        return formatEvent(event)
    try:
        return "".join(text if name is None else text + str(event[name]) for text, name in pieces)
    except Exception:
        return formatEvent(event)  # which says what is wrong


@lru_cache(maxsize=1000)
def _pieces(log_format: object) -> tuple[tuple[str, str | None], ...] | None:
    """A format as texts, each with the name of the field after it; None where there is more to it."""
    if not isinstance(log_format, str) or not log_format:
        return None
    try:
        found = list(Formatter().parse(log_format))
    except ValueError:
        return None
    if any(
        spec or conversion or not (name is None or name.isidentifier()) for _, name, spec, conversion in found
    ):
        return None
    return tuple((text, name) for text, name, _, _ in found)


@lru_cache(maxsize=1000)
def _told(log_format: str) -> frozenset[str]:
    try:
        names = [name or "" for _, name, _, _ in Formatter().parse(log_format)]
    except ValueError:
        return frozenset()
    return frozenset(re.split(r"[.\[(]", name)[0] for name in names)


def _value(value: Any) -> str:
    text = str(value)
    if text and not re.search(r'[\s"=]', text):
        return _escaped(text)
    return '"' + _escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _to_standard_error() -> Callable[[str], object]:
    stream = sys.stderr  # as it is now: twisted.logger will put one in its place that writes to the log

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return write


class _LogFile:
    """A file that is opened again once logrotate has moved it away."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._open()
        self._look_at = 0.0

    def write(self, text: str) -> None:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._reopen()
        self._file.write(text)

    def _open(self) -> TextIO:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace")

    def _reopen(self) -> None:
        ours = os.fstat(self._file.fileno())
        try:
            theirs = os.stat(self._path)
        except FileNotFoundError:
            theirs = None
        if theirs is None or (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
            old, self._file = self._file, self._open()
            old.close()
