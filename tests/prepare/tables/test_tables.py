"""Metadata tables as corpora have them: joined to their folder, and what is left over on either side is named."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl.commands.manifest import manifest
from runyoro_ssl.errors import ConfigError, ManifestError, RunyoroError
from runyoro_ssl.prepare.manifest import read_manifest
from runyoro_ssl.prepare.scan import scan
from runyoro_ssl.prepare.tables.join import Columns
from runyoro_ssl.resolve import load_config
from support.preparation import read_lines

NFC = unicodedata.normalize("NFC", "Joséphine Ngũgĩ")
NFD = unicodedata.normalize("NFD", NFC)
HEADER = "client_id\tpath\tsentence_id\tsentence\tup_votes\tlocale\n"
ONE_WORKER = load_config(settings=["hardware.num_workers=1"])
Joined = dict[str, dict[str, Any]]


class Corpus:
    """A folder of recordings, and a table beside or in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.audio = folder / "audio"
        self.output = folder / "m.jsonl"
        self.audio.mkdir()

    def record(self, *names: str, seconds: float = 0.5) -> None:
        """Write recordings."""
        for name in names:
            path = self.audio / name
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, np.zeros(round(seconds * 8_000)), 8_000)

    def join(self, content: str | bytes, /, *, name: str = "table.tsv", **columns: str) -> Joined:
        """The lines of the manifest of a table, by recording."""
        table = self.folder / name
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_bytes(content if isinstance(content, bytes) else content.encode())
        return self.join_table(table, **columns)

    def join_table(self, table: Path, **columns: str) -> Joined:
        """The same of a table that is there."""
        scan(self.audio, self.output, table=table, columns=Columns(**columns), overwrite=True, config=ONE_WORKER)
        return {line["recording"]: line for line in read_lines(self.output)}

    def left_over(self) -> dict[str, tuple[str, str]]:
        """What is named in the rejected list: reason and detail."""
        lines = read_lines(self.folder / "m.rejected.jsonl")
        return {line["audio_filepath"]: (line["reason"], line["detail"]) for line in lines}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """An empty one."""
    return Corpus(tmp_path)


def test_common_voice(corpus: Corpus, run_task: Callable[[str], tuple[int, str, str]]) -> None:
    """validated.tsv beside clips/: quotation marks of all kinds, a clip without a row, a row without a clip."""
    corpus.record(*(f"common_voice_nyo_{n}.mp3" for n in range(5)))
    sentences = ['Omu "kabaka" asaba, ego', '"Ego', 'Nyowe"', '"Webale" ""muno""']
    rows = [f"speaker{n % 2}\tcommon_voice_nyo_{n}.mp3\ts{n}\t{text}\t2\tnyo\n" for n, text in enumerate(sentences)]
    rows.append("speaker9\tcommon_voice_nyo_77.mp3\ts9\tEgo\t2\tnyo\n")
    (corpus.folder / "validated.tsv").write_text(HEADER + "".join(rows))
    status, out, stderr = run_task(
        f"manifest --audio-dir {corpus.audio} --output {corpus.output} --table {corpus.folder / 'validated.tsv'} "
        "--path-column path --speaker-column client_id --text-column sentence --language-column locale "
        "--licence CC0-1.0"
    )
    assert status == 0, stderr
    lines = read_lines(corpus.output)
    assert [line["text"] for line in lines] == sentences
    assert [line["speaker"] for line in lines] == ["speaker0", "speaker1"] * 2
    assert {(line["language"], line["licence"]) for line in lines} == {("nyo", "CC0-1.0")}
    assert corpus.left_over() == {
        "common_voice_nyo_4.mp3": ("not in the table", ""),
        "common_voice_nyo_77.mp3": ("row without a file", "line 6"),
    }
    for row in ("rejected: not in the table", "rejected: row without a file"):
        assert row in out


