"""What stands around the audio of a file: tags in front, and behind it tags, padding, or audio that nobody reads."""

from __future__ import annotations

import functools
import io
import os
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

TAG_HEAD = 32
ID3V2 = re.compile(rb"ID3[\x02-\x04].[\x00-\xff][\x00-\x7f]{4}", re.DOTALL)
FIXED = {b"3DI": 10, b"TAG+": 227, b"TAG": 128}
"""Tags of one length, in bytes: the footer of ID3v2, ID3v1 with and without its extension."""
LYRICS_END = (b"LYRICSEND", b"LYRICS200")
MOST_LYRICS = 1 << 17
LITTLE = 4096
"""Bytes behind the audio that are not worth a word: less than a quarter of a second of anything."""
NEAR = 1 << 16
"""How far before its end the last packet of a container may begin."""
BLOCK = 1 << 20


def start_of_content(file: BinaryIO) -> int:
    """The first byte behind the tags in front; 0 if they fill the file, so that they are none."""
    at = end_of_tags(file, 0)
    return at if at < os.fstat(file.fileno()).st_size else 0


def end_of_tags(file: BinaryIO, at: int) -> int:
    """The first byte behind the tags that stand here, one behind the other; `at` itself if there is none.

    ID3 of both versions, APE, Lyrics3, and the chunks of RIFF that are tags. Each says how long it is.
    """
    while size := _tag_size(file, at):
        at += size
    return at


def _tag_size(file: BinaryIO, at: int) -> int:
    """Bytes of the tag that begins here; 0 if none does."""
    head = os.pread(file.fileno(), TAG_HEAD, at)
    if ID3V2.match(head):
        size = functools.reduce(lambda bits, byte: bits << 7 | byte, head[6:10])
        return 10 + size + (10 if head[5] & 0x10 else 0)  # a footer
    if head[:8] == b"APETAGEX" and len(head) == TAG_HEAD:
        size, flags = struct.unpack("<I4xI", head[12:24])
        return TAG_HEAD + (size if flags & 1 << 29 else 0)  # the head; a foot stands behind its content
    if head[:11] == b"LYRICSBEGIN":
        content = os.pread(file.fileno(), MOST_LYRICS, at)
        return max(content.find(end) + len(end) if end in content else 0 for end in LYRICS_END)
    if head[:4] in {b"LIST", b"id3 "} and len(head) == TAG_HEAD:
        size = int.from_bytes(head[4:8], "little")
        return 8 + size + (size % 2 and os.pread(file.fileno(), 1, at + 8 + size) == b"\0")
    return next((size for name, size in FIXED.items() if head.startswith(name)), 0)


def describe_rest(file: BinaryIO, at: int, little: int = LITTLE) -> str | None:
    """Say what bytes from here to the end of the file are not audio that was read; None for nothing, or a `little`.

    Padding with zeros is of no interest, nor are tags; what stands behind a tag is.
    """
    size = os.fstat(file.fileno()).st_size
    at = end_of_tags(file, _behind_zeros(file, at))
    if size - at <= little:
        return None
    if all(not block.strip(b"\0") for block in _blocks(file, at)):
        return None
    return f"{size - at:,} bytes after the end of the audio"


def _behind_zeros(file: BinaryIO, at: int) -> int:
    """The place behind a few zeros that stand here."""
    head = os.pread(file.fileno(), TAG_HEAD, at)
    return at + len(head) - len(head.lstrip(b"\0"))


def find_tag(file: BinaryIO, at: int) -> tuple[int, int] | None:
    """Where a tag stands that begins here, or a little behind: its first byte, and the first behind it."""
    content = os.pread(file.fileno(), LITTLE, at)
    for name in (b"ID3", b"APETAGEX"):
        start = at + content.find(name)
        if start >= at and (end := end_of_tags(file, start)) > start:
            return start, end
    return None


def is_tail(file: BinaryIO, at: int) -> bool:
    """Whether nothing that could be audio stands behind this place, which may lie a little before the real end."""
    if describe_rest(file, at) is None:
        return True
    start = last = at
    for block in _blocks(file, at):
        content = block.rstrip(b"\0")
        last = start + len(content) if content else last
        start += len(block)
    return last < start and last - at <= NEAR


def find_again(file: BinaryIO, at: int, signature: bytes) -> int | None:
    """The place behind `at` where a signature stands; None if it does not."""
    before = b""
    for block in _blocks(file, at):
        found = (before + block).find(signature)
        if found >= 0:
            return at - len(before) + found
        at += len(block)
        before = block[-len(signature) :]
    return None


def next_link(file: BinaryIO, at: int) -> int | None:
    """The place behind `at` where the next recording of a chained Ogg begins; None if none does."""
    while (page := find_again(file, at, b"OggS")) is not None:
        if os.pread(file.fileno(), 6, page)[5:] == b"\2":  # the first page of a stream
            return page
        at = page + 4
    return None


def _blocks(file: BinaryIO, at: int) -> Iterator[bytes]:
    while block := os.pread(file.fileno(), BLOCK, at):
        yield block
        at += len(block)


class Nameless(io.FileIO):
    """A file from a certain byte on, for PyAV, which prints a traceback where it is not told of a place by a number."""

    def __init__(self, descriptor: int, start: int) -> None:
        """View a file that is open from byte `start` on; it stays open."""
        super().__init__(descriptor, closefd=False)
        self._start = start
        super().seek(start)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of a file; -1 for a place that cannot be."""
        try:
            return super().seek(offset + (self._start if whence == os.SEEK_SET else 0), whence) - self._start
        except (OSError, ValueError, OverflowError):
            return -1

    def tell(self) -> int:
        """As of a file."""
        return super().tell() - self._start
