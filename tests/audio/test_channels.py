"""Channels mixed to one, and the gain of recordings in floating point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl.audio.channels import Mixer
from runyoro_ssl.audio.decode import probe, stream
from runyoro_ssl.audio.notes import Notes
from support.recordings import Format, encode, hum

RATE = 16_000


def read(path: Path, **part: float) -> tuple[np.ndarray, Notes]:
    """A recording, and what was noticed."""
    notes = Notes()
    return np.concatenate(list(stream(path, sample_rate=RATE, notes=notes, **part))), notes


@pytest.mark.parametrize(("suffix", "subtype"), [("wav", "PCM_16"), ("flac", "PCM_24"), ("wav", "FLOAT")])
@pytest.mark.parametrize("balance", [-1.0, -0.9, -0.7])
def test_opposite_channels_leave_the_stronger(tmp_path: Path, suffix: str, subtype: str, balance: float) -> None:
    """A balanced microphone in a stereo input: not the silence that is their mean; and it is said."""
    wave = hum(20, RATE)
    sf.write(tmp_path / f"a.{suffix}", np.concatenate([balance * wave, wave], axis=1), RATE, subtype=subtype)
    found, notes = read(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(np.abs(found), np.abs(wave[:, 0]), atol=1e-4)
    told = probe(tmp_path / f"a.{suffix}").flaw
    assert [str(flaw) for flaw in notes.flaws] == [told]
    assert told in {f"channels cancel: channel {one} alone is used for 20.0 s" for one in (1, 2)}


def test_an_offset_does_not_hide_that_channels_cancel(tmp_path: Path) -> None:
    """A fault of the sound card in one of them."""
    wave = 0.3 * hum(5, RATE)
    sf.write(tmp_path / "a.wav", np.concatenate([-wave, wave + 0.4], axis=1), RATE, subtype="FLOAT")
    assert str(probe(tmp_path / "a.wav").flaw).startswith("channels cancel")


def test_opposite_channels_of_a_compressed_recording(tmp_path: Path) -> None:
    """The same through FFmpeg."""
    wave = hum(5, 44_100)
    encode(tmp_path / "a.m4a", np.concatenate([-0.8 * wave, wave], axis=1), Format("alac", "ipod", 44_100))
    found, notes = read(tmp_path / "a.m4a")
    assert np.abs(found).max() == pytest.approx(np.abs(wave).max(), rel=0.05)
    assert [str(flaw) for flaw in notes.flaws] == ["channels cancel: channel 2 alone is used for 5.0 s"]


@pytest.mark.parametrize(
    "other",
    [
        np.zeros((5 * RATE, 1), np.float32),
        np.random.default_rng(1).normal(0, 0.1, (5 * RATE, 1)).astype(np.float32),
        -0.4 * hum(5, RATE),
        np.full((5 * RATE, 1), 0.3, np.float32),
    ],
)
def test_channels_that_do_not_cancel_are_averaged(tmp_path: Path, other: np.ndarray) -> None:
    """A dead channel, with an offset or without, another sound, a weak echo."""
    both = np.concatenate([hum(5, RATE), other], axis=1)
    sf.write(tmp_path / "a.wav", both, RATE, subtype="FLOAT")
    found, notes = read(tmp_path / "a.wav")
    np.testing.assert_allclose(found, both.mean(axis=1), atol=1e-6)
    assert notes.flaws == []


@pytest.mark.parametrize("num_channels", [3, 6, 16])
def test_many_channels_without_anything_in_common_do_not_cancel(num_channels: int) -> None:
    """Nor does one that speaks while the others are silent."""
    mixer = Mixer(RATE)
    noise = np.random.default_rng(0).normal(0, 0.1, (num_channels, RATE)).astype(np.float32)
    np.testing.assert_allclose(mixer.mix(noise), noise.mean(axis=0), atol=1e-6)
    noise[1:] = 0
    mixer.mix(noise)
    assert mixer.flaws == []


@pytest.mark.parametrize("level_db", [-70, -50, 9.5, 90])
@pytest.mark.parametrize(("name", "kind"), [("a.wav", None), ("a.mka", Format("pcm_f32le", "matroska", RATE))])
def test_float_recordings_are_brought_to_full_scale(
    tmp_path: Path, level_db: float, name: str, kind: Format | None
) -> None:
    """Their recorders have no gain: speech at -70 dBFS, unclipped at 9.5, or written as 16-bit numbers (90)."""
    wave = hum(20, RATE)
    wave *= np.float32(10 ** (level_db / 20) / np.abs(wave).max())
    if kind is None:
        sf.write(tmp_path / name, wave, RATE, subtype="FLOAT")
    else:
        encode(tmp_path / name, wave, kind)
    found, notes = read(tmp_path / name)
    assert np.abs(found).max() == pytest.approx(0.9, abs=0.01)
    np.testing.assert_allclose(found, wave[:, 0] * notes.gain, rtol=1e-5, atol=1e-7)
    part, notes = read(tmp_path / name, offset_sec=5.0, duration_sec=3.0)
    np.testing.assert_allclose(part, wave[80_000:128_000, 0] * notes.gain, rtol=1e-5, atol=1e-7)


def test_a_bump_does_not_keep_quiet_speech_down(tmp_path: Path) -> None:
    """Handling at full scale among speech at -65 dBFS: the speech is raised, the bump held within full scale."""
    wave = 10 ** (-65 / 20) * hum(20, RATE)
    wave[160_000:160_400] = 0.95
    sf.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    found, notes = read(tmp_path / "a.wav")
    speech = np.delete(found, slice(159_000, 161_400))
    assert -30 < 20 * np.log10(speech.std()) < -15
    assert np.abs(found).max() == 1.0
    assert notes.gain > 100


@pytest.mark.parametrize(
    "wave",
    [
        hum(5, RATE),
        0.1 * hum(5, RATE),
        np.zeros((5 * RATE, 1), np.float32),
        np.full((5 * RATE, 1), 0.05, np.float32),
        np.random.default_rng(0).normal(0, 1e-4, (5 * RATE, 1)).astype(np.float32),
    ],
)
def test_other_float_recordings_stay_as_they_are(tmp_path: Path, wave: np.ndarray) -> None:
    """Speech at a usual level; silence, an offset, and the steady noise of a recorder left running."""
    sf.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    found, notes = read(tmp_path / "a.wav")
    assert notes.gain == 1.0
    np.testing.assert_array_equal(found, wave[:, 0])


def test_integer_recordings_have_no_gain(tmp_path: Path) -> None:
    """However faint: what they lost is lost."""
    wave = 1e-3 * hum(5, RATE)
    sf.write(tmp_path / "a.wav", wave, RATE, subtype="PCM_16")
    assert read(tmp_path / "a.wav")[1].gain == 1.0


@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_channels_that_cancel_for_a_part_lose_none_of_it(tmp_path: Path, rate: int) -> None:
    """A plug pushed in after 10 s and drawn out after 20: that part is as loud as the others, and is counted."""
    wave = hum(30, rate)
    both = np.concatenate([wave, wave], axis=1)
    both[10 * rate : 20 * rate, 1] *= -1
    sf.write(tmp_path / "a.wav", both, rate)
    notes = Notes()
    found = np.concatenate(list(stream(tmp_path / "a.wav", sample_rate=rate, notes=notes)))
    np.testing.assert_allclose(np.abs(found), np.abs(wave[:, 0]), atol=1e-4)
    assert [str(flaw)[-10:] for flaw in notes.flaws] == ["for 10.0 s"]


def test_hum_that_cancels_in_pauses_is_no_flaw() -> None:
    """What is far under the speech decides nothing."""
    mixer = Mixer(RATE)
    quiet = 1e-4 * np.random.default_rng(0).normal(0, 1, (1, 5 * RATE)).astype(np.float32)
    speech = hum(5, RATE).T
    whole = np.concatenate([np.repeat(speech, 2, axis=0), np.concatenate([quiet, -quiet])], axis=1)
    mixer.mix(whole)
    assert mixer.flaws == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("where", [slice(None), slice(RATE, RATE + 1), slice(-3, None)])
def test_a_channel_without_numbers_costs_itself(tmp_path: Path, bad: float, where: slice) -> None:
    """The other channel is used, all of it, and it is said for how long."""
    wave = hum(5, RATE)
    both = np.concatenate([wave, wave], axis=1)
    both[where, 1] = bad
    sf.write(tmp_path / "a.wav", both, RATE, subtype="FLOAT")
    found, notes = read(tmp_path / "a.wav")
    np.testing.assert_allclose(found, wave[:, 0], atol=1e-6)
    assert notes.gaps == []
    assert [flaw.reason for flaw in notes.flaws] == ["non-finite samples"]
    assert probe(tmp_path / "a.wav").flaw == str(notes.flaws[0])
