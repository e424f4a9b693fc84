"""Decoding: the samples are trusted, not the header."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf
import soxr

from conftest import ROOT
from runyoro_ssl.audio import decoder as source
from runyoro_ssl.audio import pyav
from runyoro_ssl.audio.decode import check_length, decode, probe, stream
from runyoro_ssl.audio.frames import at_one_rate
from runyoro_ssl.audio.notes import Notes
from runyoro_ssl.errors import AudioError
from support.recordings import AV_FORMATS, NO_NOISE, SNDFILE_FORMATS, Format, encode, hum, write_av, write_sndfile


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


@pytest.fixture(scope="module")
def every_format(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `hum`, 4.03 s, in every format: AV_FORMATS and SNDFILE_FORMATS by name."""
    folder = tmp_path_factory.mktemp("formats")
    for name in AV_FORMATS:
        write_av(folder / name, 4.03)
    for name in SNDFILE_FORMATS:
        write_sndfile(folder / name, 4.03)
    return folder


DELAYS = {"adts.aac": 1024, "film.avi": 1105, "surround.ac3": 256, "radio.ts": 481, "desk.wma": -1754}
"""Frames of encoder delay that the container does not declare, or that FFmpeg loses; all others start at the first."""


@pytest.mark.parametrize("name", [name for name in AV_FORMATS if not name.startswith("phone")])
def test_what_went_in_comes_out(every_format: Path, name: str) -> None:
    """Through FFmpeg's containers and codecs, the wave is where it was, and as long as it was."""
    kind = AV_FORMATS[name]
    wave = hum(4.03, kind.rate, kind.channels).mean(axis=1)[max(0, -DELAYS.get(name, 0)) :]
    decoded = decode(every_format / name, sample_rate=kind.rate)[max(0, DELAYS.get(name, 0)) :]
    num_common = min(len(wave), len(decoded))
    assert np.corrcoef(wave[:num_common], decoded[:num_common])[0, 1] > 0.99
    info = probe(every_format / name)
    assert (info.sample_rate, info.num_channels) == (kind.rate, kind.channels)
    assert info.duration_sec == pytest.approx(4.03, abs=0.06)


@pytest.mark.parametrize("name", ["phone.3gp", "phone.amr"])
def test_phone_codecs_keep_the_swell(every_format: Path, name: str) -> None:
    """AMR keeps no waveform; the loudness rises and falls where it did."""
    decoded = decode(every_format / name, sample_rate=8_000)
    loudness = [
        np.sqrt((wave[: 400 * 80].reshape(80, 400) ** 2).mean(axis=1)) for wave in (decoded, hum(4.03, 8_000)[:, 0])
    ]
    assert np.corrcoef(loudness)[0, 1] > 0.98


@pytest.mark.parametrize("name", [*AV_FORMATS, *SNDFILE_FORMATS])
@pytest.mark.parametrize("offset_sec", [0.517, 2.217])
def test_a_part_equals_the_same_part_of_the_whole(every_format: Path, name: str, offset_sec: float) -> None:
    """Whether it is reached by a jump or by decoding what precedes; sample for sample."""
    rate = probe(every_format / name).sample_rate
    whole = decode(every_format / name, sample_rate=rate)
    part = decode(every_format / name, sample_rate=rate, offset_sec=offset_sec, duration_sec=0.7)
    start = round(offset_sec * rate)
    assert len(part) == round(0.7 * rate)
    np.testing.assert_allclose(part, whole[start : start + len(part)], atol=2e-5)


def test_a_part_of_a_recording_that_starts_late(tmp_path: Path) -> None:
    """Positions count from the first sample, also where the first timestamp is ten seconds."""
    path = tmp_path / "a.m4a"
    wave = hum(4, 16_000)
    encode(path, wave, Format("alac", "ipod", 16_000, start_sec=10))
    part = decode(path, sample_rate=16_000, offset_sec=2.5, duration_sec=0.5)
    np.testing.assert_allclose(part, wave[40_000:48_000, 0], atol=1 / 32768)


