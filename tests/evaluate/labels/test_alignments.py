"""Phone alignments: found by name, read from three formats, held against the recording, cut to clips."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from runyoro_ssl.audio.synth import Phone, write_corpus
from runyoro_ssl.dataset.read import load_splits
from runyoro_ssl.errors import EvaluationError
from runyoro_ssl.evaluate.labels.alignments import label_clips, read_alignments, read_file
from runyoro_ssl.evaluate.labels.frames import frame_labels
from runyoro_ssl.evaluate.labels.intervals import is_silence
from runyoro_ssl.evaluate.labels.places import Place, places_of, read_stretches

PHONES = [Phone("#h", 0.0, 0.1), Phone("a", 0.1, 0.25), Phone("ŋ", 0.25, 0.4), Phone("sp", 0.4, 2.0)]
Write = Callable[[Path, Sequence[Phone]], None]


def write_phn(path: Path, phones: Sequence[Phone], scale: float | None = None) -> None:
    """In seconds, or in samples at a rate."""
    times = [
        (one.start_sec, one.end_sec) if scale is None else (round(one.start_sec * scale), round(one.end_sec * scale))
        for one in phones
    ]
    lines = [f"{start} {end} {one.symbol}\n" for (start, end), one in zip(times, phones, strict=True)]
    path.write_text("".join(lines), encoding="utf-8")


def write_textgrid(path: Path, phones: Sequence[Phone], tier: str = "phones", form: str = "long_textgrid") -> None:
    """By praatio, with a tier of words beside."""
    from praatio import textgrid
    from praatio.utilities.constants import Interval

    rows = [Interval(one.start_sec, one.end_sec, one.symbol) for one in phones]
    grid = textgrid.Textgrid()
    grid.addTier(textgrid.IntervalTier("words", [Interval(0, phones[-1].end_sec, "aŋ")], 0, phones[-1].end_sec))
    grid.addTier(textgrid.IntervalTier(tier, rows, 0, phones[-1].end_sec))
    grid.save(str(path), form, includeBlankSpaces=True)


def write_elan(path: Path, phones: Sequence[Phone], tier: str = "phones") -> None:
    """By pympi."""
    from pympi.Elan import Eaf

    document = Eaf(author="test")
    document.add_tier(tier)
    for one in phones:
        document.add_annotation(tier, round(1000 * one.start_sec), round(1000 * one.end_sec), one.symbol)
    document.to_file(str(path))


def write_utf16(path: Path, phones: Sequence[Phone]) -> None:
    """As Praat saves what is not ASCII."""
    write_textgrid(path, phones, form="short_textgrid")
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-16")


def place(source: str = "audio/anna/one.wav", offset: float = 0.0, seconds: float = 2.0, **more: float) -> Place:
    """A clip of a recording of 2 s."""
    return Place(f"{source}@{offset:.3f}", source, offset, seconds, more.get("recording_sec", 2.0))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("one.phn", write_phn),
        ("one.PHN", lambda path, phones: write_phn(path, phones, 16_000)),
        ("one.phn", lambda path, phones: write_phn(path, phones, 44_100)),
        ("one.phn", lambda path, phones: write_phn(path, phones, 24_000)),
        ("one.phn", lambda path, phones: write_phn(path, phones, 1_000)),
        ("one.TextGrid", write_textgrid),
        ("one.TextGrid", write_utf16),
        ("one.textgrid", lambda path, phones: write_textgrid(path, phones, tier="anna - Phones")),
        ("one.eaf", write_elan),
    ],
)
def test_all_formats_say_the_same(tmp_path: Path, name: str, write: Write) -> None:
    """The phones of a clip in seconds from its start, without silences, and without what its edges cut."""
    write(tmp_path / name, PHONES)
    alignments = read_alignments(tmp_path)
    whole = alignments.phones(place())
    assert whole is not None
    assert [one.symbol for one in whole] == ["a", "ŋ"]
    assert [one.start_sec for one in whole] == pytest.approx([0.1, 0.25], abs=1e-4)
    assert [one.end_sec for one in whole] == pytest.approx([0.25, 0.4], abs=1e-4)
    (part,) = alignments.phones(place(offset=0.2, seconds=1.0)) or []
    assert part.symbol == "ŋ"
    assert part.start_sec == pytest.approx(0.05, abs=1e-4)


def test_a_synthetic_corpus_comes_back_through_its_dataset(corpus: Path, dataset: Path, tmp_path: Path) -> None:
    """What is written beside prepared recordings labels the frames of their clips."""
    known = write_corpus(tmp_path / "again", num_clips=24, num_voices=4, num_words=6, clip_sec=2.5)
    for name, phones in known.items():
        assert (corpus / name).exists()
        (tmp_path / "phn" / name).parent.mkdir(parents=True, exist_ok=True)
        write_phn((tmp_path / "phn" / name).with_suffix(".phn"), phones, 16_000)
    rows = load_splits(dataset, sampling_rate=16_000)["validation"].select_columns(["id", "source", "metadata"])
    places = places_of(list(rows), read_stretches(dataset, 16_000))
    found = label_clips(read_alignments(tmp_path / "phn"), places)
    assert found.left_out == {}
    for one, labelled in zip(places, found.phones, strict=True):
        (name,) = [name for name in known if one.source.endswith(name)]
        assert [phone.symbol for phone in labelled or ()] == [phone.symbol for phone in known[name]]
        assert one.offset_sec == 0
        assert one.recording_sec == pytest.approx(one.duration_sec, abs=0.001)


def test_files_are_found_by_folder_where_names_repeat(tmp_path: Path) -> None:
    """anna/one.wav has anna/one.phn, however the folders above are called; missing ones are counted."""
    for speaker in ("anna", "ben"):
        (tmp_path / speaker).mkdir()
        write_phn(tmp_path / speaker / "one.phn", [Phone(speaker[0], 0.0, 2.0)])
    alignments = read_alignments(tmp_path)
    places = [place("x/anna/one.wav"), place("C:\\x\\ben\\one.flac"), place("x/ben/two.wav")]
    found = label_clips(alignments, places)
    assert [phones and phones[0].symbol for phones in found.phones] == ["a", "b", None]
    assert found.left_out == {"no alignment of its recording": 1}
    with pytest.raises(EvaluationError, match=r"anna/one.phn and ben/one.phn may be that of one.wav"):
        alignments.find("one.wav")


def test_one_file_for_two_recordings_is_refused(tmp_path: Path) -> None:
    """one.phn cannot be that of anna/one.wav and of ben/one.wav."""
    write_phn(tmp_path / "one.phn", PHONES)
    with pytest.raises(EvaluationError, match=r"of anna/one\.wav and of ben/one\.wav"):
        label_clips(read_alignments(tmp_path), [place("anna/one.wav"), place("ben/one.wav")])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("one.phn", b"", "no label in it"),
        ("one.phn", b"0 0.1\n0.1 x a\n", 'line 2: "0.1 x a" is not "start end label"'),
        ("one.phn", b"0 0.1 a\n0.05 2 b\n", '"a" from 0 to 0.1 and "b" from 0.05 to 2 overlap'),
        ("one.phn", b"-0.2 0.1 a\n0.1 2 b\n", "begins before 0"),
        ("one.phn", b"0.3 0.1 a\n0.4 2 b\n", "ends before it begins"),
        ("one.phn", b"0 0.1 a\n0.1 3.2 b\n", "ends at 3.2 s, but audio/anna/one.wav at 2.00 s"),
        ("one.phn", b"0 0.1 a\n0.1 1.2 b\n", "ends at 1.2 s"),
        ("one.phn", b"0 8000 a\n8000 999999 b\n", "ends at 999999 samples or seconds"),
        ("one.phn", b"0 0.1 \xe9\xe8\n0.1 2 b\n", "not UTF-8 at byte 6"),
        ("one.TextGrid", b"", "not a TextGrid"),
        ("one.TextGrid", b"\xff\xd8\xff\xe0 no text", "not UTF-8 at byte 0"),
        ("one.eaf", b"<html>", "not an ELAN document"),
    ],
)
def test_bad_files_are_said_in_one_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    """What, where, the value seen, and what to do."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EvaluationError) as caught:
        label_clips(read_alignments(tmp_path), [place()])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_a_textgrid_is_of_its_recording_and_a_part_of_one_may_be_longer(tmp_path: Path) -> None:
    """It states its length. Where the manifest has parts of a recording only, its end is not known."""
    write_textgrid(tmp_path / "one.TextGrid", [*PHONES[:3], Phone("a", 5.0, 6.0)])
    with pytest.raises(EvaluationError, match="ends at 6 s, but"):
        read_alignments(tmp_path).phones(place())
    part = Place("x", "one.wav", 0.1, 0.5, recording_sec=2.0, ends_there=False)
    assert len(read_alignments(tmp_path).phones(part) or ()) == 2


