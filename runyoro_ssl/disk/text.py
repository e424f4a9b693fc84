"""Text files of other people's programs, whatever their encoding."""

from __future__ import annotations

import codecs
import stat
from pathlib import Path

from runyoro_ssl.errors import ManifestError

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before that of UTF-16, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
NAMES = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8", "utf-16": "UTF-16", "utf-32": "UTF-32", "cp1252": "Windows-1252"}


def read_text(path: Path, *, or_windows: bool = False) -> tuple[str, str]:
    """Read a text file: its text, and its encoding. Line ends are left as they are.

    UTF-8, or UTF-16 or UTF-32 as a byte-order mark or the bytes between the letters tell; with `or_windows`, what is
    none of these is taken for Windows-1252.

    Raises:
        ManifestError: Not text in these encodings, or a device, which never ends. OSError: it cannot be read.
    """
    data = b"" if _is_empty_device(path) else path.read_bytes()
    encoding = guess_encoding(data)
    try:
        return data.decode(encoding), encoding
    except UnicodeDecodeError as error:
        at = error.start
    if or_windows and encoding == "utf-8" and b"\0" not in data:
        try:
            return data.decode("cp1252"), "cp1252"
        except UnicodeDecodeError:
            pass
    name = NAMES.get(encoding, "UTF-16")
    raise ManifestError(f"{path}: not {name} at byte {at} ({data[at : at + 4]!r}); save it as UTF-8")


def _is_empty_device(path: Path) -> bool:
    """Whether it is one such as /dev/null. Raises ManifestError for any other, which may never end."""
    mode = path.stat().st_mode
    if not stat.S_ISCHR(mode) and not stat.S_ISBLK(mode):
        return False
    with path.open("rb", buffering=0) as device:
        if device.read(1):
            raise ManifestError(f"{path} is a device, which may never end; give a file")
    return True


def guess_encoding(data: bytes) -> str:
    """The encoding of UTF-8, UTF-16 or UTF-32 text, by its mark or, without one, by where it has zeros."""
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return encoding
    start = data[:1024]
    if start.count(0) > len(start) / 4:  # a text in any Latin script, in 16 bits
        return "utf-16-be" if start[0::2].count(0) > start[1::2].count(0) else "utf-16-le"
    return "utf-8"
