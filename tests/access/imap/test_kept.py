"""Sort keys and thread inputs are made once, and bounded."""

from __future__ import annotations

from mailstack.access.imap.kept import MOST_KINDS, Kept
from tests.access.imap.harness import World


def test_the_second_sort_reads_nothing(world: World) -> None:
    for subject in ("b", "a", "c"):
        world.append(f"Subject: {subject}\r\n\r\nx\r\n".encode())
    client = world.connect().select()
    for command in ("SORT (SUBJECT)", "THREAD REFERENCES"):
        first = client.ask(f"a {command} UTF-8 ALL")
        world.work.trips.clear()
        assert client.ask(f"a {command} UTF-8 ALL") == first
        assert "read" not in world.work.trips
    world.append(b"Subject: aa\r\n\r\nx\r\n")
    client.ask("n NOOP")
    assert client.ask("b SORT (SUBJECT) UTF-8 ALL").startswith(b"* SORT 2 4 1 3\r\n")
    client.ask(r"c STORE 2 +FLAGS.SILENT (\Deleted)")
    client.ask("d EXPUNGE")
    assert client.ask("e SORT (REVERSE SUBJECT) UTF-8 ALL").startswith(b"* SORT 2 1 3\r\n")


def test_it_is_bounded(world: World) -> None:
    one, two = (world.run(world.store.open(1, name)) for name in ("INBOX", "Trash"))
    kept = Kept(most=10)
    kept.of(one, "x").update(dict.fromkeys(range(6)))
    kept.bound()
    assert len(kept.of(one, "x")) == 6
    kept.of(two, "x").update(dict.fromkeys(range(6)))
    kept.bound()
    assert not kept.of(one, "x")
    assert len(kept.of(two, "x")) == 6
    for kind in range(MOST_KINDS):
        kept.of(two, kind)
    assert not kept.of(two, "x")
