"""The one form of a name under which it is stored and compared.

A domain may arrive as U-labels (bücher.example) or A-labels (xn--bcher-kva.example), RFC 5890 section 2.3.2:
both name the same place, so we keep A-labels. Local-parts ignore case, and letters written in one or in two
code points are the same letter (Unicode NFC, as RFC 6532 section 3.1 wants them).
"""

from __future__ import annotations

import unicodedata

from mailstack.mail.address import MAX_DOMAIN, Address, BadAddress, parse_domain


def domain_key(domain: str) -> str:
    """`domain` in lower case and A-labels; one that IDNA refuses stays as it is. Never raises."""
    domain = domain.lower()
    if domain.isascii() or len(domain) > MAX_DOMAIN:
        return domain
    import idna  # its tables are large, and few need them

    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except UnicodeError:  # idna.IDNAError is one
        return domain


def address_key(address: Address) -> str:
    """The form of `address` that the tables hold: for an ASCII domain and local-part, `Address.key`."""
    return f"{local_key(address.local_part)}@{domain_key(address.domain)}"


def local_key(local_part: str) -> str:
    """A local-part as it is compared."""
    if local_part.isascii():
        return local_part.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", local_part).lower())


def stored_address(key: str) -> Address:
    """The address whose key is `key`. The domain cannot hold an @, a quoted local-part can."""
    local_part, _, domain = key.rpartition("@")
    return Address(local_part, domain)


def our_domain(text: str) -> str:
    """The key of a domain that we could serve; raise BadAddress for anything else, literals among it."""
    domain = parse_domain(text.strip().rstrip("."))
    if domain.startswith("["):
        raise BadAddress("an address literal is not a domain name")
    key = domain_key(domain)
    if not key.isascii():
        raise BadAddress("not a domain name by IDNA (RFC 5891)")
    return key


def split_detail(local_part: str, delimiters: str) -> tuple[str, str | None]:
    """``user+tag`` as ("user", "tag"); ("user", None) where there is no tag (RFC 5233 section 4)."""
    places = [place for mark in delimiters if (place := local_part.find(mark)) > 0]
    if not places:
        return local_part, None
    place = min(places)
    return local_part[:place], local_part[place + 1 :]
