"""Random commands in three sessions, deliveries, POP3 and restarts against a simple model of RFC 3501 and 9051.

A few hundred steps in a plain run; ``MAILSTACK_MODEL_EXAMPLES=5000 pytest tests/access/imap/test_model.py``
looks for as long as you like, and ``MAILSTACK_MODEL_SHRINK=1`` makes what it finds short.
"""

from __future__ import annotations

import os
import sys

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize

from tests.access.imap.model import Box
from tests.access.imap.picks import BODIES, DEFAULTS, flag_sets
from tests.access.imap.picture import Picture
from tests.access.imap.steps_changing import Changing

EXAMPLES = int(os.environ.get("MAILSTACK_MODEL_EXAMPLES", "12"))
STEPS = int(os.environ.get("MAILSTACK_MODEL_STEPS", "40"))
PHASES = [phase for phase in Phase if phase is not Phase.shrink or os.environ.get("MAILSTACK_MODEL_SHRINK")]


class Sessions(Changing):
    """All steps; in the end everybody is asked."""

    @initialize(
        modes=st.lists(st.sampled_from(("", "", "CONDSTORE", "QRESYNC")), min_size=3, max_size=3),
        flags=st.lists(flag_sets, min_size=8, max_size=8),
        crowded=st.booleans(),
    )
    def begin(self, modes: list[str], flags: list[frozenset[str]], crowded: bool) -> None:
        self.world.store.startService()
        self.oracle = self.world.connect().login()
        for name in DEFAULTS:
            self.names.add(name, self.uidvalidity(name))
        self.pictures = [Picture(self.world.connect().login()) for _ in range(3)]
        for picture in self.pictures:
            picture.others = self.idlers_know_all
        self.create("A")
        for number, some in enumerate(flags):
            self.append(0, "INBOX" if number < 5 else "A", some, BODIES[number % len(BODIES)])
        for number, mode in enumerate(modes):
            if mode:
                self.enable(number, mode)
            if crowded:
                self.select(number, "INBOX", "SELECT", False)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:  # or the first difference would be hidden
                self.settle()
                self.compare_all()
        finally:
            self.world.close()

    def settle(self) -> None:
        for number in range(len(self.pictures)):
            self.look(number, "NOOP")

    def compare_all(self) -> None:
        """Whoever comes fresh sees the model."""
        said = self.oracle.ask('o LIST "" *').decode()
        assert {line.split(' "/" ')[1] for line in said.split("\r\n")[:-2]} == set(self.names.boxes)
        for name, box in self.names.boxes.items():
            if box is not None:
                self.status(name)
                self.compare(name, box)

    def compare(self, name: str, box: Box) -> None:
        picture = Picture(self.world.connect().login())
        picture.ask(f"EXAMINE {name}", selects=box)
        picture.condstore = True
        found = picture.ask("FETCH 1:* (UID FLAGS MODSEQ RFC822.SIZE BODY.PEEK[])").fetched()
        assert [int(each["UID"]) for each in found.values()] == sorted(box.letters)
        for each, letter in zip(found.values(), box.letters.values(), strict=True):
            assert each["BODY[]"] == letter.body
        picture.client.lose()


TestSessions = Sessions.TestCase
TestSessions.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    phases=PHASES,
)
