"""report.html: the verdict first, true to its numbers, safe to share, and sensible when little is known."""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from conftest import short_run
from runyoro_ssl.evaluate.record import (
    Interval,
    Judgement,
    LayerCurve,
    MeasureFamily,
    ModelMeasure,
    PhonePair,
    write_evaluation,
)
from runyoro_ssl.page.amounts import amount_of_time
from runyoro_ssl.publish.changes import RANK, change_of, warning_of_log_mel
from runyoro_ssl.publish.report.candidates import choice_of, layer_charts
from runyoro_ssl.publish.report.events import MAX_SHOWN
from runyoro_ssl.publish.report.keep import PageKeeper
from runyoro_ssl.publish.report.measured import FAMILIES
from runyoro_ssl.publish.report.pairs import shown_pairs
from runyoro_ssl.publish.report.units import units_by_phones
from runyoro_ssl.publish.report.write import REPORT_PAGE, write_report
from runyoro_ssl.train.health import journal
from runyoro_ssl.train.run_lock import lock_run
from support.evaluations import ROWS, bare_evaluation, full_evaluation, hostile, measure, unit_examples
from support.pages import Elements, text_of
from support.runs import NUM_ALARMS, add_events, log_steps
from support.trainer import run

HOSTILE = '"><script>alert("x")</script><img src=x onerror=alert(1)>'


@pytest.fixture(scope="module")
def trained(dataset: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight steps with four validations, which has ended; its page was kept."""
    folder = tmp_path_factory.mktemp("models") / "a-run"
    keeper = PageKeeper()
    settings = ("train.max_steps=8", "train.eval_steps=2", "train.language=runyoro", "train.learning_rate=1e-3")
    told = {"on_validation": keeper.write_page, "on_final": keeper.write_card_and_page}
    run(short_run(dataset, tiny_model, folder, *settings), **told)
    return folder


@pytest.fixture
def eventful(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run to whose journal was added what happens to others."""
    folder = tmp_path / "eventful"
    shutil.copytree(trained, folder)
    add_events(folder, 5, 8)
    return folder


def read(folder: Path, **given: Any) -> str:
    """The page of a folder, well-formed, as it was just written."""
    html = write_report(folder, **given).read_text(encoding="utf-8")
    Elements().read(html)
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b", text_of(html))
    return html


def before(text: str, first: str, second: str) -> bool:
    """Whether one phrase comes before another; both are there."""
    return text.index(first) < text.index(second)


def test_run_that_was_not_judged_says_so_first(trained: Path) -> None:
    """Kindly, with the command that judges; before any number."""
    text = text_of(read(trained))
    assert before(text, "Not judged yet", "held-out loss")
    assert "invoke evaluate --adapted a-run" in text
    assert "Have it judged" in text


def test_page_of_a_run_has_its_parts_in_order(trained: Path) -> None:
    """Speech, recipe, curves, what is next; with its own numbers."""
    text = text_of(read(trained))
    parts = ["What it was trained on", "How it was trained", "How the training went", "What to try next"]
    places = [text.rindex(part) for part in parts]
    assert places == sorted(places)
    last = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    assert f"to {last['eval/accuracy']:.1%}".replace("%", " %") in text
    assert "Learning rate, its peak 0.001 0.00005" in text
    assert "Length of the run 8 steps not set" in text


def test_speech_is_told_in_aggregates_alone(trained: Path, dataset: Path) -> None:
    """Hours, clips and counts of the dataset's report; no name of a speaker, a file or a folder of this machine."""
    report = json.loads((dataset / "prepare_report.json").read_text())
    html = read(trained)
    text, split = text_of(html), report["splits"]["train"]
    assert f"in {split['clips']} clips, from {split['recordings']} recordings of {split['speakers']} speakers" in text
    clips = [json.loads(line) for line in (dataset / "clips.jsonl").read_text().splitlines()]
    names = {str(clip[key]) for clip in clips for key in ("id", "audio_filepath", "recording")} | set(
        report["speakers"]
    )
    assert not [name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", html)]
    assert str(dataset.parent) not in html
    assert str(trained.parent) not in html


def test_dataset_that_is_gone_or_another_is_not_described(trained: Path, tmp_path: Path) -> None:
    """The hours are then those of the run's own account."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    settings = (folder / "run.toml").read_text()
    (folder / "run.toml").write_text(re.sub(r"(processed_dataset_path = ).*", rf'\1"{tmp_path}/gone"', settings))
    text, result = text_of(read(folder)), json.loads((folder / "result.json").read_text())
    assert "no longer where it was" in text
    material = result["material"]
    assert f"{amount_of_time(material['seconds'])} of speech from {material['recordings']} recordings of " in text
    (folder / "run.toml").write_text(settings)
    (folder / "result.json").write_text(json.dumps({**result, "dataset_sha256": "0" * 64}))
    text = text_of(read(folder))
    assert "there is another one now" in text
    assert f"{amount_of_time(result['train_hours'] * 3600)} of speech" in text


def test_a_dataset_at_hand_is_that_of_the_run_if_its_clips_are(trained: Path, dataset: Path, tmp_path: Path) -> None:
    """Wherever the run looks for it; another is not described."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    settings = (folder / "run.toml").read_text()
    (folder / "run.toml").write_text(re.sub(r"(processed_dataset_path = ).*", r'\1"gone"', settings))
    clips = json.loads((dataset / "prepare_report.json").read_text())["splits"]["train"]["clips"]
    assert f"in {clips} clips" in text_of(read(folder, dataset=dataset))
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, "dataset_sha256": "0" * 64}))
    assert f"in {clips} clips" not in text_of(read(folder, dataset=dataset))