def test_the_middle_of_a_long_mp4_is_reached_by_a_jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second early, and not from the start: parts of a long recording do not cost the whole each."""
    encode(tmp_path / "a.m4a", hum(60, 16_000), Format("alac", "ipod", 16_000))
    num_frames = 0

    def counted(frames: Iterable[av.AudioFrame], rate: int) -> Iterator[av.AudioFrame]:
        nonlocal num_frames
        for frame in at_one_rate(frames, rate):
            num_frames += frame.samples
            yield frame

    monkeypatch.setattr(pyav, "at_one_rate", counted)
    assert len(decode(tmp_path / "a.m4a", sample_rate=16_000, offset_sec=50, duration_sec=0.5)) == 8_000
    assert num_frames < 3 * 16_000


@pytest.mark.parametrize("name", [*AV_FORMATS, *SNDFILE_FORMATS])
@pytest.mark.parametrize("extension", ["wav", "gsm", "txt"])
def test_the_extension_is_not_believed(every_format: Path, tmp_path: Path, name: str, extension: str) -> None:
    """Every format is what its content says."""
    shutil.copy(every_format / name, tmp_path / f"a.{extension}")
    assert probe(tmp_path / f"a.{extension}") == probe(every_format / name)


@pytest.mark.parametrize("extension", ["gsm", "vox", "ul", "raw", "m3u8"])
def test_an_extension_makes_no_recording(tmp_path: Path, extension: str) -> None:
    """Bytes without a format are not guessed to be samples."""
    (tmp_path / f"a.{extension}").write_bytes(np.random.default_rng(0).bytes(20_000))
    assert reason_of(tmp_path / f"a.{extension}") == "unreadable"


@pytest.mark.parametrize("name", ["flac.mka", "mono.m4a", "pcm.wav"])
def test_blocks_are_bounded_and_join_to_the_whole(
    every_format: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The size of blocks changes no sample; the resampler may hold one back and give two."""
    whole = decode(every_format / name, sample_rate=16_000)
    monkeypatch.setattr(source, "MAX_BLOCK_VALUES", 500)
    blocks = list(stream(every_format / name, sample_rate=16_000))
    assert max(len(block) for block in blocks) <= 1_000
    assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_every_kind_of_sample_is_scaled_to_one(tmp_path: Path, codec: str) -> None:
    """Integers of any width, and floats, planar or not, as libsndfile scales them."""
    wave = hum(0.5, 16_000, 2)
    encode(tmp_path / "a.mkv", wave, Format(codec, "matroska" if codec != "pcm_u8" else "avi", 16_000, 2))
    step = 2 / 256 if codec == "pcm_u8" else 1 / 32768
    np.testing.assert_allclose(decode(tmp_path / "a.mkv", sample_rate=16_000), wave.mean(axis=1), atol=step)


def test_names_in_any_alphabet(tmp_path: Path) -> None:
    """Tags that are not UTF-8 do no harm."""
    encode(tmp_path / "a.mka", hum(0.5, 16_000), Format("flac", "matroska", 16_000), title="Omugurusi \xe9\xe8")
    assert probe(tmp_path / "a.mka").duration_sec == 0.5


def test_eight_planes_are_refused(tmp_path: Path) -> None:
    """PyAV would read beyond them and crash; a reason instead."""
    encode(tmp_path / "a.m4a", hum(0.5, 48_000, 8), Format("aac", "ipod", 48_000, 8))
    assert reason_of(tmp_path / "a.m4a") == "implausible channels"


def playlists(audio: Path, port: int) -> dict[str, str]:
    """Texts that FFmpeg would follow to other files and hosts."""
    address = f"http://127.0.0.1:{port}/a.ts"
    return {
        "ffconcat": f"ffconcat version 1.0\nfile {audio.name}\n",
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{audio.name}\n#EXT-X-ENDLIST\n",
        "remote m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{address}\n#EXT-X-ENDLIST\n",
        "mpd": '<?xml version="1.0"?><MPD type="static"><Period><AdaptationSet mimeType="audio/mp4"><Representation '
        f'id="1" bandwidth="1"><BaseURL>{address}</BaseURL></Representation></AdaptationSet></Period></MPD>',
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    }


