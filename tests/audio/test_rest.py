"""Tests of tags around the audio, and of what stands behind it."""

import struct
from pathlib import Path

import numpy as np
import pytest

from runyoro_ssl.audio.decode import decode, probe
from support.recordings import NO_NOISE, Format, encode, hum

SECONDS = 3.0
COVER = np.random.default_rng(0).bytes(1_300_000)
"""As large as the covers of podcasts; FFmpeg stops looking for the format behind one of a megabyte."""


def id3(content: bytes, *, footer: bool = False) -> bytes:
    """An ID3v2.4 tag with a picture."""
    body = b"APIC" + _syncsafe(len(content) + 14) + b"\0\0\0image/png\0\3\0" + content
    flags_and_size = (b"\x10" if footer else b"\0") + _syncsafe(len(body))
    return b"ID3\x04\0" + flags_and_size + body + (b"3DI\x04\0" + flags_and_size if footer else b"")


def _syncsafe(size: int) -> bytes:
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def ape(content: bytes) -> bytes:
    """An APE tag with a picture."""
    item = struct.pack("<II", len(content), 2) + b"Cover Art (Front)\0" + content
    head, foot = (
        b"APETAGEX" + struct.pack("<IIII8x", 2000, len(item) + 32, 1, flags) for flags in (0xA0000000, 0x80000000)
    )
    return head + item + foot


RECORDINGS = {
    "mp3": Format("libmp3lame", "mp3", 44_100, bit_rate=64_000, muxing={"id3v2_version": "0"}),
    "aac": Format("aac", "adts", 44_100, options=NO_NOISE),
    "flac": Format("flac", "flac", 16_000),
    "tta": Format("tta", "tta", 16_000),
    "ac3": Format("ac3", "ac3", 48_000, 2),
    "m4a": Format("aac", "ipod", 44_100, options=NO_NOISE),
    "opus": Format("libopus", "ogg", 48_000),
}


def recording(path: Path, name: str) -> bytes:
    """A recording of three seconds."""
    kind = RECORDINGS[name]
    encode(path, hum(SECONDS, kind.rate, kind.channels), kind)
    return path.read_bytes()


def check(path: Path, content: bytes, seconds: float) -> None:
    """Assert how long a recording is, and that nothing is wrong with it."""
    path.write_bytes(content)
    info = probe(path)
    assert info.flaw is None
    assert info.duration_sec == pytest.approx(seconds, abs=0.2)


@pytest.mark.parametrize("name", RECORDINGS)
@pytest.mark.parametrize("tag", [id3(b"small"), id3(COVER), id3(COVER, footer=True)], ids=["small", "cover", "footer"])
def test_a_cover_in_front_hides_no_recording(tmp_path: Path, name: str, tag: bytes) -> None:
    """However large the tag is, the recording behind it is as long as without it."""
    content = recording(tmp_path / "a", name)
    check(tmp_path / "b", tag + content, SECONDS)


@pytest.mark.parametrize("tag", [id3(COVER), ape(COVER)], ids=["id3", "ape"])
def test_a_cover_behind_is_no_lost_packet(tmp_path: Path, tag: bytes) -> None:
    """What looks like frames in the picture of a tag is neither audio nor damage."""
    content = recording(tmp_path / "a", "mp3")
    check(tmp_path / "b", content + tag, SECONDS)


@pytest.mark.parametrize("name", ["mp3", "aac", "flac"])
def test_covers_of_joined_files_cost_nothing(tmp_path: Path, name: str) -> None:
    """Episodes joined with cat, each with its cover."""
    content = recording(tmp_path / "a", name)
    check(tmp_path / "b", (id3(COVER) + content) * 3, 3 * SECONDS)


@pytest.mark.parametrize("name", ["mp3", "flac"])
def test_a_count_that_cannot_be_is_none(tmp_path: Path, name: str) -> None:
    """A count of frames never filled in, all ones: years by the header, and an intact recording."""
    content = bytearray(recording(tmp_path / "a", name))
    if name == "flac":
        content[21] |= 0x0F
        content[22:26] = b"\xff" * 4
    else:
        at = max(content.find(b"Xing"), content.find(b"Info"))
        content[at + 8 : at + 12] = b"\xff" * 4
    check(tmp_path / "b", bytes(content), SECONDS)


@pytest.mark.parametrize(("offset_sec", "seconds"), [(0.5, 1.0), (2.0, 1.0), (2.5, 0.5)])
def test_parts_of_a_flac_that_states_too_much(tmp_path: Path, offset_sec: float, seconds: float) -> None:
    """Every part that is there is read, near the end, too, and up to the end where it reaches past it."""
    content = bytearray(recording(tmp_path / "a", "flac"))
    content[22:26] = struct.pack(">I", 6 * 16_000)
    (tmp_path / "b").write_bytes(content)
    wave = decode(tmp_path / "b", sample_rate=16_000, offset_sec=offset_sec, duration_sec=1.0)
    assert len(wave) == seconds * 16_000


@pytest.mark.parametrize("tags", [ape(b"small"), id3(b"small")])
def test_another_recording_behind_tags_is_named(tmp_path: Path, tags: bytes) -> None:
    """What FFmpeg cannot go on with, being of another format, is neither lost in silence nor costs what was read."""
    behind = recording(tmp_path / "a", "mp3")
    (tmp_path / "b").write_bytes(recording(tmp_path / "a", "aac") + tags + behind)
    info = probe(tmp_path / "b")
    assert info.duration_sec == pytest.approx(SECONDS, abs=0.1)
    assert [flaw.reason for flaw in info.flaws] == ["bytes not read"]


LINKS = {
    "opus": Format("libopus", "ogg", 48_000),
    "opus-stereo": Format("libopus", "ogg", 48_000, 2),
    "opus-16k": Format("libopus", "ogg", 16_000),
    "flac": Format("flac", "ogg", 16_000),
    "flac-44k": Format("flac", "ogg", 44_100, 2),
}


@pytest.mark.parametrize(
    "names",
    [
        ["opus", "opus-stereo", "flac", "opus-16k", "flac-44k"],
        list(reversed(LINKS)),
        ["opus-stereo", "opus", "opus-stereo"],
    ],
)
def test_links_of_ogg_may_each_be_of_another_kind(tmp_path: Path, names: list[str]) -> None:
    """Voice notes of several telephones joined with cat: other codecs, rates and channels, all of them read."""
    content = b""
    for name in names:
        encode(tmp_path / "a", hum(SECONDS, LINKS[name].rate, LINKS[name].channels), LINKS[name])
        content += (tmp_path / "a").read_bytes()
    check(tmp_path / "b", content, len(names) * SECONDS)
    wave = decode(tmp_path / "b", sample_rate=16_000, offset_sec=4.0, duration_sec=4.0)
    assert len(wave) == 4 * 16_000
    assert wave[-16_000:].std() == pytest.approx(wave[:16_000].std(), rel=0.5)