def test_a_check_that_could_not_be_made_is_said(tmp_path: Path) -> None:
    """Not that nothing was trained on."""
    unchecked = full_evaluation(speech=replace(full_evaluation().speech, refused=None))
    assert "Whether a model was trained on some of it could not be checked" in text_of(
        read(tmp_path, evaluation=unchecked)
    )


def test_events_are_told_and_numbered_on_the_curves(eventful: Path) -> None:
    """A way back with its advice, the machine's sleep, a resume; each is a mark of every curve."""
    html = read(eventful)
    text = text_of(html)
    told = ["Step 5, went back.", "Step 6, slept. The machine slept for 1.5 h", "Step 6, went on."]
    assert all(phrase in text for phrase in told)
    assert "3.0 codes in use. Little is left to tell apart. Went back to checkpoint-4. To try: Half the rate." in text
    assert html.count('<i class="event"') == NUM_ALARMS * 5
    assert text.index("Half the rate.", text.rindex("What to try next")) > 0


def test_too_many_events_are_counted(eventful: Path) -> None:
    """What weighs most is shown; the page stays bounded."""
    spike = json.dumps({"kind": "gradient_spikes", "action": "note", "step": 3, "seen": "a spike"})
    with (eventful / journal.NAME).open("a") as file:
        file.write(f"{spike}\n" * 1000)
    html = read(eventful)
    assert len(re.findall(r"<li><div><b>Step", html)) == MAX_SHOWN
    assert "Step 5, went back." in text_of(html)
    assert f"{1000 + NUM_ALARMS - MAX_SHOWN} more events" in text_of(html)


def test_names_of_clips_in_alarms_stay_private(eventful: Path) -> None:
    """The journal has them; the page may be shared."""
    journal.record(eventful, {"kind": "x", "action": "skip", "step": 1, "seen": "y", "clips": ["akiiki-at-home.wav"]})
    assert "akiiki" not in read(eventful)