def test_a_playlist_opens_nothing_else(every_format: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that name a good recording, or a host, are refused; left to itself FFmpeg follows them."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(every_format / "radio.ts", tmp_path / "radio.ts")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        for kind, text in playlists(tmp_path / "radio.ts", server.getsockname()[1]).items():
            for extension in ("m3u8", "mp3"):
                (tmp_path / f"list.{extension}").write_text(text)
                assert reason_of(tmp_path / f"list.{extension}") == "unreadable", kind
        with pytest.raises(TimeoutError):
            server.accept()
    (tmp_path / "list.m3u8").write_text(playlists(tmp_path / "radio.ts", 1)["ffconcat"])
    with av.open(str(tmp_path / "list.m3u8")) as followed:
        assert followed.streams.audio


def test_too_long_by_header_or_by_count(every_format: Path) -> None:
    """A header that says too much is enough; where none says anything, the samples are counted."""
    for name in ("pcm.flac", "mono.m4a", "adts.aac", "music.mp3"):
        with pytest.raises(AudioError, match="limit") as caught:
            probe(every_format / name, max_seconds=3)
        assert caught.value.reason == "too long"
        assert ("header" in caught.value.detail) == (name != "adts.aac")
        assert probe(every_format / name, max_seconds=5).duration_sec == pytest.approx(4.03, abs=0.1)


def test_a_cut_mp4_is_not_believed(tmp_path: Path) -> None:
    """With its index in front it still opens, and states its old length."""
    path = tmp_path / "a.m4a"
    encode(path, hum(4, 44_100), Format("aac", "ipod", 44_100, muxing={"movflags": "faststart"}))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert reason_of(path) == "truncated"


def delivered(blocks: Iterator[np.ndarray]) -> tuple[float, str]:
    """Seconds at 16 kHz before a stream ends, and the reason why it does."""
    num_samples = 0
    try:
        for block in blocks:
            num_samples += len(block)
    except AudioError as error:
        return num_samples / 16_000, error.reason
    return num_samples / 16_000, "none"


def test_good_blocks_precede_the_damage(tmp_path: Path) -> None:
    """NaN midway through a WAV; packets midway through an AAC that do not decode."""
    wave = np.zeros(60 * 16_000, np.float32)
    wave[50 * 16_000] = np.nan
    sf.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    encode(tmp_path / "a.aac", hum(10, 16_000), Format("aac", "adts", 16_000))
    content = bytearray((tmp_path / "a.aac").read_bytes())
    half = content.index(b"\xff\xf1", len(content) // 2)
    noise = np.random.default_rng(0)
    for at in range(half + 9, len(content), 5):
        if 0xFF not in content[max(0, at - 8) : at + 1]:
            content[at] = noise.integers(0, 255)
    (tmp_path / "a.aac").write_bytes(content)
    seconds, reason = delivered(stream(tmp_path / "a.wav", sample_rate=16_000))
    assert (seconds, reason) == (60, "none")
    seconds, reason = delivered(stream(tmp_path / "a.aac", sample_rate=16_000))
    assert seconds > 4.5
    assert reason == "unreadable"


def test_one_bad_packet_is_skipped(tmp_path: Path) -> None:
    """As players do: an hour is not lost for a fiftieth of a second."""
    path = tmp_path / "a.m4a"
    encode(path, hum(10, 44_100), Format("alac", "ipod", 44_100))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 600] = b"\xff" * 600
    path.write_bytes(content)
    assert 9.8 < probe(path).duration_sec < 10


@pytest.mark.parametrize("name", ["a.mkv", "a.wav"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e30])
def test_a_bad_number_costs_a_tenth_of_a_second(tmp_path: Path, name: str, number: float) -> None:
    """Whatever the decoder: there is silence instead, and it is noted; all else is what it would be without."""
    wave = hum(2, 16_000)
    wave[9_000] = number
    encode(tmp_path / name, wave, Format("pcm_f32le", "matroska" if name == "a.mkv" else "wav", 16_000))
    notes = Notes()
    found = np.concatenate(list(stream(tmp_path / name, sample_rate=16_000, notes=notes)))
    assert notes.gaps == [(0.5, 0.6)]
    assert notes.gaps_at(8_000) == [(4_000, 4_800)]
    wave[8_000:9_600] = 0
    np.testing.assert_array_equal(found, wave[:, 0])
    told = "non-finite samples: 0.1 s without a number (NaN or infinity), first at second 0.5"
    assert probe(tmp_path / name).flaw == told


def test_nothing_but_bad_numbers(tmp_path: Path) -> None:
    """Is no recording."""
    sf.write(tmp_path / "a.wav", np.full(32_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    assert reason_of(tmp_path / "a.wav") == "non-finite samples"


def test_a_rate_that_changes_midway(tmp_path: Path) -> None:
    """Two AAC streams one after the other, at two rates: read at one, not played too fast."""
    for rate in (16_000, 32_000):
        encode(tmp_path / f"{rate}.aac", hum(2, rate), Format("aac", "adts", rate, options=NO_NOISE))
    (tmp_path / "a.aac").write_bytes(b"".join((tmp_path / f"{rate}.aac").read_bytes() for rate in (16_000, 32_000)))
    seconds, reason = delivered(stream(tmp_path / "a.aac", sample_rate=16_000))
    assert seconds == pytest.approx(4, abs=0.2)
    assert reason == "none"
    second = decode(tmp_path / "a.aac", sample_rate=16_000)[34_000:62_000]
    spectrum = np.abs(np.fft.rfft(second * np.hanning(len(second))))
    assert spectrum.argmax() / len(second) * 16_000 == pytest.approx(150, abs=2)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.m4a", Format("aac", "ipod", 44_100, options=NO_NOISE)),
        ("a.webm", Format("libopus", "webm", 48_000)),
        ("a.wma", Format("wmav2", "asf", 44_100, 2, bit_rate=96_000)),
    ],
)
def test_joined_files_that_no_player_reads_on_are_told(tmp_path: Path, name: str, kind: Format) -> None:
    """The first, or not all, is read, and a flaw says so; of one alone there is none."""
    encode(tmp_path / name, hum(2, kind.rate, kind.channels), kind)
    assert probe(tmp_path / name).flaw is None
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() * 3)
    assert "another recording begins" in str(probe(tmp_path / name).flaw)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.opus", "a.mp3"])
