"""Where the samples of uncompressed files stand, whatever their headers say."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl.audio.decode import decode, probe
from runyoro_ssl.audio.samples import find_samples
from runyoro_ssl.errors import AudioError
from support.recordings import hum

RATE = 16_000
WAVE = hum(3, RATE)[:, 0]
PCM = np.rint(WAVE * 32768).astype("<i2").tobytes()


def wav(samples: bytes, *behind: bytes, stated: int | None = None, front: bytes = b"") -> bytes:
    """A WAV of 16 bits at 16 kHz; `behind` are chunks, or whatever stands there."""
    rest = b"".join(behind)
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    size = len(samples) if stated is None else stated
    body = b"WAVE" + front + form + b"data" + struct.pack("<I", size) + samples + rest
    return b"RIFF" + struct.pack("<I", len(body)) + body


def chunk(name: bytes, content: bytes, *, padded: bool = True) -> bytes:
    """A chunk of a RIFF file."""
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2 if padded else 0)


def found(path: Path, content: bytes) -> tuple[float, str | None]:
    """Seconds, and the flaw."""
    path.write_bytes(content)
    info = probe(path)
    return info.duration_sec, info.flaw


NOTES = b"Interview with Mr. Byaruhanga, Hoima; " * 200


@pytest.mark.parametrize(
    "content",
    [
        wav(PCM),
        wav(PCM, chunk(b"LIST", NOTES), chunk(b"id3 ", NOTES)),
        wav(PCM, front=chunk(b"bext", NOTES) + chunk(b"JUNK", bytes(40_001))),
        wav(PCM, chunk(b"LIST", NOTES + b".") + chunk(b"cue ", NOTES)),
        wav(PCM, chunk(b"LIST", NOTES + b".", padded=False) + chunk(b"cue ", NOTES)),
        wav(PCM, chunk(b"cue ", NOTES), b"\0" * 100_000),
        wav(PCM, b"\0" * 100_000),
        wav(PCM, b"\0" * 100),
        wav(PCM, chunk(b"LIST", NOTES), b"\0" * 100_000),
        wav(PCM, b"ID3\x04" + NOTES),
        wav(PCM, b"TAG" + b"Title".ljust(125)),
        wav(PCM, stated=0xFFFFFFFF),
        wav(PCM, stated=0x7FFFFFFF),
        wav(PCM, stated=0x7FFFFFDB),
        wav(PCM, stated=len(PCM) + 100),
    ],
)
def test_intact_files_have_no_flaw(tmp_path: Path, content: bytes) -> None:
    """Chunks and tags around the samples, padding or none, and sizes of those who write into a pipe."""
    assert found(tmp_path / "a.wav", content) == (3.0, None)
    np.testing.assert_array_equal(decode(tmp_path / "a.wav", sample_rate=RATE), np.frombuffer(PCM, "<i2") / 32768)


@pytest.mark.parametrize("behind", [b"", chunk(b"LIST", NOTES)])
@pytest.mark.parametrize("stated", [8_000, 2, 30_000])
def test_more_samples_than_stated_are_read(tmp_path: Path, stated: int, behind: bytes) -> None:
    """A size of 32 bits that wrapped, or was written for the last time minutes before the power went."""
    seconds, flaw = found(tmp_path / "a.wav", wav(PCM, behind, stated=stated))
    assert seconds == pytest.approx(3.0 + len(behind) / 2 / RATE)
    assert flaw == f"longer than stated: {len(PCM) - stated + len(behind):,} bytes after the stated end"
    np.testing.assert_array_equal(
        decode(tmp_path / "a.wav", sample_rate=RATE)[: len(WAVE)], np.frombuffer(PCM, "<i2") / 32768
    )


def test_a_part_behind_the_stated_end_is_read(tmp_path: Path) -> None:
    """By offset, as a segment of a manifest asks for it."""
    (tmp_path / "a.wav").write_bytes(wav(PCM, stated=32_000))
    part = decode(tmp_path / "a.wav", sample_rate=RATE, offset_sec=2.0, duration_sec=0.5)
    np.testing.assert_array_equal(part, (np.frombuffer(PCM, "<i2") / 32768)[32_000:40_000])


def test_a_recorder_that_lost_power(tmp_path: Path) -> None:
    """All sizes are zero, all samples are there; a header and nothing else is no recording."""
    assert found(tmp_path / "a.wav", wav(PCM, stated=0)) == (
        3.0,
        "not finalised: its header states no length, and all that is there was read",
    )
    for empty in (wav(b""), wav(b"", chunk(b"LIST", NOTES))):
        with pytest.raises(AudioError, match="no samples"):
            found(tmp_path / "b.wav", empty)


def test_a_copy_that_was_cut_short_is_read_and_told(tmp_path: Path) -> None:
    """Samples stand for themselves: those there are, are good."""
    seconds, flaw = found(tmp_path / "a.wav", wav(PCM)[:60_044])
    assert seconds == pytest.approx(60_000 / 2 / RATE)
    assert flaw == "truncated: 96,000 bytes of samples are stated, 60,000 are there"


@pytest.mark.parametrize("stated", [0, 0xFFFFFFFF, 8_000])
def test_another_recording_is_not_read_as_samples(tmp_path: Path, stated: int) -> None:
    """Where samples go on to the end of the file, by a header that knows no length, or a wrong one."""
    one = wav(PCM, stated=stated)
    told = f"bytes not read: another recording begins {len(one):,} bytes before the end: files that were joined"
    assert found(tmp_path / "a.wav", one * 2) == (3.0, told)


def test_samples_of_an_odd_number_whose_padding_was_forgotten(tmp_path: Path) -> None:
    """Chunks stand right behind them."""
    for padding in (b"", b"\0"):
        content = wav(PCM[:9_999], padding, chunk(b"LIST", NOTES), chunk(b"cue ", NOTES)).replace(
            struct.pack("<IIHH", RATE, 2 * RATE, 2, 16), struct.pack("<IIHH", RATE, RATE, 1, 8)
        )
        assert found(tmp_path / "a.wav", content) == (9_999 / RATE, None)


def test_tags_in_front_are_passed(tmp_path: Path) -> None:
    """Two of them: what follows is a WAV nevertheless, and not searched for MP3 frames."""
    tag = b"ID3\x03\0\0\0\0\x0f\x50" + bytes(2_000)
    for tags in (tag, tag + tag):
        (tmp_path / "a.wav").write_bytes(tags + wav(PCM, stated=8_000))
        with (tmp_path / "a.wav").open("rb") as file:
            samples = find_samples(file)
        assert samples is not None
        assert (samples.start, samples.stop) == (len(tags) + 44, len(tags) + 44 + len(PCM))


def test_a_chunk_that_leads_nowhere_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is a lie: FFmpeg would ask for 4 GB, and is not asked."""
    monkeypatch.setattr("runyoro_ssl.audio.pyav.PyAVSource.__init__", lambda *_: pytest.fail("FFmpeg was asked"))
    lying = bytearray(wav(PCM, front=chunk(b"LIST", b"INFOISFT" + NOTES)))
    lying[16:20] = b"\x1a\0\xff\xff"
    with pytest.raises(AudioError, match="unreadable: "):
        found(tmp_path / "a.wav", bytes(lying))


