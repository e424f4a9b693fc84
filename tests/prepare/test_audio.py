"""Decoding: the samples are trusted, not the header."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from runyoro_ssl.errors import AudioError
from runyoro_ssl.prepare import source
from runyoro_ssl.prepare.audio import check_length, decode, probe


def tone(seconds: float, rate: int, channels: int = 1, hertz: float = 440.0) -> np.ndarray:
    """A sine, float64 (T, channels)."""
    wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.stack([wave * (channel + 1) / channels for channel in range(channels)], axis=1)


def reason_of(path: Path) -> str:
    """Why a file is rejected."""
    with pytest.raises(AudioError) as caught:
        probe(path)
    return caught.value.reason


@pytest.mark.parametrize(("extension", "subtype"), [("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_24")])
def test_lossless_round_trip(tmp_path: Path, extension: str, subtype: str) -> None:
    """What was written is what is read, to the step of 16 bits."""
    wave = tone(1.5, 16_000)
    sf.write(tmp_path / f"a.{extension}", wave, 16_000, subtype=subtype)
    np.testing.assert_allclose(decode(tmp_path / f"a.{extension}", sample_rate=16_000), wave[:, 0], atol=1 / 32768)


@pytest.mark.parametrize("extension", ["mp3", "ogg", "opus"])
def test_lossy_formats_keep_the_tone(tmp_path: Path, extension: str) -> None:
    """The spectrum peaks where it did."""
    path = tmp_path / f"a.{extension}"
    if extension == "opus":
        sf.write(path, tone(2, 48_000), 48_000, format="OGG", subtype="OPUS")
    else:
        sf.write(path, tone(2, 44_100), 44_100)
    wave = decode(path, sample_rate=16_000)
    peak = np.argmax(np.abs(np.fft.rfft(wave))) * 16_000 / len(wave)
    assert peak == pytest.approx(440, abs=2)
    assert probe(path).duration_sec == pytest.approx(2, abs=0.1)


def test_channels_are_averaged(tmp_path: Path) -> None:
    """Stereo of a and 2a is 1.5a."""
    wave = tone(1, 16_000, channels=2)
    sf.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(decode(tmp_path / "a.wav", sample_rate=16_000), wave.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("extension", ["wav", "flac", "aiff"])
def test_sixteen_bits_are_scaled_as_libsndfile_does(tmp_path: Path, extension: str, channels: int) -> None:
    """Read as integers, every value of 16 bits becomes the float that libsndfile itself gives, bit for bit."""
    path = tmp_path / f"a.{extension}"
    values = np.arange(-32768, 32768, dtype=np.int16).reshape(-1, channels)
    sf.write(path, values, 16_000, subtype="PCM_16")
    expected = sf.read(path, dtype="float32", always_2d=True)[0].mean(axis=1)
    np.testing.assert_array_equal(decode(path, sample_rate=16_000), expected)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_streamed_resampling_equals_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int) -> None:
    """Read in small blocks, a file resamples to what soxr makes of it at once; the length is right to a sample."""
    wave = tone(1.3, rate)
    sf.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    monkeypatch.setattr(source, "MAX_BLOCK_VALUES", 1_000)
    streamed = decode(tmp_path / "a.wav", sample_rate=16_000)
    at_once = soxr.resample(wave[:, 0].astype(np.float32), rate, 16_000, quality="HQ")
    assert abs(len(streamed) - 1.3 * 16_000) <= 1
    np.testing.assert_allclose(streamed[: len(at_once)], at_once[: len(streamed)], atol=1e-4)


def test_part_of_a_file(tmp_path: Path) -> None:
    """Offset and duration cut exactly."""
    wave = tone(3, 16_000)
    sf.write(tmp_path / "a.flac", wave, 16_000)
    part = decode(tmp_path / "a.flac", sample_rate=16_000, offset_sec=1.25, duration_sec=0.5)
    np.testing.assert_allclose(part, wave[20_000:28_000, 0], atol=1 / 32768)


def test_each_broken_file_has_its_reason(tmp_path: Path) -> None:
    """Missing, empty, garbage, no samples, NaN, an absurd rate."""
    (tmp_path / "empty.wav").touch()
    (tmp_path / "garbage.wav").write_bytes(b"RIFFnothing of the kind" * 20)
    sf.write(tmp_path / "none.wav", np.zeros((0, 1)), 16_000)
    sf.write(tmp_path / "nan.wav", np.full(100, np.nan), 16_000, subtype="FLOAT")
    sf.write(tmp_path / "slow.wav", np.zeros(100), 100)
    reasons = {
        name: reason_of(tmp_path / f"{name}.wav") for name in ("missing", "empty", "garbage", "none", "nan", "slow")
    }
    assert reasons == {
        "missing": "missing file",
        "empty": "empty file",
        "garbage": "unreadable",
        "none": "no samples",
        "nan": "non-finite samples",
        "slow": "implausible sample rate",
    }


def test_truncated_flac_is_not_believed(tmp_path: Path) -> None:
    """A FLAC cut in the middle states its old length; it is rejected, not read as short."""
    path = tmp_path / "a.flac"
    noise = np.random.default_rng(0).normal(0, 0.1, 80_000)
    sf.write(path, noise, 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert reason_of(path) in ("truncated", "unreadable")


def test_lying_header_costs_no_memory(tmp_path: Path) -> None:
    """A WAV whose header claims 4 GB is read for what it holds."""
    path = tmp_path / "a.wav"
    sf.write(path, tone(1, 16_000), 16_000)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(content)
    assert len(decode(path, sample_rate=16_000)) == 16_000


@pytest.mark.parametrize(
    ("found", "stated", "accepted"), [(9.95, 10, True), (9.85, 10, True), (9.7, 10, False), (0.85, 1, False)]
)
def test_length_tolerance(found: float, stated: float, *, accepted: bool) -> None:
    """A clip may be 0.1 s or 2 % shorter than stated, not more."""
    if accepted:
        check_length(found, stated, "truncated", "its header")
    else:
        with pytest.raises(AudioError, match="truncated"):
            check_length(found, stated, "truncated", "its header")