def test_elan_may_stop_early(tmp_path: Path) -> None:
    """Linguists annotate the beginning of a recording: what is behind has no labels."""
    write_elan(tmp_path / "one.eaf", PHONES[:3])
    assert len(read_alignments(tmp_path).phones(place(recording_sec=3600.0)) or ()) == 2


def test_milliseconds_may_be_rounded(tmp_path: Path) -> None:
    """To a tenth, so that they seem to overlap: what is told from seconds is told before that is judged."""
    (tmp_path / "one.phn").write_text("0.0 959.9 a\n959.5 2000.0 b\n")
    assert read_alignments(tmp_path).phones(place()) == [Phone("a", 0.0, 0.9599), Phone("b", 0.9595, 2.0)]
    (tmp_path / "one.phn").write_text("0.0 959.9 a\n950.0 2000.0 b\n")
    with pytest.raises(EvaluationError, match='"b" from 950 to 2000 overlap'):
        read_alignments(tmp_path).phones(place())


def test_which_tier_was_read_is_known(tmp_path: Path) -> None:
    """Of each file that was; what has no tiers counts for none."""
    write_textgrid(tmp_path / "one.TextGrid", PHONES, tier="anna - Phones")
    write_phn(tmp_path / "two.phn", PHONES)
    alignments = read_alignments(tmp_path)
    label_clips(alignments, [place("one.wav"), place("two.wav")])
    assert alignments.tiers == {"anna - Phones": 1}