def test_page_of_a_run_under_way_says_of_when_it_is(trained: Path, tmp_path: Path) -> None:
    """Its step, of how many, the time, and that it may be reloaded; no verdict is promised yet."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / "result.json").unlink()
    now = datetime(2026, 5, 4, 3, 2, tzinfo=UTC)
    with lock_run(folder):
        text = text_of(read(folder, now=now))
    assert "This page is of step 8 of 8, as of 2026-05-04 03:02 UTC" in text
    assert "reload it" in text
    assert "The run is under way" in text
    assert "does not go on by itself: stopped" in text_of(read(folder))


def test_finished_page_has_the_same_bytes_twice(trained: Path) -> None:
    """No time stamp once the run is over: two pages can be compared."""
    assert read(trained, evaluation=full_evaluation()) == read(trained, evaluation=full_evaluation())


@pytest.mark.parametrize("kind", ["helped", "fits better", "no evidence", "hurt"])
def test_verdict_is_the_first_thing(kind: Any, tmp_path: Path) -> None:
    """Its sentence, why, and what would settle it; before all measures, though no run lies there."""
    verdict = Judgement(kind, "this is the sentence", ("because of this",), ("more of that",))
    text = text_of(read(tmp_path, evaluation=full_evaluation(verdict=verdict)))
    assert before(text, "This is the sentence.", "because of this")
    assert before(text, "more of that", "What was measured")
    assert "Not judged yet" not in text
    assert "What it was trained on" not in text


def test_evaluation_of_the_folder_is_read(tmp_path: Path) -> None:
    """evaluation.json is enough."""
    write_evaluation(full_evaluation(), tmp_path)
    assert "It fits your speech better; whether it recognises better needs labels." in text_of(read(tmp_path))


def test_every_family_is_shown_and_explained(tmp_path: Path) -> None:
    """In the order of the families; every measure has its picture, its words and its numbers."""
    html = read(tmp_path, evaluation=full_evaluation())
    assert set(FAMILIES) == set(get_args(MeasureFamily))
    assert re.findall(r'id="family-(\w+)"', html) == list(get_args(MeasureFamily))
    assert html.count('class="dots') >= len(ROWS)
    text = text_of(html)
    assert all(f"{row[1][:1].upper()}{row[1][1:]} " in text for row in ROWS)
    assert "3.83 nats 3.74 to 3.92" in text
    assert "Adapted less base: \N{MINUS SIGN}0.230 nats (\N{MINUS SIGN}0.270 to \N{MINUS SIGN}0.190)" in text
    assert "text.cer_1 one minute of transcripts is not there" in text
    assert "intervals come from drawing 6 to 12 speakers again and again" in text


def of_difference(better: Any, low: float, high: float) -> ModelMeasure:
    """A measure whose difference has this interval."""
    return replace(
        measure(ROWS[0]), better=better, difference=(low + high) / 2, difference_interval=Interval(low, high)
    )


@pytest.mark.parametrize(
    ("better", "low", "high", "change"),
    [
        ("lower", -0.2, -0.1, "better"),
        ("lower", 0.1, 0.2, "worse"),
        ("higher", 0.1, 0.2, "better"),
        ("higher", -0.2, -0.1, "worse"),
        ("neither", 0.1, 0.2, "changed"),
        ("lower", -0.2, 0.01, "unclear"),
        ("higher", 0.0, 0.2, "unclear"),
        ("higher", float("nan"), 0.2, "unknown"),
    ],
)
def test_changed_is_said_only_where_the_interval_excludes_0(
    better: Any, low: float, high: float, change: str, tmp_path: Path
) -> None:
    """Whichever way is good; an interval that is no number says nothing."""
    one = of_difference(better, low, high)
    assert change_of(one) == change
    text = text_of(read(tmp_path, evaluation=full_evaluation(measures=[one])))
    assert ("The interval does not hold 0" in text) == (change in ("better", "worse", "changed"))


@pytest.mark.parametrize(
    ("key", "base", "interval", "change"),
    [
        ("phones.abx_within", 0.2, (-0.03, -0.02), "better"),
        ("phones.abx_within", 0.2, (-0.03, -0.009), "small"),
        ("phones.abx_across", 0.2, (0.002, 0.02), "small"),
        ("phones.probe", 0.5, (-0.05, -0.01), "small"),
        ("text.cer", 0.5, (0.021, 0.05), "worse"),
        ("fit.below_guessing", 0.5, (-0.04, -0.02), "small"),
        ("forgetting.contrastive_loss", 4.0, (0.09, 0.3), "small"),
        ("geometry.davies_bouldin", 2.0, (0.2, 0.4), "small"),
        ("geometry.davies_bouldin", 1.0, (0.2, 0.4), "worse"),
        ("units.stability", 0.3, (0.02, 0.05), "small"),
        ("geometry.effective_rank", 60.0, (-30.0, -28.0), "changed"),
    ],
)
def test_badges_know_what_another_seed_makes(
    key: str, base: float, interval: tuple[float, float], change: str, tmp_path: Path
) -> None:
    """By the margins of the verdict; of the rank, neither way is good."""
    is_higher = key in ("phones.probe", "fit.below_guessing", "units.stability", RANK)
    one = of_difference("higher" if is_higher else "lower", *interval)
    one = replace(one, key=key, values={"base": base, "adapted": base + sum(interval) / 2})
    assert change_of(one) == change
    text = text_of(read(tmp_path, evaluation=full_evaluation(measures=[one])))
    assert ("another seed may make as much." in text) == (change == "small")
    assert text.count("Neither way is good in itself.") >= (change == "changed")


def test_an_evaluation_alone_is_named_once(tmp_path: Path) -> None:
    """Over the name of the model, beside what; with a run's language for a title, both names."""
    html = read(tmp_path, evaluation=full_evaluation())
    assert "A model beside xls-r-tiny runyoro-xls-r-tiny It fits better" in text_of(html)


