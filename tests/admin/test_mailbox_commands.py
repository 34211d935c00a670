"""mailbox: a user's mailboxes, by the operator."""

from __future__ import annotations

import pytest

from tests.admin.conftest import Installation

ALICE = "alice@example.org"


def names(installation: Installation) -> dict[str, bool]:
    """Name and whether it is subscribed."""
    return {row["name"]: row["subscribed"] for row in installation.json("mailbox", "list", ALICE)}


def test_add_rename_remove(alice: Installation) -> None:
    assert alice.ok("mailbox", "add", ALICE, "Archive/2026") == f"{ALICE}: Archive/2026 added\n"
    assert names(alice)["Archive/2026"] is True
    alice.ok("mailbox", "rename", ALICE, "Archive/2026", "Old/2026")
    assert "Archive/2026" not in names(alice)
    assert names(alice)["Old/2026"] is True
    alice.ok("mailbox", "remove", ALICE, "Old/2026", "--yes")
    assert "Old/2026" not in names(alice)


def test_a_rename_takes_what_is_below_along(alice: Installation) -> None:
    alice.ok("mailbox", "add", ALICE, "A/B/C")
    alice.ok("mailbox", "rename", ALICE, "A", "Z")
    assert names(alice)["Z/B/C"] is True
    assert not [name for name in names(alice) if name.startswith("A/")]


@pytest.mark.parametrize(
    "name",
    ["Entw\u00fcrfe", "\u65e5\u672c\u8a9e", "a.b", "tmp", "new", "..", "~x", "a\\b", "$HOME", "x" * 100],
)
def test_any_name_stays_in_the_users_folder(alice: Installation, name: str) -> None:
    before = {path for path in alice.folder.rglob("*") if "alice" not in str(path.relative_to(alice.folder))}
    result = alice.run("mailbox", "add", ALICE, name)
    assert result.exit_code in (0, 1)
    after = {path for path in alice.folder.rglob("*") if "alice" not in str(path.relative_to(alice.folder))}
    assert after == before
    if result.exit_code == 0:
        assert name in names(alice)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", ALICE, "INBOX"), "there is such a mailbox already: INBOX"),
        (("add", ALICE, "inbox"), "there is such a mailbox already: INBOX"),
        (("add", ALICE, "a\x1b[2Jb"), "not possible"),
        (("add", ALICE, ""), "not possible"),
        (("add", ALICE, "/a"), "not possible"),
        (("add", "bob@example.org", "X"), "bob@example.org: no such user"),
        (("remove", ALICE, "Nope", "--yes"), "no such mailbox: Nope"),
        (("remove", ALICE, "INBOX", "--yes"), "not possible"),
        (("remove", ALICE, "Sent"), "--yes"),
        (("rename", ALICE, "Nope", "X"), "no such mailbox: Nope"),
        (("rename", ALICE, "Sent", "Trash"), "there is such a mailbox already"),
        (("rename", ALICE, "Sent", "Sent/Old"), "not possible"),
        (("rename", ALICE, "INBOX", "Old"), "INBOX cannot be renamed here"),
        (("list", "bob@example.org"), "no such user"),
        (("list", "bob"), "is not an address"),
    ],
)
def test_refused(alice: Installation, arguments: tuple[str, ...], words: str) -> None:
    before = names(alice)
    assert words in alice.refused("mailbox", *arguments)
    assert names(alice) == before


def test_columns(alice: Installation) -> None:
    lines = alice.ok("mailbox", "list", ALICE).splitlines()
    assert lines[0].split("\t") == ["Archive", "0", "0", "0", "\\Archive", "yes"]
    assert lines[2].split("\t") == ["INBOX", "0", "0", "0", "-", "yes"]