def test_the_tier_is_asked_for_where_it_is_not_clear(tmp_path: Path) -> None:
    """With the names of those that there are."""
    write_textgrid(tmp_path / "one.TextGrid", PHONES, tier="sounds")
    with pytest.raises(EvaluationError, match=r'no tier named "phones", .*; it has "words", "sounds"; name .* --tier'):
        read_file(tmp_path / "one.TextGrid")
    assert len(read_file(tmp_path / "one.TextGrid", "sounds").rows) == 4
    write_elan(tmp_path / "one.eaf", PHONES)
    with pytest.raises(EvaluationError, match=r'no tier "tones" \(--tier\); it has "default", "phones"'):
        read_file(tmp_path / "one.eaf", "tones")


def test_folders_without_alignments_are_said(tmp_path: Path) -> None:
    """No folder, nothing in it, or nothing of these recordings."""
    with pytest.raises(EvaluationError, match="no such folder"):
        read_alignments(tmp_path / "none")
    with pytest.raises(EvaluationError, match="no alignment in it"):
        read_alignments(tmp_path)
    write_phn(tmp_path / "two.phn", PHONES)
    with pytest.raises(EvaluationError, match=r"none of 1 alignments, such as two.phn, .* such as one.wav; name them"):
        label_clips(read_alignments(tmp_path), [place()])


def test_silences_are_no_phones() -> None:
    """Nor are pauses, noises and remarks; a phone in IPA or SAMPA is."""
    assert all(
        map(is_silence, ["", " ", "sil", "SIL", "sp", "spn", "pau", "#h", "h#", "<p>", "<p:>", "[noise]", "(..)"])
    )
    assert not any(map(is_silence, ["s", "p", "ŋ", "n_j", "a:", "\u0294", "q", "@", "<"]))


def test_a_frame_has_the_phone_at_its_centre() -> None:
    """Frame i has its centre at 20 i + 12.5 ms; the end of a phone is the start of the next."""
    phones = [Phone("a", 0.0125, 0.0525), Phone("b", 0.0525, 0.06)]
    assert frame_labels(phones, 4) == ["a", "a", "b", None]
    assert frame_labels([Phone("a", 0.0, 9.0)], 2) == ["a", "a"]
    assert frame_labels(None, 2) == [None, None]


def test_places_come_from_the_dataset(dataset: Path) -> None:
    """Each clip's metadata say where it lies; a gap in what the manifest has says that a recording goes on."""
    stretches = read_stretches(dataset, 16_000)
    source = next(iter(stretches))
    row = {"id": "x", "source": source, "metadata": json.dumps({"offset": 0.5, "duration": 1.0, "sample_rate": 48_000})}
    (found,) = places_of([row], {source: [stretches[source][0]]})
    assert (found.offset_sec, found.sample_rate, found.ends_there) == (0.5, 48_000, True)
    assert found.recording_sec == stretches[source][0].end_sec
    assert not places_of([row], {})[0].ends_there
    with pytest.raises(EvaluationError, match="does not say where it lies"):
        places_of([{**row, "metadata": "{}"}], {})