def test_how_many_were_left_out_leads_to_what_and_why(tmp_path: Path) -> None:
    """By a link to its place; where nothing was, there is neither."""
    html = read(tmp_path, evaluation=full_evaluation())
    assert '<a href="#not-measured">1 left out</a>' in html
    assert html.count('id="not-measured"') == 1
    assert "not-measured" not in read(tmp_path, evaluation=full_evaluation(left_out={}))


def test_what_was_left_out_says_why(tmp_path: Path) -> None:
    """A measure of one model alone, without interval: what is missing is named, not drawn."""
    text = text_of(read(tmp_path, evaluation=bare_evaluation()))
    assert "base not measured" in text
    assert "Whether it changed was not measured." in text
    assert "There are no intervals: 4 clips are too few." in text
    assert "geometry.rank under 1,000 frames were heard" in text
    assert "Layer by layer" not in text
    assert "Which model to keep" not in text


def test_which_to_keep_is_said_with_why(tmp_path: Path) -> None:
    """Beside which has the least loss, and which are the same model; the adapted model needs no advice."""
    text = text_of(read(tmp_path, evaluation=full_evaluation(why_kept="beside adapted: phones are told apart")))
    assert "To keep: checkpoint-400; beside adapted: phones are told apart. Least held-out loss: checkpoint-9" in text
    assert "Keep checkpoint-400; invoke evaluate with --save-best FOLDER saves it. Beside adapted: phones" in text
    same = [replace(one, same_as="adapted") for one in full_evaluation().candidates[:1]]
    kept = full_evaluation(candidates=same, best={"to keep": "adapted"}, why_kept="none is better")
    text = text_of(read(tmp_path, evaluation=kept))
    assert "To keep: adapted; none is better. checkpoint-100 has the weights of adapted." in text
    assert "--save-best" not in text


def test_the_star_stands_on_the_best_point_of_the_loss() -> None:
    """In that picture alone, whatever is best by other measures; checkpoints fill the width of a picture."""
    shown = choice_of(full_evaluation())
    assert shown is not None
    charts = {one.words: one.chart for one in shown.compared if one.chart}
    (star,) = charts["contrastive loss"].marks
    assert (star.at, star.top) == min(charts["contrastive loss"].lines[0].dots, key=lambda dot: abs(dot[0] - star.at))
    assert star.mark.x == 900
    assert not any(chart.marks for words, chart in charts.items() if words != "contrastive loss")
    late = [replace(one, step=one.step + 10_000) for one in full_evaluation().candidates if one.step]
    late_chart = choice_of(full_evaluation(candidates=late)).compared[0].chart  # type: ignore[union-attr]  # it is there
    assert late_chart is not None
    places = [at for at, _ in late_chart.lines[0].dots]
    assert (places[0] < 10, places[-1] > 90) == (True, True)


def test_likeness_has_an_axis_from_0_to_1(tmp_path: Path) -> None:
    """A dip by three thousandths is none."""
    flat = LayerCurve("change.cka", "likeness", "", "neither", {"adapted": [0.974, 0.971, 0.973]})
    (chart,) = layer_charts(full_evaluation(curves=[flat]))
    assert {"0.0", "1.0"} <= {tick.text for tick in chart.y_ticks}
    assert "a line across" not in text_of(read(tmp_path, evaluation=full_evaluation(curves=[flat])))