def test_a_part_of_what_was_joined(tmp_path: Path, name: str) -> None:
    """By its place in the whole, though the timestamps, and the header, know only of the first of three."""
    form = {"format": "OGG", "subtype": "OPUS"} if name == "a.opus" else {}
    for number in range(3):
        sf.write(tmp_path / f"{number}{name}", hum(4, 48_000) * (number + 1) / 3, 48_000, **form)
    (tmp_path / name).write_bytes(b"".join((tmp_path / f"{number}{name}").read_bytes() for number in range(3)))
    whole = decode(tmp_path / name, sample_rate=48_000)
    assert len(whole) / 48_000 == pytest.approx(12, abs=0.2)
    for start in (2, 5, 9):
        part = decode(tmp_path / name, sample_rate=48_000, offset_sec=start, duration_sec=1.5)
        np.testing.assert_allclose(part, whole[start * 48_000 : start * 48_000 + 72_000], atol=1e-6)


def test_channels_that_change_midway(tmp_path: Path) -> None:
    """Five, then one, then two: FFmpeg's queue would read past the end of the frames."""
    parts = []
    for channels in (2, 1, 6, 1, 2):
        encode(tmp_path / "a.aac", hum(1, 44_100, channels), Format("aac", "adts", 44_100, channels, options=NO_NOISE))
        parts.append((tmp_path / "a.aac").read_bytes())
    (tmp_path / "a.aac").write_bytes(b"".join(parts))
    found = decode(tmp_path / "a.aac", sample_rate=16_000)
    assert len(found) / 16_000 == pytest.approx(5, abs=0.3)
    assert 0.05 < found[:16_000].std() < 2 * found[16_000:32_000].std()


def in_another_process(code: str, *arguments: Path) -> str:
    """Run Python code where nothing is imported yet; returns all that it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout + done.stderr


def test_ffmpeg_is_silent_and_loaded_only_when_needed(every_format: Path, tmp_path: Path) -> None:
    """Nothing on the terminal about damaged files; a worker that reads WAV never waits for PyAV."""
    content = bytearray((every_format / "film.mp4").read_bytes())
    for at in range(100, len(content), 97):
        content[at] ^= 0x55
    (tmp_path / "a.mp4").write_bytes(content)
    code = (
        "import sys; from pathlib import Path; from runyoro_ssl.audio.decode import probe, AudioError\n"
        "probe(Path(sys.argv[1]))\n"
        "assert 'av' not in sys.modules\n"
        "try: probe(Path(sys.argv[2]))\n"
        "except AudioError: pass\n"
        "assert 'av' in sys.modules\n"
    )
    assert in_another_process(code, every_format / "pcm.wav", tmp_path / "a.mp4") == ""


PEAK = """
import re, sys
from pathlib import Path
import av
from runyoro_ssl.audio.decode import AudioError, probe, stream

