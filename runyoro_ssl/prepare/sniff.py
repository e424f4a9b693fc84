"""What a file is by its first bytes, where its name does not tell: cheap, so that no archive is handed to a decoder."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.errors import AudioError

EXTENSIONS = """
    wav wave w64 rf64 bwf flac mp3 mp2 mp1 mpga ogg oga opus spx aif aiff aifc afc caf au snd sph nist gsm m4a m4b m4r
    f4a aac 3gp 3g2 3gpp 3ga amr awb wma asf ac3 eac3 mka weba ape wv tta mpc mp+ shn als ra rm dss ds2 dvf msv qcp vox
    slk silk mp4 m4v f4v mov qt mkv webm avi divx flv wmv mpg mpeg vob ts mts m2ts m2t ogv ogm mxf
"""
AUDIO_EXTENSIONS = frozenset(f".{name}" for name in EXTENSIONS.split())
"""Files of these names are recordings, videos for their sound, readable or not; what they really hold decides how."""

HEAD_BYTES = 4096
SOUND = re.compile(
    rb"""RIFF....WAVE | RIFF....AVI | RF64 | BW64 | riff.\x91\xcf\x11 | fLaC | OggS | ID3 | FORM....AIF | \.snd | dns\.
    | caff | NIST_1A | \#!AMR | \x02?\#!SILK | \x1aE\xdf\xa3 | \x30\x26\xb2\x75 | wvpk | MAC\x20 | TTA | ajkg | ALS\0
    | \.RMF | \.ra\xfd | FLV\x01 | \0\0\x01\xba | \0\0\x01\xb3 | \x0b\x77 | \xff[\xe2-\xe7\xf1-\xff]
    | G.{187}G.{187}G | ....G.{191}G.{191}G | ....ftyp(?!avif|heic|heix|mif1|msf1) | ....(?:moov|mdat|wide)""",
    re.VERBOSE | re.DOTALL,
)
"""Beginnings of recordings and films that are decoded."""
OTHERS = (
    (
        "a picture",
        rb"\xff\xd8\xff|\x89PNG|GIF8|II\*\0|MM\0\*|RIFF....WEBP|8BPS|....ftyp(?:avif|heic|heix|mif1|msf1)|BM....\0{4}",
    ),
    ("an archive or Office document", rb"PK(?:\x03\x04|\x05\x06|\x07\x08)"),
    (
        "an archive",
        rb"Rar!|7z\xbc\xaf|\x1f\x8b\x08|BZh[1-9]|\xfd7zXZ|\x28\xb5\x2f\xfd|\x04\x22\x4d\x18|MSCF|xar!|.{257}ustar",
    ),
    ("a document", rb"%PDF|\xd0\xcf\x11\xe0\xa1\xb1|\{\\rtf|ooBinaryFile"),
    ("a database", rb"SQLite format 3|PAR1|ARROW1|\x89HDF|\x93NUMPY|bplist00"),
    ("a program", rb"\x7fELF|MZ.{58}|\xca\xfe\xba\xbe|\xcf\xfa\xed\xfe|\xce\xfa\xed\xfe"),
    ("notes (MIDI), no sound", rb"MThd|RIFF....RMID"),
)
"""What files are that begin so."""
NOT_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
MARKED_TEXT = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
ASCII = bytes(range(0x80))
LFS_POINTER = b"version https://git-lfs"
SF_DATALESS = 0x40000000
"""Flag of macOS: the content is in a cloud, and reading would fetch it."""


def check_present(path: Path) -> None:
    """Raise AudioError with reason "placeholder" for a file whose content is not on this disk; it is not fetched.

    A file without blocks may be sparse, or in a cloud: only one that begins with zeros is refused. OSError: as `stat`.
    """
    found = path.stat()
    if getattr(found, "st_flags", 0) & SF_DATALESS:
        raise AudioError(Reason.PLACEHOLDER, "the content is in a cloud, not on this disk")
    if not stat.S_ISREG(found.st_mode) or found.st_size == 0:
        return
    if getattr(found, "st_blocks", 1) == 0 and not any(read_head(path)):
        raise AudioError(Reason.PLACEHOLDER, f"{found.st_size} bytes by its name, and none on this disk")


def read_head(path: Path) -> bytes:
    """The first bytes of a file; none if it cannot be read."""
    try:
        with path.open("rb", buffering=0) as file:
            return os.read(file.fileno(), HEAD_BYTES)
    except OSError:
        return b""


def is_sound(head: bytes) -> bool:
    """Whether a file begins like a recording or a film."""
    return SOUND.match(head) is not None


def what_else(head: bytes) -> str | None:
    """What a file is that is no recording, in words; None if there is no telling."""
    if head.startswith(MARKED_TEXT) or (head and not NOT_TEXT.search(head) and _is_text(head)):
        return "text"
    return next((word for word, beginnings in OTHERS if re.match(beginnings, head, re.DOTALL)), None)


def pointer(head: bytes) -> str | None:
    """What a pointer of Git LFS says of itself; None if it is none."""
    if not head.startswith(LFS_POINTER):
        return None
    return f"a Git LFS pointer of {len(head)} bytes: git lfs pull"


def _is_text(head: bytes) -> bool:
    """Whether it is UTF-8, but for a last character that may be cut; or 8-bit text, which has few such bytes."""
    for end in range(len(head), max(0, len(head) - 4), -1):
        try:
            head[:end].decode()
        except UnicodeDecodeError:
            continue
        return True
    return len(head.translate(None, ASCII)) < len(head) / 4
