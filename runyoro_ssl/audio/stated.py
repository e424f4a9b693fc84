"""Lengths that compressed recordings state, where FFmpeg does not tell them from its own guesses."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

MP3_COUNTS = {b"Xing": 8, b"Info": 8, b"VBRI": 14}
"""Names in the frame that states how many an MP3 has, and how far behind. It precedes the first frame that sounds."""
LONGEST_MP3_FRAME = 1441
MP3_PADDING = 4
"""Frames that encoders add at both ends, and players leave out, at most."""
MPEG1_RATE = 32_000
"""Frames of MP3 have 1152 samples from this rate on, and half as many below."""
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
ASF_HEAD = 1 << 16


def mp3_stated_sec(file: BinaryIO, begin: int, sample_rate: int) -> float | None:
    """Seconds by the frame of counts, if there is one before the first frame that sounds, which begins at `begin`."""
    before = min(begin, LONGEST_MP3_FRAME)
    head = os.pread(file.fileno(), before, begin - before)
    for name, behind in MP3_COUNTS.items():
        at = head.find(name)
        has_count = at >= 0 and (name == b"VBRI" or (head[at + 7 : at + 8] and head[at + 7] & 1))
        if has_count and len(head) >= at + behind + 4:
            num_frames = int.from_bytes(head[at + behind : at + behind + 4], "big")
            size = 1152 if sample_rate >= MPEG1_RATE else 576
            return max(0, num_frames - MP3_PADDING) * size / sample_rate
    return None


def asf_stated_sec(file: BinaryIO, start: int) -> float | None:
    """Seconds by the header of a WMA, which stands at `start`; what was streamed states none."""
    head = os.pread(file.fileno(), ASF_HEAD, start)
    at = head.find(ASF_PROPERTIES)
    if at < 0 or len(head) < at + 88:
        return None
    play, _, preroll = struct.unpack("<QQQ", head[at + 64 : at + 88])
    return play / 1e7 - preroll / 1e3 if play else None