def test_ljspeech(corpus: Corpus) -> None:
    """metadata.csv: bars, no header, no extension, quotation marks and commas that are only text; in the folder."""
    corpus.record(*(f"wavs/LJ001-000{n}.wav" for n in range(3)))
    text = "".join(f'LJ001-000{n}|The "Hours", {n}, and|the "hours", {n}, and\n' for n in range(3))
    lines = corpus.join(text, name="audio/metadata.csv", path="1", text="3")
    assert list(lines) == [f"wavs/LJ001-000{n}.wav" for n in range(3)]
    assert lines["wavs/LJ001-0002.wav"]["text"] == 'the "hours", 2, and'
    assert corpus.left_over() == {"metadata.csv": ("not audio", "text")}


def test_kaldi(corpus: Corpus) -> None:
    """A data folder: segments of recordings; a command is not run, and its file is taken."""
    corpus.record("a.wav", "b.wav", seconds=4)
    files = {
        "wav.scp": "recA sph2pipe -f wav /export/corpora/a.wav |\nrecB audio/b.wav\nrecC cat x | sox - - |\n",
        "segments": "u1 recA 0.0 1.5\nu2 recA 1.5 4.0\nu3 recB 1 2.25\nu4 recB 3 9\nu5 recC 0 1\n",
        "utt2spk": "u1 Akiiki\nu2 Amooti\nu3 Akiiki\nu4 Akiiki\nu5 Akiiki\n",
        "text": "u1 omu kabaka\nu3 ego\n",
    }
    (corpus.folder / "data").mkdir()
    for name, text in files.items():
        (corpus.folder / "data" / name).write_text(text)
    corpus.join_table(corpus.folder / "data")
    lines = read_lines(corpus.output)
    parts = [(line["recording"], line["speaker"], line["offset"], line["duration"]) for line in lines]
    assert parts == [("recA", "Akiiki", 0.0, 1.5), ("recA", "Amooti", 1.5, 2.5), ("recB", "Akiiki", 1.0, 1.25)]
    assert lines[0]["text"] == "omu kabaka"
    left = corpus.left_over()
    assert left["b.wav"] == ("shorter than stated", 'utterance "u4" has 3 to 9 s, the file 4.00 s')
    assert left["cat x | sox - - |"][1] == 'utterance "u5": a command, which is not run: cat x | sox - - |'


def test_kaldi_as_plain_tables(corpus: Corpus) -> None:
    """wav.scp and segments are tables without a header, of blanks."""
    corpus.record("a b.wav", "c.wav")
    lines = corpus.join("rec1 a b.wav\nrec2 cat c.wav |\n", name="wav.scp", path="2", recording="1")
    assert list(lines) == ["rec1", "rec2"]
    lines = corpus.join("u1 c 0 0.25\nu2 c 0.25 0.5\n", name="segments", path="2", start="3", end="4")
    assert [line["offset"] for line in read_lines(corpus.output)] == [0.0, 0.25]
    assert len(read_manifest(corpus.output)) == 2


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_delimiter_and_encoding_are_told_by_content(corpus: Corpus, delimiter: str, encoding: str) -> None:
    """Also with quoted cells that hold delimiters and line ends, and Windows' line ends."""
    corpus.record("1.wav", "2.wav")
    rows = [["file", "speaker", "text"], ["1.wav", "André", '"a, b; c| d\t\r\n""e"""'], ["2.wav", "Zoë", '"f"']]
    text = "\r\n".join(delimiter.join(row) for row in rows) + "\r\n\r\n"
    lines = corpus.join(text.encode(encoding), path="file", speaker="speaker", text="text")
    assert [line["speaker"] for line in lines.values()] == ["André", "Zoë"]
    assert lines["1.wav"]["text"] == 'a, b; c| d\t\n"e"'
    assert lines["2.wav"]["text"] == "f"


