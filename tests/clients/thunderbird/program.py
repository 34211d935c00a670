"""Mozilla Thunderbird with a fresh profile, without a screen, driven from outside by its own scripts."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.clients.thunderbird.marionette import Marionette
from tests.running import PATIENCE, free_ports

_SCRIPTS = Path(__file__).with_name("verbs.sys.mjs")

_PREFERENCES = {  # nothing that asks the world, nothing that asks a person
    "app.donation.eoy.version.viewed": 999,
    "app.update.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
    "dom.ipc.processPrelaunch.enabled": False,
    "extensions.update.enabled": False,
    "extensions.webextensions.remote": False,
    "mail.inappnotifications.enabled": False,
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.spam.version": 1,
    "mailnews.confirm.moveFoldersToTrash": False,
    "mailnews.database.global.indexer.enabled": False,
    "mailnews.show_send_progress": False,
    "mailnews.start_page.enabled": False,
    "offline.download.download_messages": 2,  # never
    "offline.send.unsent_messages": 1,  # always
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}


class Thunderbird:
    """The running program; its verbs are the functions of verbs.sys.mjs."""

    def __init__(self, program: str, directory: Path) -> None:
        self._directory = directory
        profile = directory / "profile"
        profile.mkdir(parents=True)
        [port] = free_ports(1)
        lines = {**_PREFERENCES, "marionette.port": port}.items()
        (profile / "user.js").write_text(
            "".join(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in lines)
        )
        self._output = directory / "output"
        words = [program, "--headless", "--no-remote", "--profile", str(profile)]
        if shutil.which("setpriv"):  # so that it does not outlive us, whatever ends us
            words = ["setpriv", "--pdeathsig", "KILL", *words]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [*words, "--marionette", "--remote-allow-system-access"],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # the wrapper, the program and its children die together
                env={
                    **os.environ,
                    "HOME": str(directory),
                    "XDG_RUNTIME_DIR": str(directory),
                    "MOZ_LOG": "IMAP:3,POP3:3,timestamp",
                    "MOZ_LOG_FILE": str(directory / "protocols"),
                },
            )
        try:
            self._marionette = self._connect(port)
            self._marionette.script(
                "Services.io.getProtocolHandler('resource').QueryInterface(Ci.nsIResProtocolHandler)"
                ".setSubstitution('driver', Services.io.newURI(arguments[0]))",
                _SCRIPTS.parent.as_uri() + "/",
            )
        except BaseException:
            self.kill()
            raise

    def script(self, body: str, *arguments: Any) -> Any:
        """What the asynchronous function returns; ``tb`` is the module of verbs."""
        load = f"const tb = ChromeUtils.importESModule('resource://driver/{_SCRIPTS.name}');"
        return self._marionette.script(load + body, *arguments)

    def __getattr__(self, verb: str) -> Any:
        if verb.startswith("_"):
            raise AttributeError(verb)
        return lambda *arguments: self.script(f"return await tb.{verb}(...arguments)", *arguments)

    def reply(self, yes: bool) -> None:
        """Press the first button of the dialog that a verb met (`Asked`), or close it."""
        self._marionette.reply(yes)

    def log(self) -> str:
        """What it has logged of its IMAP and POP3 connections."""
        return (self._directory / "protocols.moz_log").read_text(errors="replace")

    def kill(self) -> None:
        """The program and all its children, for certain."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE)

    def _connect(self, port: int) -> Marionette:
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                return Marionette(port, PATIENCE)
            except ConnectionRefusedError:
                assert self._process.poll() is None, self._output.read_text(errors="replace")
                assert time.monotonic() < give_up, self._output.read_text(errors="replace")
                time.sleep(0.1)


@contextlib.contextmanager
def thunderbird(program: str, directory: Path) -> Iterator[Thunderbird]:
    """A started Thunderbird that is killed at the end."""
    one = Thunderbird(program, directory)
    try:
        yield one
    finally:
        one.kill()
