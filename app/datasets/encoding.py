"""Guesses at the encoding of bytes that are not UTF-8, for the message that names the fix."""

import re

# A UTF-32 mark begins with the UTF-16 one, so it is asked for first. Names are those of iconv.
BYTE_ORDER_MARKS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
HIGH_BYTES = re.compile(rb"[\x80-\xff]+")
WIDE_SHARE = 0.4


def wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 by its byte-order mark, or UTF-16 by the zero bytes between Latin letters; else None."""
    for mark, name in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return name
    pairs = len(head) // 2
    if pairs >= 2:
        if head[1::2].count(0) > WIDE_SHARE * pairs and head[::2].count(0) == 0:
            return "UTF-16LE"
        if head[::2].count(0) > WIDE_SHARE * pairs and head[1::2].count(0) == 0:
            return "UTF-16BE"
    return None


def guess_encoding(raw: bytes) -> str:
    """A likely 8-bit or multi-byte encoding of a line that is not UTF-8, by the name that iconv knows.

    Chinese in GB 2312 and its extensions comes as pairs of high bytes; accented letters of Western European text
    stand alone between ASCII letters. Windows-1252 fills the control codes 0x80-0x9f of Latin-1 with quotes and dashes.
    """
    runs = HIGH_BYTES.findall(raw)
    if runs and all(len(run) % 2 == 0 for run in runs):
        try:
            raw.decode("gb18030")
        except UnicodeDecodeError:
            pass
        else:
            return "GB18030"
    if any(0x80 <= byte <= 0x9F for run in runs for byte in run):
        return "WINDOWS-1252"
    return "ISO-8859-1"
