"""`invoke donors`, from prepared datasets to one that `train` takes."""

from __future__ import annotations

import html
import json
import shlex
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import numpy as np
import pytest

from conftest import TINY, build_tiny_model, short_run, transformers
from runyoro_ssl import donors
from runyoro_ssl.commands.donors import show
from runyoro_ssl.commands.given import resolve
from runyoro_ssl.config.source import roles
from runyoro_ssl.dataset.content import checksum
from runyoro_ssl.dataset.layout import CHECKSUM, FINGERPRINT, TRAIN, VALIDATION
from runyoro_ssl.dataset.read import Clips, load_splits
from runyoro_ssl.donors import hearing
from runyoro_ssl.donors.found import Donors
from runyoro_ssl.donors.write import DONORS, SIMILARITIES
from runyoro_ssl.errors import ConfigError, DonorsError, RunyoroError
from runyoro_ssl.evaluate.heard.clips import choose_clips
from runyoro_ssl.page.render import is_page
from support.datasets_by_hand import train_file
from support.pools import WRITE_PAGE, prepared, row, synthetic, without_sound
from support.trainer import run

RunTask = Callable[[str], tuple[int, str, str]]


@pytest.fixture(scope="module")
def place(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic speech of three lexicons: a target, and two pools."""
    folder = tmp_path_factory.mktemp("donors")
    for seed, name in enumerate(("target", "ruby", "opal")):
        synthetic(folder / name, tiny_model, name, seed=seed)
    return folder


@pytest.fixture(scope="module")
def find(place: Path, tiny_model: Path) -> Iterator[Callable[..., Donors]]:
    """A function (output folder, options) -> donors of that place: of a minute, 20 units."""

    def call(output: Path, **options: Any) -> Donors:
        usual: dict[str, Any] = {
            "target": place / "target",
            "pool": [place / "ruby", place / "opal"],
            "hours": 0.02,
            "max_speaker_share": 0.2,
            "num_units": 20,
            "model_name_or_path": tiny_model,
            "profile": "cpu-smoke",
            "cache_dir": place / "cache",
            "output_dir": output,
        }
        return donors(**{**usual, **options})

    with without_sound():
        yield call


@pytest.fixture(scope="module")
def taken(find: Callable[..., Donors], tmp_path_factory: pytest.TempPathFactory) -> Donors:
    """Donors, for tests that change nothing of them."""
    return find(tmp_path_factory.mktemp("taken") / "set")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """All clips of a dataset, with their split."""
    splits = datasets.load_from_disk(str(folder))
    return [{**one, "split": name} for name, split in splits.items() for one in split]


def test_it_is_a_dataset_of_the_pools_own_clips(taken: Donors, place: Path) -> None:
    """Loaded with its checksums; each clip is one of a pool's training split, to the sample, with all its columns."""
    splits = load_splits(taken.output_dir, sampling_rate=16_000)
    assert sum(len(Clips(split)) for split in splits.values()) == taken.clips_chosen
    theirs = {
        (name, one["id"]): one for name in ("ruby", "opal") for one in datasets.load_from_disk(str(place / name))[TRAIN]
    }
    rows = rows_of(taken.output_dir)
    for one in rows:
        split, own = one.pop("split"), theirs[one["language"], one["id"]]
        assert split in (TRAIN, VALIDATION)
        assert one == own
        assert one[CHECKSUM] == checksum(np.array(one["audio"], np.int16))
    assert len({(one["language"], one["id"]) for one in rows}) == taken.clips_chosen


def test_it_ends_with_a_run_on_both(taken: Donors, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command that it prints, as it stands: a run on the target, where that is, and on what was written."""
    show(taken, {"target": place / "target"})
    said = capsys.readouterr()
    (line,) = [line for line in (said.out + said.err).splitlines() if "train.sources" in line]
    words = shlex.split(line)
    train = resolve("train", {"set": [words[words.index("--set") + 1]], "profile": "cpu-smoke"}).train
    assert [source.path for source in train.sources] == [place / "target", taken.output_dir]
    assert roles(train.sources) == ["target", "donor"]


def test_no_speaker_is_in_both_splits(taken: Donors) -> None:
    """As `prepare` holds out; each gives no more than asked, but for a clip that is longer."""
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    sides = defaultdict(set)
    for one in rows_of(taken.output_dir):
        seconds[one["language"], one["speaker"]] += one["num_samples"] / 16_000
        sides[one["split"]].add(one["speaker"])
    assert not sides[TRAIN] & sides[VALIDATION]
    assert max(seconds.values()) <= 0.2 * 72
    assert 72 <= sum(seconds.values()) < 72 + 5


def test_the_nearest_clips_are_taken(taken: Donors) -> None:
    """By what is written of each: what was left is farther than the last taken, or its speaker has given enough."""
    lines = [json.loads(line) for line in (taken.output_dir / SIMILARITIES).read_text().splitlines()]
    given: dict[tuple[str, str], float] = defaultdict(float)
    for line in lines:
        given[line["pool"], line["speaker"]] += line["seconds"] * line["chosen"]
    last = min(line["similarity"] for line in lines if line["chosen"])
    nearer = [line for line in lines if not line["chosen"] and line["similarity"] > last]
    assert nearer
    assert all(given[line["pool"], line["speaker"]] + line["seconds"] > 14.4 for line in nearer)
    assert sum(line["chosen"] for line in lines) == taken.clips_chosen


def test_the_same_again_is_the_same(
    taken: Donors, find: Callable[..., Donors], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, and from what is kept: no clip is heard twice, in whatever dataset it is. Another seed: others."""
    other_seed = find(tmp_path / "seed", seed=1)
    monkeypatch.setattr(hearing, "standardised", None)
    again = find(tmp_path / "again")

    def content(found: Donors) -> str:
        return str(json.loads((found.output_dir / FINGERPRINT).read_text())["content_sha256"])

    assert content(again) == content(taken)
    assert content(again) != content(other_seed)
    assert again.languages == taken.languages
    names = {path.relative_to(again.output_dir) for path in again.output_dir.rglob("*") if path.is_file()}
    assert names == {path.relative_to(taken.output_dir) for path in taken.output_dir.rglob("*") if path.is_file()}
    pages = [found.output_dir / "donors.html" for found in (again, taken)]
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_what_was_heard_outlives_an_interruption(
    find: Callable[..., Donors], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on from there; and what a disk has damaged is heard again, and nothing else."""
    monkeypatch.setattr(hearing, "BLOCK_CLIPS", 4)
    heard: list[int] = []
    plain, limit = hearing.standardised, 30

    def hear(*given: Any) -> np.ndarray:
        if len(heard) >= limit:
            raise KeyboardInterrupt
        heard.append(1)
        return plain(*given)

    monkeypatch.setattr(hearing, "standardised", hear)
    cache = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        find(tmp_path / "set", cache_dir=cache)
    assert not (tmp_path / "set").exists()
    assert list(tmp_path.iterdir()) == [cache]
    limit = 10_000
    find(tmp_path / "set", cache_dir=cache)
    num_clips = {name: len(datasets.load_from_disk(str(place / name))[TRAIN]) for name in ("target", "ruby", "opal")}
    once = sum(num_clips.values()) + num_clips["target"] // 2  # the half that units are found on is heard twice
    assert once <= len(heard) <= once + 5
    files = sorted(cache.rglob("*.npz"))
    files[0].write_bytes(files[0].read_bytes()[:-40])
    files[1].write_bytes(b"")
    heard.clear()
    find(tmp_path / "again", cache_dir=cache)
    assert 2 <= len(heard) <= 8


def test_train_takes_it_and_evaluate_knows_it(
    taken: Donors, place: Path, tiny_model: Path, tmp_path: Path, train_config: object
) -> None:
    """Clips that a run learned from as donors are refused as held-out ones."""
    assert train_config
    trained = run(short_run(taken.output_dir, tiny_model, tmp_path / "run", "train.max_steps=1", "train.save_steps=1"))
    rows = datasets.load_from_disk(str(taken.output_dir))[TRAIN]
    speakers = {name: {one["speaker"] for one in rows if one["language"] == name} for name in ("ruby", "opal")}
    name = max(speakers, key=lambda one: len(speakers[one]))  # whichever of its speakers is held out, was learned from
    lines = [json.loads(line) for line in (place / f"{name}.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["speaker"] in speakers[name]]
    other = prepared(lines, tmp_path / "other", tiny_model)
    learned = {(one["num_samples"], one[CHECKSUM]) for one in rows}
    held_out = {(one["num_samples"], one[CHECKSUM]) for one in datasets.load_from_disk(str(other))[VALIDATION]}
    assert learned & held_out
    heard = choose_clips(other, sampling_rate=16_000, max_seconds=60, models=[trained.output_dir])
    assert heard.refused == len(learned & held_out)
    assert not heard.samples & learned


def test_more_than_there_is(find: Callable[..., Donors], place: Path, tmp_path: Path) -> None:
    """All is taken, and it is said what there is; what a bound leaves is said, too."""
    found = find(tmp_path / "all", hours=1)
    assert found.hours_chosen == pytest.approx(found.hours_there)
    (said,) = [one for one in found.warnings if one.startswith("--hours")]
    assert f"the pools have {found.hours_there:.2f} h" in said
    found = find(tmp_path / "bound", hours=0.02, max_speaker_share=0.1)
    assert found.hours_chosen < 0.02 < found.hours_there
    assert any("one speaker, or recording, gives 10%" in one for one in found.warnings)
    assert place.is_dir()


def test_pages_show_what_was_found(find: Callable[..., Donors], tmp_path: Path) -> None:
    """Each language, its numbers, speakers, warnings; clips to hear; nothing that leads elsewhere, and no path."""
    with mock.patch("runyoro_ssl.donors.write.write_page", WRITE_PAGE):
        found = find(tmp_path / "set")
    page = (found.output_dir / "donors.html").read_text()
    for one in found.languages:
        assert one.name in page
        assert f"{one.similarity:.2f}" in page
    assert all(html.escape(speaker.name) in page for speaker in found.speakers)
    assert "Take a base" not in page
    assert "how near others are cannot be told" in page
    assert str(tmp_path) not in page
    assert is_page(found.output_dir / "donors.html")
    assert "data:audio" in (found.output_dir / "prepare_report.html").read_text()


def test_equal_clips_are_taken_once(find: Callable[..., Donors], place: Path, tmp_path: Path) -> None:
    """Of a pool that is there twice."""
    shutil.copytree(place / "ruby", tmp_path / "twin")
    found = find(tmp_path / "set", pool=[place / "ruby", tmp_path / "twin"], hours=1)
    assert found.clips_chosen == len(datasets.load_from_disk(str(place / "ruby"))[TRAIN])
    assert len({(one["num_samples"], one[CHECKSUM]) for one in rows_of(found.output_dir)}) == found.clips_chosen


def test_a_random_model_tells_nothing(taken: Donors) -> None:
    """The order of its units says little of the target: no nearness is invented."""
    assert not taken.tells
    assert {one.reading for one in taken.languages} == {"not known"}
    assert any("take a base that was trained" in one for one in taken.warnings)


def test_only_its_own_folder_is_replaced(find: Callable[..., Donors], place: Path, tmp_path: Path) -> None:
    """Not a dataset of `prepare`, nor another folder; its own when asked; never what it reads."""
    before = sorted((place / "ruby").rglob("*"))
    for folder in (place / "ruby", place / "ruby" / "within"):
        for overwrite in (False, True):
            with pytest.raises(ConfigError):
                find(folder, overwrite=overwrite)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="is not a prepared dataset"):
        find(tmp_path / "notes", overwrite=True)
    shutil.copytree(place / "opal", tmp_path / "mine")
    with pytest.raises(ConfigError, match="did not write"):
        find(tmp_path / "mine", overwrite=True)
    find(tmp_path / "set")
    with pytest.raises(ConfigError, match="--overwrite"):
        find(tmp_path / "set")
    find(tmp_path / "set", overwrite=True, hours=0.01)
    assert json.loads((tmp_path / "set" / DONORS).read_text())["hours_asked"] == 0.01
    assert sorted((place / "ruby").rglob("*")) == before
    assert not list(tmp_path.glob("set.shards"))


def test_languages_and_pools_without_a_name(
    find: Callable[..., Donors], tiny_model: Path, place: Path, tmp_path: Path
) -> None:
    """A pool whose manifest names none is counted as of its folder; speakers without a name are bound by recording."""
    rows = [json.loads(line) for line in (place / "opal.jsonl").read_text().splitlines()]
    bare = prepared([row(Path(one["audio_filepath"])) for one in rows[::2]], tmp_path / "bare", tiny_model)
    found = find(tmp_path / "set", pool=bare, max_speaker_share=0.05)
    assert [one.name for one in found.languages] == ["of bare, language not named"]
    assert found.speakers == ()
    assert json.loads((tmp_path / "set" / FINGERPRINT).read_text())["split_by"] == "recording"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--target nowhere", "nowhere: no such dataset"),
        ("--pool {place}/ruby-audio", "not a prepared dataset"),
        ("--pool {place}/ruby", "is given twice"),
        ("--hours 0", '--hours is "0"'),
        ("--hours much", '--hours is "much"'),
        ("--num-units 1000", '--num-units is "1000"'),
        ("--num-units 200 --max-target-minutes 0.2", "give more speech, or at most"),
        ("--layer 7", "--layer 7: there are 0 (what the first is given) to 2, and log-mel"),
        ("--layer middle", '--layer is "middle": give the number'),
        ("--layer -1", "--layer"),
        ("--max-target-minutes 0.001", "one clip of it is heard"),
        ("--max-speaker-share 0", "--max-speaker-share"),
        ("--output-dir {place}/ruby.jsonl", "is not a prepared dataset"),
        ("--model-name-or-path {place}/ruby", "ruby"),
        ("--output-dir {place}", "is not a prepared dataset"),
        ("--cache-dir {place}/ruby.jsonl", "ruby.jsonl is a file; give a folder"),
    ],
)
def test_bad_input_is_one_line(options: str, said: str, place: Path, tiny_model: Path, run_task: RunTask) -> None:
    """What, where, the value seen; status 1; nothing is written."""
    usual = {
        "--target": "{place}/target",
        "--output-dir": "{place}/out",
        "--cache-dir": "{place}/cache",
        "--model-name-or-path": str(tiny_model),
        "--num-units": "20",
    }
    usual = {name: value for name, value in usual.items() if name not in options}
    words = " ".join(f"{name} {value}" for name, value in usual.items())
    before = sorted(place.rglob("*"))
    line = f"donors {words} --pool {{place}}/ruby --profile cpu-smoke {options}"
    status, out, err = run_task(line.format(place=place))
    assert status == 1, out + err
    complaint = [one for one in err.splitlines() if one.startswith("error")]
    assert len(complaint) == 1
    assert said in complaint[0]
    assert sorted(path for path in place.rglob("*") if "cache" not in path.parts) == [
        path for path in before if "cache" not in path.parts
    ]


def test_nothing_is_given(run_task: RunTask) -> None:
    """A target and a pool are asked for."""
    assert "no target is given" in run_task("donors")[2]
    assert "no pool is given" in run_task("donors --target x")[2]


def test_a_model_that_is_no_wav2vec2(find: Callable[..., Donors], tmp_path: Path) -> None:
    """Is called that, before anything is heard."""
    settings = {name: value for name, value in TINY.items() if "code" not in name}
    transformers.HubertModel(transformers.HubertConfig(**settings)).save_pretrained(tmp_path / "hubert")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "hubert")
    with pytest.raises(RunyoroError, match="hubert"):
        find(tmp_path / "set", model_name_or_path=tmp_path / "hubert")


def test_another_rate(find: Callable[..., Donors], tmp_path: Path) -> None:
    """Datasets are of the model's rate."""
    model = build_tiny_model(tmp_path / "model", sampling_rate=8_000)
    with pytest.raises(RunyoroError, match="prepared at 16000 Hz, the model takes 8000 Hz"):
        find(tmp_path / "set", model_name_or_path=model)


def test_a_folder_that_is_in_use(find: Callable[..., Donors], tmp_path: Path) -> None:
    """By another process: nothing is heard."""
    from runyoro_ssl.prepare.shards.store import Store

    with Store.beside(tmp_path / "set").locked(), pytest.raises(ConfigError, match="is already writing here"):
        find(tmp_path / "set")


def test_a_pool_of_an_older_version(find: Callable[..., Donors], place: Path, tmp_path: Path) -> None:
    """Without checksums, beside one that has them: what is made of both has them."""
    old = tmp_path / "opal"
    splits = datasets.load_from_disk(str(place / "opal"))
    splits.remove_columns(CHECKSUM).save_to_disk(str(old))
    for name in (FINGERPRINT, "clips.jsonl"):
        shutil.copy(place / "opal" / name, old)
    found = find(tmp_path / "set", pool=[old, place / "ruby"])
    assert {one["language"] for one in rows_of(found.output_dir)} == {"opal", "ruby"}
    assert all(one[CHECKSUM] == checksum(np.array(one["audio"], np.int16)) for one in rows_of(found.output_dir))
    load_splits(found.output_dir, sampling_rate=16_000)


def test_a_damaged_pool_is_named(find: Callable[..., Donors], place: Path, tmp_path: Path) -> None:
    """One sample of one clip: nothing is made of it."""
    shutil.copytree(place / "ruby", tmp_path / "ruby")
    file = train_file(tmp_path / "ruby")
    content = bytearray(file.read_bytes())
    sample = content.find(np.array(datasets.load_from_disk(str(place / "ruby"))[TRAIN][3]["audio"], np.int16).tobytes())
    content[sample + 1000] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunyoroError, match=f"{tmp_path / 'ruby'}: damaged dataset: row 3 holds other samples"):
        find(tmp_path / "set", pool=tmp_path / "ruby")
    assert not (tmp_path / "set").exists()


def test_clips_jsonl_is_needed(find: Callable[..., Donors], place: Path, tmp_path: Path) -> None:
    """It says whose the clips are, and under which licence."""
    shutil.copytree(place / "ruby", tmp_path / "ruby")
    (tmp_path / "ruby" / "clips.jsonl").unlink()
    with pytest.raises(RunyoroError, match=r"clips\.jsonl: there is no such file"):
        find(tmp_path / "set", pool=tmp_path / "ruby")
    assert not (tmp_path / "set").exists()
    with pytest.raises(DonorsError):
        find(tmp_path / "set", pool=())