@pytest.mark.parametrize(
    ("cell", "file"),
    [
        ("x/a.wav", "x/a.wav"),
        ("./x/a.wav", "x/a.wav"),
        ("audio/x/a.wav", "x/a.wav"),
        ("../audio/x/a.wav", "x/a.wav"),
        ("a.wav", "x/a.wav"),
        ("a", "x/a.wav"),
        ("x/a", "x/a.wav"),
        ("A.WAV", "x/a.wav"),
        ("X\\A.wav", "x/a.wav"),
        ("a.mp3", "x/a.wav"),
        ("D:\\corpus\\x\\a.wav", "x/a.wav"),
        ("/mnt/other/machine/x/a.wav", "x/a.wav"),
        ("file:///mnt/other/x/a.wav", "x/a.wav"),
        (f"{NFD}/b c.flac", f"{NFC}/b c.flac"),
        (f"{NFC}.wav", f"{NFD}.wav"),
        (f"{NFC.upper()}", f"{NFD}.wav"),
        ("a.b", "a.b.wav"),
        ("LOUD", "LOUD.WAV"),
        ("{audio}/x/a.wav", "x/a.wav"),
    ],
)
def test_cells_find_their_files(corpus: Corpus, cell: str, file: str) -> None:
    """Relative to the folder, to the table, absolute here or elsewhere; bare; in other letters and forms."""
    corpus.record(file, "other.wav", "y/other.wav")
    (corpus.audio / file).with_suffix(".txt").touch()
    lines = corpus.join(f"path\n{cell.replace('{audio}', str(corpus.audio))}\nother.wav\n", path="path")
    assert unicodedata.normalize("NFC", file) in lines
    assert len(lines) == 2


@pytest.mark.parametrize("cell", ["b/1.wav", "train/1.wav", "1.wav2", "/elsewhere/b/1.wav", "a/1/1.wav"])
def test_cells_find_no_other_files(corpus: Corpus, cell: str) -> None:
    """A file of that name in another folder is another file: no voice gets another's name."""
    corpus.record("a/1.wav", "ok.wav")
    lines = corpus.join(f"path\tspeaker\n{cell}\tAkiiki\nok.wav\tAmooti\n", path="path", speaker="speaker")
    assert list(lines) == ["ok.wav"]
    assert corpus.left_over()[cell] == ("row without a file", "line 2")
    assert corpus.left_over()["a/1.wav"] == ("not in the table", "")


def test_bare_names_of_several_files_are_named(corpus: Corpus) -> None:
    """None of them is guessed; one at that very path is meant; a path tells them apart."""
    corpus.record("a/1.wav", "b/1.wav", "b/2.wav", "2.wav", "3.wav", "3.flac")
    lines = corpus.join("path\n1.wav\nb/1.wav\n2.wav\n3\n", path="path")
    assert list(lines) == ["2.wav", "b/1.wav"]
    assert corpus.left_over()["1.wav"] == ("ambiguous row", "line 2: 2 files are called so: a/1.wav, b/1.wav")
    assert corpus.left_over()["3"][0] == "ambiguous row"


def test_two_rows_for_one_file(corpus: Corpus) -> None:
    """The first is used; the second is named, with what it says otherwise."""
    corpus.record("1.wav", "2.wav")
    text = "path,speaker\n1.wav,Akiiki\n1.wav,Amooti\n2.wav,Amooti\n./2.wav,Amooti\n"
    lines = corpus.join(text, path="path", speaker="speaker")
    assert [line["speaker"] for line in lines.values()] == ["Akiiki", "Amooti"]
    assert corpus.left_over() == {
        "1.wav": ("repeated row", 'line 3: line 2 has the same, and was used: speaker "Akiiki", not "Amooti"'),
        "./2.wav": ("repeated row", "line 5: line 4 has the same, and was used"),
    }


def test_parts_of_files(corpus: Corpus) -> None:
    """Seconds or h:m:s, points or commas; to the end where none is given; what cannot be is named."""
    corpus.record("1.wav", seconds=10)
    text = (
        "path;from;to\n1.wav;0:00:01,5;0:00:04\n1.wav;8;\n1.wav;5;5\n1.wav;abc;6\n1.wav;;2\n1.wav;11;12\n1.wav;-1;1\n"
    )
    corpus.join(text, path="path", start="from", end="to")
    parts = [(line["offset"], line["duration"]) for line in read_lines(corpus.output)]
    assert parts == [(0.0, 2.0), (1.5, 2.5), (8.0, 2.0)]
    reasons = Counter(line["reason"] for line in read_lines(corpus.folder / "m.rejected.jsonl"))
    assert reasons == {"wrong row": 3, "shorter than stated": 1}


