"""Names of mailboxes and folders: nothing leaves its folder, nothing collides by accident."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.store.flags import Keywords, info, letters_mask
from mailstack.store.names import canonical, check_name, directory_name, home_name, mailbox_name, superiors
from mailstack.store.values import BadMailboxName


def is_name(name: str) -> bool:
    try:
        return check_name(name) == name
    except BadMailboxName:
        return False


TEXT = st.text(st.one_of(st.characters(), st.sampled_from("./\\&~-%é")), max_size=60)


@given(TEXT)
@settings(max_examples=200, deadline=None)
def test_a_directory_is_one_plain_folder_and_says_its_name(name: str) -> None:
    if not is_name(name):
        return
    folder = directory_name(name)
    if name == "INBOX":
        assert folder == ""
        return
    assert folder.startswith(".")
    assert folder not in (".", "..")
    assert folder.isascii()
    assert not {*"/\\\0\n"} & {*folder}
    assert len(folder) <= 180
    if "~" not in folder:
        assert mailbox_name(folder) == name


@given(TEXT, TEXT)
@settings(max_examples=200, deadline=None)
def test_a_home_is_two_plain_folders(local_part: str, domain: str) -> None:
    home = home_name(f"{local_part}@{domain.replace('@', '')}")
    folders = home.split("/")
    assert len(folders) == 2
    for folder in folders:
        assert folder
        assert not folder.startswith(".")
        assert {*folder} <= {*"abcdefghijklmnopqrstuvwxyz0123456789_+-.%ABCDEF~"}
        assert len(folder) <= 180


def test_homes_differ() -> None:
    addresses = ["a@b", "a.b@c", ".@c", "..@c", "%2e@c", "/@c", "a/b@c", '"a@b"@c', "é@c", "e@c", "@c"]
    assert len({home_name(address) for address in addresses}) == len(addresses)


def test_what_other_maildir_programs_call_their_folders() -> None:
    assert mailbox_name("") == "INBOX"
    assert mailbox_name(".Sent.2026") == "Sent/2026"
    assert mailbox_name(".Entw&APw-rfe") == "Entwürfe"
    for bad in (".a..b", ".&AAo-", ".&!-", ".&2AA-"):
        with pytest.raises(BadMailboxName):
            mailbox_name(bad)


def test_inbox_in_any_case() -> None:
    assert [canonical(name) for name in ("inbox", "InBox/a", "inboxes", "a/inbox")] == [
        "INBOX",
        "INBOX/a",
        "inboxes",
        "a/inbox",
    ]
    assert superiors("a/b/c") == ["a", "a/b"]


class TestFlags:
    def test_letters(self) -> None:
        keywords = Keywords({8: "First", 33: "Letterless", 34: "Last", 62: "High"})
        mask, missing = keywords.mask([r"\seen", r"\DRAFT", "first", "LAST", "other", r"\Recent", "bad name"])
        assert missing == ["other"]
        assert keywords.flags(mask) == {r"\Seen", r"\Draft", "First", "Last"}
        assert info(mask) == "DSa"
        assert letters_mask("DSa") == mask & 0xFFFF

    def test_letters_of_others_stay(self) -> None:
        assert info(8, "PFX") == "PSX"
        assert letters_mask("PX!") == 0

    @given(st.integers(0, (1 << 62) - 1))
    @settings(max_examples=100, deadline=None)
    def test_every_mask_of_letters_comes_back(self, mask: int) -> None:
        known = 0x1F | (1 << 34) - (1 << 8)
        assert letters_mask(info(mask)) == mask & known
