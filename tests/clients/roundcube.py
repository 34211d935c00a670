"""Roundcube, the webmail, under PHP's own web server, used over HTTP as its pages in a browser use it."""

from __future__ import annotations

import contextlib
import http.cookiejar
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.running import PATIENCE, RunningStack, free_ports

PAGES = Path("/var/lib/roundcube")  # where Debian puts it
_DEFAULTS = Path("/etc/roundcube/defaults.inc.php")
_ROW = re.compile(r"this\.add_message_row\((\d+),(\{.*?\}),(\{.*?\}|\[.*?\]),(?:true|false)\)")


class Roundcube:
    """One browser's session with the webmail at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.token = ""  # which every request that changes something, or hands out a file, must name
        self._open = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        ).open

    def log_in(self, address: str, password: str) -> str:
        """The first page after the login."""
        form = self.page()
        [self.token] = re.findall(r'name="_token" value="([^"]+)"', form)
        fields = {"_task": "login", "_action": "login", "_timezone": "Europe/Berlin", "_user": address}
        page = self.page("login", data={**fields, "_pass": password})
        [self.token] = re.findall(r'"request_token":"([^"]+)"', page)
        return page

    def page(self, task: str = "", action: str = "", data: dict[str, Any] | None = None, **query: Any) -> str:
        """A whole page; a POST where there is `data`."""
        return self.file(task, action, data, **query).decode()

    def file(
        self, task: str = "", action: str = "", data: dict[str, Any] | None = None, **query: Any
    ) -> bytes:
        """What lies behind the address."""
        posted = None if data is None else urllib.parse.urlencode({**data, "_token": self.token}).encode()
        with self._open(self._address(task, action, **query), posted, PATIENCE) as answer:
            return bytes(answer.read())

    def ask(self, task: str, action: str, post: bool = False, **fields: Any) -> dict[str, Any]:
        """What a click does in the background: JSON, with what the page is to do in ``exec``."""
        address = self._address(task, action, _remote=1, _unlock=0, **({} if post else fields))
        posted = urllib.parse.urlencode({**fields, "_remote": 1}).encode() if post else None
        request = urllib.request.Request(address, posted)
        answer = self._send(request)
        assert "error" not in answer.get("exec", "").split("display_message")[-1][:200].lower(), answer
        return answer

    def rows(self, action: str = "list", **fields: Any) -> dict[str, dict[str, Any]]:
        """A list of messages by subject: what its row shows and, as ``flags``, how it is marked."""
        answer = self.ask("mail", action, **fields)
        return {
            row["subject"]: {**row, "uid": int(uid), "flags": flags}
            for uid, row, flags in (
                (found[0], json.loads(found[1]), json.loads(found[2]))
                for found in _ROW.findall(answer["exec"])
            )
        }

    def write(
        self, to: str, subject: str, body: str, attachment: tuple[str, bytes] | None = None, **more: Any
    ) -> str:
        """The compose page, filled in and sent, or kept as a draft with ``_draft=1``; the answer."""
        page = self.page("mail", "compose")
        [number] = re.findall(r'"compose_id":"([^"]+)"', page)
        [sender] = re.findall(r'<select name="_from".*?<option value="(\d+)"', page, re.DOTALL)
        if attachment:
            self._attach(number, *attachment)
        fields = {"_id": number, "_from": sender, "_to": to, "_subject": subject, "_message": body}
        fields |= {"_task": "mail", "_action": "send", "_is_html": "0", "_store_target": "Sent", **more}
        return self.page("mail", "send", fields, _framed=1)

    def _attach(self, number: str, name: str, content: bytes) -> None:
        mark = uuid.uuid4().hex
        body = (
            f'--{mark}\r\nContent-Disposition: form-data; name="_attachments[]"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode() + content + f"\r\n--{mark}--\r\n".encode()  # fmt: skip
        address = self._address("mail", "upload", _id=number, _uploadid="upload1", _remote=1)
        request = urllib.request.Request(address, body)
        request.add_header("Content-Type", f"multipart/form-data; boundary={mark}")
        assert "add2attachment_list" in self._send(request)["exec"]

    def _send(self, request: urllib.request.Request) -> dict[str, Any]:
        request.add_header("X-Requested-With", "XMLHttpRequest")
        request.add_header("X-Roundcube-Request", self.token)
        with self._open(request, timeout=PATIENCE) as answer:
            told: dict[str, Any] = json.loads(answer.read())
        return told

    def _address(self, task: str, action: str, **query: Any) -> str:
        return self._url + "?" + urllib.parse.urlencode({"_task": task, "_action": action, **query})


@contextlib.contextmanager
def webmail(stack: RunningStack, directory: Path) -> Iterator[str]:
    """Roundcube for the stack's users, by IMAP over TLS and submission with STARTTLS; its address."""
    [port] = free_ports(1)
    settings, data = directory / "config", directory / "data"
    settings.mkdir(parents=True)
    data.mkdir()
    shutil.copy(_DEFAULTS, settings)
    (settings / "config.inc.php").write_text(_settings(stack, data))
    with (directory / "php.log").open("wb") as log:
        process = subprocess.Popen(
            ["php", "-d", f"session.save_path={data}", "-S", f"127.0.0.1:{port}", "-t", str(PAGES)],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "ROUNDCUBE_CONFIG_DIR": f"{settings}/"},
        )
    try:
        url = f"http://127.0.0.1:{port}/"
        _wait_for(url, process)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)


def _settings(stack: RunningStack, data: Path) -> str:
    values = {
        "db_dsnw": f"sqlite:///{data}/db.sqlite?mode=0640",
        "imap_host": f"ssl://localhost:{stack.ports['imaps']}",
        "smtp_host": f"tls://localhost:{stack.ports['submission']}",
        "smtp_user": "%u",
        "smtp_pass": "%p",
        "des_key": "four-and-twenty-letters!",
        "temp_dir": str(data),
        "log_dir": str(data),
        "session_storage": "php",
        "enable_spellcheck": "",
    }
    lines = [f"$config['{name}'] = '{value}';" for name, value in values.items()]
    trust = f"['ssl' => ['verify_peer' => true, 'verify_peer_name' => true, 'cafile' => '{stack.ca}']]"
    lines.append(f"$config['imap_conn_options'] = $config['smtp_conn_options'] = {trust};")
    return "<?php\n$config = [];\n" + "\n".join(lines) + "\n"


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(url, timeout=PATIENCE).close()
        except OSError:
            assert process.poll() is None, "php has ended"
            assert time.monotonic() < give_up, "php does not answer"
            time.sleep(0.05)
        else:
            return