def test_rows_that_cannot_be_used_cost_themselves(corpus: Corpus) -> None:
    """A short row, an empty path, a path of 10,000 letters."""
    corpus.record("1.wav")
    long = "x" * 10_000
    lines = corpus.join(f"speaker\tpath\nAkiiki\nAkiiki\t\nAkiiki\t{long}\n\t1.wav\n", path="path", speaker="speaker")
    assert list(lines) == ["1.wav"]
    assert "speaker" not in lines["1.wav"]
    details = [line["detail"] for line in read_lines(corpus.folder / "m.rejected.jsonl")]
    assert details == ["line 2: no path in it", "line 3: no path in it", "line 4"]


def test_speaker_from_fills_what_the_table_leaves_open(corpus: Corpus) -> None:
    """Where a cell is empty; numbers are text, names are in one form, a licence of the row comes first."""
    corpus.record(f"{NFD}/1.wav", "7/2.wav")
    text = "path,who,licence\n1.wav,,\n2.wav,12,CC-BY-4.0\n"
    (corpus.folder / "t.csv").write_text(text)
    scan(
        corpus.audio,
        corpus.output,
        table=corpus.folder / "t.csv",
        columns=Columns(path="path", speaker="who", licence="licence"),
        licence="CC0-1.0",
        speaker_from="^([^/]+)/",
    )
    lines = {line["audio_filepath"][-5:]: line for line in read_lines(corpus.output)}
    assert (lines["1.wav"]["speaker"], lines["1.wav"]["licence"]) == (NFC, "CC0-1.0")
    assert (lines["2.wav"]["speaker"], lines["2.wav"]["licence"]) == ("12", "CC-BY-4.0")


def test_max_hours(corpus: Corpus) -> None:
    """Evenly over the speakers of the table, whole recordings, of files or of parts; the others are named."""
    corpus.record(*(f"{n}.wav" for n in range(20)))
    rows = "".join(f"{n}.wav,{'Akiiki' if n < 14 else 'Amooti'},rec{n // 2}\n" for n in range(18))
    (corpus.folder / "t.csv").write_text(f"path,who,recording\n{rows}")
    config = load_config(settings=["prepare.max_hours=0.0012"])
    found = scan(
        corpus.audio,
        corpus.output,
        table=corpus.folder / "t.csv",
        columns=Columns(path="path", speaker="who", recording="recording"),
        config=config,
    )
    lines = read_lines(corpus.output)
    assert Counter(line["speaker"] for line in lines) == {"Akiiki": 4, "Amooti": 4}
    assert set(Counter(line["recording"] for line in lines).values()) == {2}
    assert found.rejected_by_reason == {"not drawn": 10, "not in the table": 2}


def test_from_a_notebook(corpus: Corpus) -> None:
    """Columns are keywords; a number is one."""
    corpus.record("1.wav")
    (corpus.folder / "t.txt").write_text("Akiiki 1.wav\n")
    found = manifest(
        audio_dir=corpus.audio, output=corpus.output, table=corpus.folder / "t.txt", path_column=2, speaker_column=1
    )
    assert (found.num_files, found.num_speakers) == (1, 1)


