"""Which addresses a stranger may send us to."""

from __future__ import annotations

import pytest

from mailstack.net.reach import Reach

PUBLIC = ["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.0.1", "100.128.0.1", "172.15.0.1", "172.32.0.1",
          "192.0.2.1", "223.255.255.255", "2606:4700::1111", "2001:db8::1", "::ffff:8.8.8.8",
          "2002:808:808::1", "64:ff9b::808:808"]  # fmt: skip
PRIVATE = ["0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.255", "169.254.169.254", "172.16.0.1",
           "172.31.255.255", "192.168.255.255", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1",
           "fe80::1%eth0", "fec0::1", "fc00::1", "fdff::1", "ff02::1", "::ffff:127.0.0.1", "::127.0.0.1",
           "2002:7f00:1::", "64:ff9b::10.0.0.1", "64:ff9b:1::10.0.0.1"]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert Reach().covers(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_private(address: str) -> None:
    assert not Reach().covers(address)


def test_what_the_operator_allows_and_no_more() -> None:
    reach = Reach(["10.1.0.0/16", "fd00::/64"])
    assert reach.covers("10.1.2.3")
    assert reach.covers("::ffff:10.1.2.3")
    assert reach.covers("fd00::5")
    assert not reach.covers("10.2.0.1")
    assert not reach.covers("fd00:0:0:1::1")


def test_what_is_no_address() -> None:
    with pytest.raises(ValueError, match="localhost"):
        Reach().covers("localhost")
    with pytest.raises(ValueError, match="host bits"):
        Reach(["10.0.0.1/8"])
