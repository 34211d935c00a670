"""Marionette, Mozilla's remote control: a few commands of its protocol over TCP, enough to run scripts.

A message is its length in decimal, a colon and a JSON list: ``[0, number, command, parameters]`` asks,
``[1, number, error, result]`` answers. The server begins with one object about itself.
"""

from __future__ import annotations

import json
import socket
from typing import Any


class ScriptFailed(Exception):
    """The program refused a command, or the script threw."""


class Asked(ScriptFailed):
    """A dialog came between: its text. The script goes on once it is answered, but nobody hears of its end."""


class Marionette:
    """One session with a program that listens on `port` of loopback."""

    def __init__(self, port: int, patience: float) -> None:
        """Connect and begin a session; OSError where nothing listens. No script may take over `patience` seconds."""
        self._patience = patience
        self._socket = socket.create_connection(("127.0.0.1", port), 2 * patience)
        self._stream = self._socket.makefile("rb")
        self._number = 0
        self._read()
        self.ask("WebDriver:NewSession", {"strictFileInteractability": True})
        self.ask("Marionette:SetContext", {"value": "chrome"})
        self.ask("WebDriver:SetTimeouts", {"script": int(patience * 1000)})

    def ask(self, command: str, parameters: dict[str, Any]) -> Any:
        """The command's result."""
        self._number += 1
        message = json.dumps([0, self._number, command, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(message), message))
        _, number, error, result = self._read()
        assert number == self._number
        if error is not None:
            raise ScriptFailed(f"{error['message']}\n{error.get('stacktrace', '')}")
        return result

    def script(self, body: str, *arguments: Any) -> Any:
        """What the asynchronous function with this body returns; its `arguments` are ours."""
        wrapped = (
            "const [...all] = arguments; const done = all.pop();"
            f"(async function () {{ {body} }})(...all).then("
            "value => done({value: value === undefined ? null : value}),"
            "error => done({error: `${error}\\n${error?.stack ?? ''}`}));"
        )
        answer = self.ask(
            "WebDriver:ExecuteAsyncScript", {"script": wrapped, "args": list(arguments), "newSandbox": False}
        )["value"]
        if answer is None:
            raise Asked(self.ask("WebDriver:GetAlertText", {})["value"])
        if "error" in answer:
            raise ScriptFailed(answer["error"])
        return answer["value"]

    def reply(self, yes: bool) -> None:
        """Press a dialog's first button, or close it."""
        self.ask("WebDriver:AcceptAlert" if yes else "WebDriver:DismissAlert", {})

    def close(self) -> None:
        """End the connection; the program goes on."""
        self._stream.close()
        self._socket.close()

    def _read(self) -> Any:
        length = b""
        while not length.endswith(b":"):
            byte = self._stream.read(1)
            if not byte:
                raise ConnectionError("the program closed the connection")
            length += byte
        return json.loads(self._stream.read(int(length[:-1])))