WRONG: list[tuple[str | bytes, dict[str, str], type[RunyoroError], str]] = [
    (
        HEADER + "a\t1.wav\n",
        {"path": "pth"},
        ConfigError,
        r'no column "pth" \(did you mean "path"\?\); there are: client',
    ),
    (HEADER + "a\t1.wav\n", {"path": "path", "speaker": "9"}, ConfigError, 'no column "9"; there are: client_id, path'),
    ("a b\n", {"path": "9"}, ConfigError, 'no column "9"; there are: 1, 2'),
    ("a b\n", {"path": "0"}, ConfigError, 'no column "0"; there are: 1'),
    (
        HEADER + "a\t1.wav\n",
        {},
        ConfigError,
        "which column has the path.*give --path-column; there are: client_id, path",
    ),
    (HEADER + "a\t7.wav\n", {"path": "path"}, ManifestError, 'none of 1 rows .* says "7.wav", a recording is "1.wav"'),
    (
        HEADER + "a\t1.wav\n",
        {"path": "path", "end": "client_id"},
        ManifestError,
        'none of 1 rows can be used .*"a" is no time',
    ),
    (HEADER, {"path": "path"}, ManifestError, "a header and no row"),
    ("", {"path": "path"}, ManifestError, "the table is empty"),
    (
        b"PK\x03\x04" + bytes(90),
        {"path": "path"},
        ConfigError,
        "is an archive or Office document, no table.*saved as CSV",
    ),
    (b"ID3\x04" + bytes(90), {"path": "path"}, ConfigError, "is a recording, no table"),
    (b"path\n\x81\xff.wav\n", {"path": "path"}, ManifestError, "not UTF-8 at byte 5"),
    (b"\xff\xfep\0a\0\0", {"path": "path"}, ManifestError, "not UTF-16 at byte"),
    ('path\tx\n1.wav\t"' + 300_000 * "a", {"path": "pth"}, ConfigError, 'no column "pth"'),
]


@pytest.mark.parametrize(("text", "columns", "kind", "complaint"), WRONG, ids=range(len(WRONG)))
def test_wrong_tables(
    corpus: Corpus, text: str | bytes, columns: dict[str, str], kind: type[RunyoroError], complaint: str
) -> None:
    """One line that says what there is; nothing is written."""
    corpus.record("1.wav")
    with pytest.raises(kind, match=complaint) as caught:
        corpus.join(text, **columns)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500 + 2 * len(str(corpus.folder))
    assert not corpus.output.exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--table {here}/nowhere.tsv --path-column path", "nowhere.tsv: no such table"),
        ("--table {here} --path-column path", "is a folder, and no data folder of Kaldi"),
        ("--speaker-column client_id", "--speaker-column is client_id, and there is no table"),
        ("--table", "--table needs a value"),
        ("--tabel x", "did you mean"),
        ("--table /dev/null --path-column path", "the table is empty"),
    ],
)
def test_wrong_options(
    corpus: Corpus, run_task: Callable[[str], tuple[int, str, str]], options: str, complaint: str
) -> None:
    """One line, status 1, nothing written."""
    corpus.record("1.wav")
    command = f"manifest --audio-dir {corpus.audio} --output {corpus.output} {options.format(here=corpus.folder)}"
    status, _, stderr = run_task(command)
    assert status == 1
    assert complaint in stderr
    assert not corpus.output.exists()


def test_kaldi_folders_that_are_wrong(corpus: Corpus) -> None:
    """A segment of no recording; a script that is empty, or no text."""
    corpus.record("1.wav")
    for name, content, complaint in (
        ("segments", b"u1 recX 0 1\n", 'segments: "u1" is of "recX", which is not in wav.scp'),
        ("segments", b"\n", 'row without a file|wrong row|says "x.wav"'),
        ("wav.scp", b"\n", "the table is empty"),
        ("wav.scp", b"\xff", "not UTF-8"),
    ):
        (corpus.folder / "wav.scp").write_bytes(b"rec1 x.wav\n")
        (corpus.folder / name).write_bytes(content)
        with pytest.raises(ManifestError, match=complaint):
            corpus.join_table(corpus.folder)
        (corpus.folder / "segments").unlink(missing_ok=True)


def test_a_device_is_refused_and_never_read(tmp_path: Path) -> None:
    """/dev/zero as a table fills the memory, and never ends."""
    corpus = Corpus(tmp_path)
    corpus.record("a.wav")
    with pytest.raises(ManifestError, match="/dev/zero is a device"):
        corpus.join_table(Path("/dev/zero"), path="path")
    with pytest.raises(ManifestError, match="/dev/zero is a device"):
        read_manifest(Path("/dev/zero"))