def test_abx_by_layer_says_that_its_distance_is_another_and_which_layers_were_skipped() -> None:
    """A point at each layer that was measured, at its place; a model without layers is a line across."""
    values = {"base": [0.3, 0.2, 0.25], "adapted": [0.3, 0.1, 0.2], "log-mel": [0.4]}
    at = {"base": [0, 12, 24], "adapted": [0, 12, 24]}
    curve = LayerCurve("phones.abx_within_pooled", "ABX, of means of frames", "%", "lower", values, at)
    (chart,) = layer_charts(full_evaluation(curves=[curve]))
    assert chart.hint.startswith("Lower is better. Another distance than that of the reported error")
    assert "Measured at layers 0, 12, 24 alone." in chart.hint
    assert [left for left, _ in chart.lines[1].dots] == [0.0, 50.0, 100.0]
    assert chart.lines[2].path.startswith("M0.00")
    assert "L100.00" in chart.lines[2].path
    assert [row[0] for row in chart.rows] == ["0", "12", "24"]
    (whole,) = layer_charts(full_evaluation(curves=[replace(curve, at={})]))
    assert "Measured at" not in whole.hint


def test_the_worst_pairs_of_phones_stand_beside_the_base(tmp_path: Path) -> None:
    """Ten of the adapted model, and the ten that changed most; with how many; what is rare is left out, and said."""
    evaluation = full_evaluation()
    shown = shown_pairs(evaluation)
    assert shown is not None
    worst, changed = shown.tables
    assert [row.name for row in worst.rows] == [f"a \N{EN DASH} {chr(98 + place)}" for place in range(1, 11)]
    assert (worst.rows[0].adapted, worst.rows[0].base, worst.rows[0].instances) == ("29.0", "38.0", "30, 10")
    assert changed.rows[0].name == "a \N{EN DASH} c"
    assert worst.rows[0].adapted_at < worst.rows[0].base_at < 100
    text = text_of(read(tmp_path, evaluation=evaluation))
    assert "Of 13 pairs of phones with 10 or more of either. 1 pair with fewer is left out." in text
    assert "a \N{EN DASH} c 29.0 38.0 30, 10" in text
    few = [replace(pair, instances=(30, 9)) for pair in evaluation.pairs]
    for without in ([], few):
        assert "taken for each other" not in text_of(read(tmp_path, evaluation=full_evaluation(pairs=without)))


def test_the_pairs_that_changed_most_are_the_largest_differences_of_either_way() -> None:
    """Up or down."""
    pairs = [
        PhonePair((str(place), "x"), {"base": 0.2, "adapted": 0.2 + (-1) ** place * 0.01 * place}, (20, 20))
        for place in range(11)
    ]
    shown = shown_pairs(full_evaluation(pairs=pairs))
    assert shown is not None
    assert [row.name.split()[0] for row in shown.tables[1].rows] == [str(place) for place in range(10, 0, -1)]


def test_model_below_log_mel_is_called_so(tmp_path: Path) -> None:
    """No recipe is judged by a model that plain spectra beat."""
    text = text_of(read(tmp_path, evaluation=full_evaluation()))
    assert "Plain log-mel spectra do better than both models on: ABX error within, linear phone probe." in text


def test_models_that_log_mel_beats_are_called_so_under_the_verdict(tmp_path: Path) -> None:
    """On labels or query by example, where both are worse: on the page before all measures, in the same words."""
    told = warning_of_log_mel(full_evaluation())
    assert told.startswith("Plain log-mel spectra do better than both models on: ABX error within, linear phone probe;")
    assert before(text_of(read(tmp_path, evaluation=full_evaluation())), told, "What was measured")
    (found,) = [one for one in full_evaluation().measures if one.key == "retrieval.mean"]
    for plain, is_told in ((0.9, True), (0.72, False)):
        one = replace(found, values={"base": 0.71, "adapted": 0.74, "log-mel": plain})
        assert bool(warning_of_log_mel(full_evaluation(measures=[one]))) == is_told