def peak_mb():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

before, minutes = peak_mb(), {}
for path in map(Path, sys.argv[1:]):
    for use in (probe, lambda path: sum(len(block) for block in stream(path, sample_rate=16_000))):
        try: minutes[path.name] = use(path)
        except AudioError: pass
print(peak_mb() - before, minutes["bomb.flac"] // 960_000, minutes["bomb.mka"] // 960_000)
"""


# Not getrusage: a child begins with the peak of the process that started it.
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
def test_memory_is_bounded_whatever_unpacks(tmp_path: Path) -> None:
    """Two hours from a few kilobytes (460 MB as floats), through both libraries; headers that claim gigabytes."""
    silence = np.zeros((600 * 16_000, 1), np.float32)
    with sf.SoundFile(tmp_path / "bomb.flac", "w", 16_000, 1, "PCM_16") as file:
        for _ in range(12):
            file.write(silence)
    encode(tmp_path / "bomb.mka", np.repeat(silence, 3, axis=0), Format("flac", "matroska", 16_000))
    write_sndfile(tmp_path / "pcm.wav", 1)
    write_sndfile(tmp_path / "pcm.flac", 1)
    for name, tag, behind in (("pcm.wav", b"data", 4), ("pcm.wav", b"fmt ", 12), ("pcm.flac", b"fLaC", 22)):
        lie = bytearray((tmp_path / name).read_bytes())
        at = lie.index(tag) + behind
        lie[at : at + 4] = b"\xff\xff\xff\x7f"
        (tmp_path / f"lie{behind}.{name}").write_bytes(lie)
    added, *minutes = map(int, in_another_process(PEAK, *sorted(tmp_path.iterdir())).split())
    assert added < 60
    assert minutes == [120, 30]


MESSY_FAILURES = {
    "unreadable": (
        "corrupt_58759B.mp3 106-invalid-streaminfo.flac 106-short-picture-block-size.flac UTF16.mp3 "
        "chinese_id3.mp3 empty_custom_field.m4a ilbm.aiff invalid_file.aiff "
        "invalid_file.m4a invalid_file.ogg invalid_object_size.wma invalid_sample_rate.aiff "
        "zero_value_properties.opus zero_value_properties.spx"
    ),
    "empty file": (
        "zero_byte.mp3 empty_file.aiff empty_file.flac empty_file.m4a empty_file.mp3 empty_file.ogg empty_file.wma"
    ),
    "no samples": "test1_empty.wav flac_application.flac alac_file.m4a no_audio.aiff test2.wma",
    "truncated": "grouping.wma lossless.wma wma_invalid_track_number.wma",
}
"""By reason; the other files decode."""


def test_messy_recordings_one_by_one(messy: Path) -> None:
    """Real files: which decode, and why the others do not; wrong extensions are among those that do."""
    found = {}
    for path in sorted(path for path in messy.rglob("*") if path.is_file()):
        try:
            probe(path)
        except AudioError as error:
            found[path.name] = error.reason
    assert found == {name: reason for reason, names in MESSY_FAILURES.items() for name in names.split()}
    assert probe(messy / "pydub" / "wrong_extension.aac") == probe(messy / "pydub" / "format_test.m4a")


def test_other_tracks_are_told(tmp_path: Path) -> None:
    """A camera with two microphones: the first is read, and the flaw says that there is another."""
    path = tmp_path / "a.mka"
    with av.open(str(path), "w", format="matroska") as file:
        streams = [file.add_stream("pcm_s16le", rate=16_000) for _ in range(2)]
        for stream in streams:
            stream.layout = "mono"
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 32_000), np.int16), format="s16", layout="mono")
            frame.sample_rate = 16_000
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    assert probe(path).flaw == "bytes not read: 2 audio tracks, of which the first was read"
