"""What FETCH can fetch of a message (RFC 3501 section 6.4.5, and extensions)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class Attribute(Enum):
    """A FETCH item without arguments; the value is its name in the response."""

    FLAGS = b"FLAGS"
    UID = b"UID"
    INTERNALDATE = b"INTERNALDATE"
    SIZE = b"RFC822.SIZE"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"  # BODYSTRUCTURE without extension data
    BODYSTRUCTURE = b"BODYSTRUCTURE"
    MODSEQ = b"MODSEQ"
    EMAILID = b"EMAILID"  # RFC 8474
    THREADID = b"THREADID"
    SAVEDATE = b"SAVEDATE"  # RFC 8514
    RFC822 = b"RFC822"  # as BODY[], sets \Seen
    RFC822_HEADER = b"RFC822.HEADER"  # as BODY.PEEK[HEADER]
    RFC822_TEXT = b"RFC822.TEXT"  # as BODY[TEXT], sets \Seen


@dataclass(frozen=True, slots=True)
class Section:
    """BODY[...] or BODY.PEEK[...] (RFC 3501 section 6.4.5).

    `text` is "", HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT or MIME; MIME has a part number.
    `fields`: names as the client wrote them. `partial`: offset and most octets, of what the rest names.
    """

    part: tuple[int, ...] = ()
    text: str = ""
    fields: tuple[str, ...] = ()
    peek: bool = False
    partial: tuple[int, int] | None = None

    @property
    def label(self) -> bytes:
        """The item's name in the response: `BODY[1.HEADER.FIELDS (TO)]<0>`."""
        name = ".".join([*map(str, self.part), *([self.text] if self.text else ())])
        fields = " (" + " ".join(map(_field_name, self.fields)) + ")" if self.fields else ""
        origin = "" if self.partial is None else f"<{self.partial[0]}>"
        return f"BODY[{name}{fields}]{origin}".encode("ascii", "replace")


def _field_name(name: str) -> str:
    return f'"{name}"' if not name or set(name) & set('(){ %*]"\\') else name


@dataclass(frozen=True, slots=True)
class Binary:
    """BINARY[...] or BINARY.PEEK[...]: the part without its transfer encoding (RFC 3516 section 4.2)."""

    part: tuple[int, ...] = ()
    peek: bool = False
    partial: tuple[int, int] | None = None

    @property
    def label(self) -> bytes:
        """The item's name in the response: `BINARY[1.2]<0>`."""
        origin = "" if self.partial is None else f"<{self.partial[0]}>"
        return f"BINARY[{'.'.join(map(str, self.part))}]{origin}".encode()


@dataclass(frozen=True, slots=True)
class BinarySize:
    """BINARY.SIZE[...]: how many octets BINARY[...] has."""

    part: tuple[int, ...] = ()

    @property
    def label(self) -> bytes:
        """The item's name in the response: `BINARY.SIZE[1.2]`."""
        return f"BINARY.SIZE[{'.'.join(map(str, self.part))}]".encode()


@dataclass(frozen=True, slots=True)
class Preview:
    """PREVIEW (RFC 8970); `lazy`: only if it costs nothing, else NIL."""

    lazy: bool = False


Item: TypeAlias = Attribute | Section | Binary | BinarySize | Preview