def test_another_recording_behind_it_is_told(tmp_path: Path) -> None:
    """Joined by cat: the header of the second is not played as noise."""
    assert found(tmp_path / "a.wav", wav(PCM) * 2) == (
        3.0,
        f"bytes not read: {len(wav(PCM)):,} bytes after the end of the audio",
    )


@pytest.mark.parametrize("magic", [(b"RF64", 0xFFFFFFFF), (b"RIFF", 0)])
def test_over_four_gigabytes(tmp_path: Path, magic: tuple[bytes, int]) -> None:
    """A file as large as that, with a size of 64 bits, or of 32 that wrapped: its end is found, and read at once."""
    path, size = tmp_path / "a.wav", 2**32 + 64_000
    name, stated = magic
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, size, size, size // 2, 0) if name == b"RF64" else b""
    head = name + struct.pack("<I", 0xFFFFFFFF) + b"WAVE" + ds64 + form + b"data"
    head += struct.pack("<I", stated or size % 2**32)
    with path.open("wb") as file:
        file.write(head + PCM)
        file.seek(len(head) + size - len(PCM))
        file.write(PCM)
    assert path.stat().st_blocks * 512 < 10_000_000, "not sparse: this file system would be filled"
    at = (size - len(PCM)) / 2 / RATE
    np.testing.assert_array_equal(
        decode(path, sample_rate=RATE, offset_sec=at, duration_sec=3.0), np.frombuffer(PCM, "<i2") / 32768
    )


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        *itertools.product(("AIFF", "CAF", "CAF little", "W64", "AU", "WAVEX"), ("PCM_16", "PCM_24", "FLOAT", "ULAW")),
        ("AIFF little", "PCM_16"),
    ],
)
def test_samples_are_read_without_their_header(tmp_path: Path, container: str, subtype: str) -> None:
    """In the order of their bytes: as with a size that is right."""
    path = tmp_path / "a"
    container, _, order = container.partition(" ")
    sf.write(path, WAVE, RATE, format=container, subtype=subtype, endian="LITTLE" if order else "FILE")
    whole = decode(path, sample_rate=RATE)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"SSND" if container == "AIFF" else b"data") + 4 if container != "AU" else 8
    at += 12 if container == "W64" else 0
    width, order = {"CAF": (8, ">"), "W64": (8, "<"), "WAVEX": (4, "<")}.get(container, (4, ">"))
    stated = struct.unpack_from(order + ("Q" if width == 8 else "I"), content, at)[0]
    struct.pack_into(order + ("Q" if width == 8 else "I"), content, at, stated // 4)
    path.write_bytes(content)
    np.testing.assert_array_equal(decode(path, sample_rate=RATE), whole)
    assert str(probe(path).flaw).startswith("longer than stated")


@pytest.mark.parametrize(
    "behind",
    [
        chunk(b"data", PCM),
        chunk(b"LIST", NOTES) + chunk(b"data", PCM),
        chunk(b"LIST", NOTES) + wav(PCM),
        chunk(b"id3 ", NOTES) + wav(PCM),
        b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + b"\xff\xfb" + PCM,
        b"fLaC\0\0\0\x22" + PCM,
        NOTES,
    ],
)
def test_what_is_no_samples_is_named_and_not_read(tmp_path: Path, behind: bytes) -> None:
    """A second chunk of samples, other recordings behind tags, text: neither lost in silence nor taken for audio."""
    seconds, flaw = found(tmp_path / "a.wav", wav(PCM, behind))
    assert seconds == 3.0
    assert str(flaw).startswith("bytes not read")


@pytest.mark.parametrize("there", [b"zzzz", b"dead", b"~~y~"])
def test_samples_may_look_like_a_name(tmp_path: Path, there: bytes) -> None:
    """Samples of 8 bits behind the end that a wrapped size states: four of them are letters now and then."""
    quiet = np.resize(np.array([0x7E, 0x81, 0x90, 0x70], np.uint8), 3 * RATE).tobytes()
    samples = quiet[:RATE] + there + quiet[RATE + 4 :]
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, RATE, 1, 8)
    content = b"RIFF" + struct.pack("<I", RATE) + b"WAVE" + form + b"data" + struct.pack("<I", RATE) + samples
    seconds, flaw = found(tmp_path / "a.wav", content)
    assert seconds == 3.0
    assert str(flaw).startswith("longer than stated")


def test_little_is_little_of_a_short_recording(tmp_path: Path) -> None:
    """A word of half a second, of which the header states a tenth: few bytes, and most of the word."""
    seconds, flaw = found(tmp_path / "a.wav", wav(PCM[: RATE // 5], stated=RATE // 50))
    assert (seconds, str(flaw).partition(":")[0]) == (0.1, "longer than stated")
