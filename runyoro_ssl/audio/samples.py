"""Where the samples of an uncompressed recording stand in its file, by its chunks and not by what its header says.

WAV, RF64, Wave64, AIFF, CAF and AU state the number of bytes of their samples. The number is wrong when the recorder
lost power (0), when it does not fit into 32 bits, when a copy was cut short, and when files were joined; libsndfile
believes it, or quietly reads what there is.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.audio.rest import LITTLE, describe_rest, end_of_tags, find_again, start_of_content
from runyoro_ssl.errors import AudioError

UNKNOWN = 0x7FFFF000
"""From here on a size of 32 bits, if there is less, says that it was not known: so does what streams into a pipe."""
WAVE, RIFF_HEAD = b"WAVEfmt ", 8
"""How a WAV goes on behind its first bytes, and how many those are."""
MOST_JOINED = 1 << 28
"""Bytes among which another WAV is looked for: in hours of samples, it would cost seconds, and hardly be there."""
MAX_CHUNKS = 10_000
LITTLE_SHARE = 50
"""One part in so many of a recording is no little more, however few bytes it has."""
RECORDINGS = frozenset({b"RIFF", b"RF64", b"BW64", b"RIFX", b"FORM", b"riff", b"caff", b"fLaC", b"OggS", b"wvpk"})
"""How recordings begin that were joined to one of another format."""
TEXT = frozenset(b"\t\r\n" + bytes(range(32, 127)))
TEXT_BYTES = 64
LETTERS = 4
"""Different bytes that text has at least; the silence of 8-bit samples has fewer."""
WHOLE_FRAME = 8192
"""Bytes that may be missing at the end without being missed: less than a frame of any format with blocks."""


@dataclass(frozen=True)
class Family:
    """How a family of files writes its chunks: a name, a size, the content, padding to a multiple of `pad`."""

    header: int
    name: int
    size: str
    pad: int = 1
    size_has_head: bool = False
    samples: bytes = b"data"
    samples_skip: int = 0
    """Bytes of the chunk before its samples."""


RIFF, RIFX = Family(12, 4, "<I", pad=2), Family(12, 4, ">I", pad=2)
AIFF = Family(12, 4, ">I", pad=2, samples=b"SSND", samples_skip=8)
CAF = Family(8, 4, ">q", samples_skip=4)
WAVE64 = Family(40, 16, "<Q", pad=8, size_has_head=True)
AU = {b".snd": ">II", b"dns.": "<II"}


@dataclass(frozen=True)
class Samples:
    """The bytes of a file that are samples.

    Attributes:
        start: First byte.
        stop: Behind the last: the end that is stated, or the real one where that is another.
        stated: Bytes by the header; None where it says that it does not know.
        little_endian: Order of the bytes of a sample.
        flaw: What is wrong with the statement.
    """

    start: int
    stop: int
    stated: int | None
    little_endian: bool
    flaw: AudioError | None = None

    @property
    def is_as_stated(self) -> bool:
        """Whether a reader that believes the header reads them all, and nothing else."""
        return self.stated is None or self.start + self.stated >= self.stop > self.start


def find_samples(file: BinaryIO) -> Samples | None:
    """Find the samples; None for a file that does not consist of chunks, or whose chunks make no sense."""
    size = os.fstat(file.fileno()).st_size
    origin = start_of_content(file)
    magic = _read(file, origin, 12)
    if magic[:4] in AU:
        start, stated = struct.unpack(AU[magic[:4]], magic[4:12])
        return _located(file, size, origin + start, stated, little_endian=magic[:4] == b"dns.", family=None)
    family = _family(magic)
    if family is None:
        return None
    return _find_chunk(file, size, origin, family, little_endian=family.size[0] == "<")


def has_chunks(file: BinaryIO) -> bool:
    """Whether a file begins as one whose samples `find_samples` finds, if there are any."""
    magic = _read(file, start_of_content(file), 12)
    return magic[:4] in AU or _family(magic) is not None


def _family(magic: bytes) -> Family | None:
    if magic[8:12] == b"WAVE":
        return {b"RIFF": RIFF, b"RF64": RIFF, b"BW64": RIFF, b"RIFX": RIFX}.get(magic[:4])
    if magic[:4] == b"FORM" and magic[8:12] in {b"AIFF", b"AIFC"}:
        return AIFF
    if magic[:4] == b"caff":
        return CAF
    return WAVE64 if magic == b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb" else None


def _find_chunk(file: BinaryIO, size: int, origin: int, family: Family, *, little_endian: bool) -> Samples | None:
    long_size = None
    for name, start, length in _chunks(file, origin + family.header, size, family):
        if name == b"ds64":  # the sizes of RF64, in 64 bits
            long_size = struct.unpack("<Q", _read(file, start + 8, 8))[0]
        elif name == b"COMM" and _read(file, start + 18, 4) == b"sowt":
            little_endian = True
        elif name == b"desc":
            little_endian = bool(struct.unpack(">I", _read(file, start + 12, 4))[0] & 2)
        elif name == family.samples:
            stated = length if long_size is None or length != 0xFFFFFFFF else long_size  # noqa: PLR2004 - "see ds64"
            start += family.samples_skip  # noqa: PLW2901 - of the samples
            stated = max(stated - family.samples_skip, 0) if stated > 0 else stated
            return _located(file, size, start, stated, little_endian=little_endian, family=family)
    return None


def _chunks(file: BinaryIO, at: int, end: int, family: Family) -> Iterator[tuple[bytes, int, int]]:
    """(name, start of the content, its stated length) of each chunk. Names are four printable characters."""
    head = family.name + struct.calcsize(family.size)
    for _ in range(MAX_CHUNKS):
        content = _read(file, at, head)
        if len(content) < head or not _is_name(content[:4]):
            return
        (length,) = struct.unpack(family.size, content[family.name :])
        length -= head if family.size_has_head else 0
        yield content[:4], at + head, length
        if not 0 <= length <= end - at:
            return
        at += head + length
        padded = at + -at % family.pad
        at = padded if _is_name(_read(file, padded, 4)) or not _is_name(_read(file, at, 4)) else at


def _located(
    file: BinaryIO, size: int, start: int, stated: int, *, little_endian: bool, family: Family | None
) -> Samples | None:
    """The samples that start here, of which so many bytes are stated."""
    there = size - start
    if there < 0:
        return None
    if stated < 0 or (stated >= UNKNOWN and stated > there):
        stop, flaw = _up_to_another(file, start, size, None)
        return Samples(start, stop, None, little_endian, flaw)
    if stated > there:
        detail = f"{stated:,} bytes of samples are stated, {there:,} are there"
        flaw = AudioError(Reason.TRUNCATED, detail) if stated - there > WHOLE_FRAME else None
        return Samples(start, size, stated, little_endian, flaw)
    stop, flaw = _real_end(file, size, start, stated, family)
    return Samples(start, stop, stated, little_endian, flaw)


def _real_end(
    file: BinaryIO, size: int, start: int, stated: int, family: Family | None
) -> tuple[int, AudioError | None]:
    """Where the samples end of which so many bytes are stated, and what is wrong with that."""
    stop = start + stated
    if family is not None and _chunks_lead_to(file, stop, size, family):
        return stop, None
    if stated == 0 and stop < size:
        unfinished = AudioError(Reason.NOT_FINALISED, "its header states no length, and all that is there was read")
        return _up_to_another(file, start, size, unfinished)
    rest = describe_rest(file, stop, min(LITTLE, stated // LITTLE_SHARE))
    if family is None:  # nothing else may follow
        rest = rest or (f"{size - stop:,} bytes" if size - stop > LITTLE else None)
    if rest is None:
        return stop, None
    if family is not None and _is_something_else(file, stop, size, family):
        return stop, AudioError(Reason.NOT_READ, rest)
    longer = AudioError(Reason.LONGER_THAN_STATED, f"{size - stop:,} bytes after the stated end")
    return _up_to_another(file, stop, size, longer)


def _up_to_another(file: BinaryIO, at: int, size: int, flaw: AudioError | None) -> tuple[int, AudioError | None]:
    """Where samples end that go on to the end of the file, or to another WAV behind them; and the flaw that is told."""
    again = find_again(file, at, WAVE) if size - at <= MOST_JOINED else None
    if again is None:
        return size, flaw
    stop = again - RIFF_HEAD
    detail = f"another recording begins {size - stop:,} bytes before the end: files that were joined"
    return stop, AudioError(Reason.NOT_READ, detail)


def _chunks_lead_to(file: BinaryIO, at: int, end: int, family: Family) -> bool:
    """Whether chunks, and then nothing, stand from here to the end; some writers forget the padding of an odd size."""
    for first in {at + -at % family.pad, at}:
        last = first
        for name, start, length in _chunks(file, first, end, family):
            if name in RECORDINGS or name == family.samples:  # another file, or more of this one
                return False
            last = start + length
        if first < last <= end + family.pad and describe_rest(file, last) is None:
            return True
    return False


def _is_something_else(file: BinaryIO, at: int, size: int, family: Family) -> bool:
    """Whether what stands here is no samples: tags, a chunk, another recording, text. Samples may look like a name."""
    head = _read(file, at, TEXT_BYTES)
    if end_of_tags(file, at) > at or head[:4] in RECORDINGS:
        return True
    if len(set(head)) >= LETTERS and all(byte in TEXT for byte in head):
        return True
    _, _, length = next(_chunks(file, at, size, family), (b"", 0, -1))
    return 0 <= length <= 2 * (size - at)  # it may be cut


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)  # noqa: PLR2004 - printable ASCII


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    return os.pread(file.fileno(), count, at)