def test_audio_can_be_left_out(tmp_path: Path) -> None:
    """Players where it may be heard; else not one sound, and the page says so."""
    heard = read(tmp_path, evaluation=full_evaluation(), units=unit_examples(2))
    assert heard.count("<audio") == heard.count("data:audio/mpeg") == 4
    silent = read(tmp_path, evaluation=full_evaluation(), units=unit_examples(2), with_audio=False)
    assert "audio" not in re.sub(r"<style>.*?</style>|<meta[^>]*>", "", silent, flags=re.DOTALL)
    assert silent.count("data:image/png") == 4
    assert text_of(silent).count("clip 7, at 1.25 s") == 2
    assert "The sound is left out of this page." in text_of(silent)


def test_units_say_of_what_they_are_and_where_each_clip_is_from(tmp_path: Path) -> None:
    """Of the adapted model, at its layer; each player by name; the unit is marked in its picture."""
    html = read(tmp_path, evaluation=full_evaluation(), units=unit_examples(2))
    text = text_of(html)
    assert "What the adapted model takes for one sound, at layer 7: the units that it hears most" in text
    assert "each by its longest stretches" in text
    assert "Unit 0 1 % of the speech a 64 %, z 25 %, y 7 %" in text
    assert "1. clip 7, at 1.25 s 2. clip 9" in text
    labels = [attributes["aria-label"] for tag, attributes in Elements().read(html) if tag == "audio"]
    assert labels[:2] == ["Unit 0, example 1: clip 7, at 1.25 s", "Unit 0, example 2: clip 9"]
    assert re.findall(r'class="here" style="([^"]*)"', html)[:2] == ["left:25.0%;width:50.0%", "left:0.0%;width:50.0%"]


def test_units_by_phones_are_in_a_table_of_numbers_and_squares() -> None:
    """Phones where the unit is that is them most, no phone last; rare ones are left out; nothing without labels."""
    examples = [
        replace(unit, phones=phones)
        for unit, phones in zip(
            unit_examples(3),
            [[("", 0.9), ("s", 0.1)], [("e", 0.6), ("i", 0.36), ("o", 0.04)], [("s", 0.8)]],
            strict=True,
        )
    ]
    found = units_by_phones(examples)
    assert found is not None
    assert found.units == [0, 1, 2]
    assert [(phone, [cell and cell[0] for cell in cells]) for phone, cells in found.rows] == [
        ("e", [None, "60", None]),
        ("i", [None, "36", None]),
        ("s", ["10", None, "80"]),
        ("no phone", ["90", None, None]),
    ]
    assert found.rows[1][1][1] == ("36", 60.0)  # the side, so that the area is the share
    assert units_by_phones([replace(unit, phones=()) for unit in examples]) is None


def test_names_are_text_wherever_they_stand(trained: Path, tmp_path: Path) -> None:
    """Of models, measures, units, settings, alarms and datasets: shown as they are, and never markup or script."""
    folder = tmp_path / "a <b>run"
    shutil.copytree(trained, folder)
    language = json.dumps(HOSTILE)
    text = re.sub(r'language = ".*"', lambda _: f"language = {language}", (folder / "run.toml").read_text())
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    (folder / "run.toml").write_text(
        re.sub(r"(processed_dataset_path = ).*", lambda found: f'{found[1]}"{dataset}"', text).replace(
            "augmentations = []", f"augmentations = [{language}]"
        )
    )
    split = {"clips": 1, "seconds": 1.0, "recordings": 1, "speakers": 1}
    named = {HOSTILE: 2.0}
    report = {
        "splits": {"train": split, "validation": split},
        "seconds_kept": 2.0,
        "languages": named,
        "licences": named,
    }
    (dataset / "prepare_report.json").write_text(json.dumps({**report, "split_by": HOSTILE}))
    sha256 = json.loads((folder / "result.json").read_text())["dataset_sha256"]
    (dataset / "fingerprint.json").write_text(json.dumps({"content_sha256": sha256}))
    journal.record(
        folder, dict.fromkeys(("kind", "seen", "means", "done", "try"), HOSTILE) | {"step": 1, "action": "stop"}
    )
    units = [
        replace(
            unit, words=HOSTILE, phones=[(HOSTILE, 1.0)], clips=[replace(clip, words=HOSTILE) for clip in unit.clips]
        )
        for unit in unit_examples(1)
    ]
    html = read(folder, evaluation=hostile(full_evaluation(), HOSTILE), units=units)
    elements = Elements().read(html)
    assert text_of(html).count("alert(") > 20
    assert not [
        tag for tag, attributes in elements if tag == "script" or any(name.startswith("on") for name in attributes)
    ]
    assert all("alert" not in name for _, attributes in elements for name in attributes)
    assert all((attributes["src"] or "").startswith("data:") for _, attributes in elements if "src" in attributes)


