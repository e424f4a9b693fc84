"""What stands around the audio of a file: tags in front, and behind it tags, padding, or audio that nobody reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

ID3V2_HEAD = 10
TAGS_BEHIND = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"3DI", b"ID3", b"LIST", b"id3 ")
"""How tags begin that programs put behind the audio: ID3 of both versions, APE, Lyrics3, chunks of RIFF."""
LITTLE = 4096
"""Bytes behind the audio that are not worth a word: less than a quarter of a second of anything."""
NEAR = 1 << 16
"""How far before its end the last packet of a container may begin."""
BLOCK = 1 << 20


def start_of_content(file: BinaryIO) -> int:
    """The first byte behind the ID3v2 tags in front."""
    at = 0
    while (head := os.pread(file.fileno(), ID3V2_HEAD, at))[:3] == b"ID3" and len(head) == ID3V2_HEAD:
        size = 0
        for byte in head[6:]:
            size = size << 7 | byte & 0x7F
        at += ID3V2_HEAD + size
    return at


def describe_rest(file: BinaryIO, at: int) -> str | None:
    """Say what bytes from here to the end of the file are not audio that was read; None for nothing of interest.

    Padding with zeros is of no interest, nor are tags.
    """
    size = os.fstat(file.fileno()).st_size
    if size - at <= LITTLE or os.pread(file.fileno(), 16, at).lstrip(b"\0").startswith(TAGS_BEHIND):
        return None
    if all(not block.strip(b"\0") for block in _blocks(file, at)):
        return None
    return f"{size - at:,} bytes after the end of the audio"


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


def _blocks(file: BinaryIO, at: int) -> Iterator[bytes]:
    while block := os.pread(file.fileno(), BLOCK, at):
        yield block
        at += len(block)