def test_page_needs_nothing_else(trained: Path) -> None:
    """No script at all, no connection; every picture in it has words for who cannot see it."""
    html = read(trained, evaluation=full_evaluation(), units=unit_examples())
    elements = Elements().read(html)
    policy = next(attributes["content"] for tag, attributes in elements if "http-equiv" in attributes)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert {tag for tag, _ in elements} & {"script", "link", "iframe", "object", "embed", "base", "form"} == set()
    assert not re.search(r"url\(|@import|https?://", html)
    assert all(attributes["aria-label"] for _, attributes in elements if attributes.get("role") == "img")
    assert all("scope" in attributes for tag, attributes in elements if tag == "th")


@pytest.mark.parametrize(("num_steps", "most_seconds", "most_bytes"), [(1000, 0.3, 150_000), (100_000, 6.0, 250_000)])
def test_cost_and_size_are_bounded(num_steps: int, most_seconds: float, most_bytes: int, tmp_path: Path) -> None:
    """A page is written between two steps: under 0.3 s for a thousand logged steps, once Jinja is there."""
    write_report(log_steps(tmp_path / "short", 10))
    folder = log_steps(tmp_path / "long", num_steps)
    started = time.process_time()
    page = write_report(folder)
    assert time.process_time() - started < most_seconds
    assert page.stat().st_size < most_bytes


def test_folder_of_nothing_has_a_page(tmp_path: Path) -> None:
    """Somebody's model, with neither run nor evaluation: it says that nothing is known."""
    assert "Nothing is known of this model yet" in text_of(read(tmp_path))


def test_damage_is_as_if_it_were_not_there(trained: Path, tmp_path: Path) -> None:
    """A cut line, a broken result, a journal of rubbish, numbers that are none: the page is written."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / "result.json").write_text("{")
    (folder / "journal.jsonl").write_text('{"event"\n[]\n{"kind": 3, "step": "x"}\n')
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "train/contrastive_loss": null, "train/grad_norm": "x"}\n[1]\n{"step": 10, "tra')
    (folder / "run.toml").write_text('[train]\nlearning_rate = "fast"\nlanguage = 3\n')
    read(folder)


def test_page_is_kept_while_a_run_trains(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    """At each validation, from the numbers as they are then; and at the end."""
    seen: list[tuple[str, bool]] = []
    keeper = PageKeeper()

    def look(folder: Path) -> None:
        keeper.write_page(folder)
        text = text_of((folder / REPORT_PAGE).read_text())
        seen.append((re.findall(r"This page is of step (\d of \d)", text)[0], "The run is under way" in text))

    out = tmp_path / "run"
    told = {"on_validation": look, "on_final": keeper.write_card_and_page}
    run(short_run(dataset, tiny_model, out, "train.eval_steps=2"), **told)
    assert seen == [("0 of 4", True), ("2 of 4", True), ("4 of 4", True)]
    assert "Nobody has asked yet" in text_of((out / REPORT_PAGE).read_text())
    assert not list(out.glob(".*tmp*"))


def test_page_that_cannot_be_written_costs_one_warning(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run goes on; the next time it is tried again."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / REPORT_PAGE).unlink()
    (folder / REPORT_PAGE).mkdir()
    keeper = PageKeeper()
    for _ in range(3):
        keeper.write_page(folder)
    out, err = capsys.readouterr()
    assert (out + err).count("report_not_written") == 1
    (folder / REPORT_PAGE).rmdir()
    keeper.write_page(folder)
    assert (folder / REPORT_PAGE).is_file()
