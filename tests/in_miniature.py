"""Does continued pre-training help, on real speech, and would the toolkit say so? In miniature, with a control.

`python tests/in_miniature.py SPEECH WORK`: two and a half hours on one core. A base of 5.9 M parameters learns
Kinyarwanda and Swahili; three seeds of it go on with Luganda, and three, the sham, for as many steps with more of the
first two. Each is compared with the base by `evaluate`, on Luganda by speakers whom none of them has heard, with phone
alignments.
What is in WORK already is not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import soundfile as sf
from miniature.align import align, phones_of, write_phn
from miniature.start import build_model, learn_units

from runyoro_ssl.audio.synth import SAMPLE_RATE
from runyoro_ssl.logs import print_table

SEEDS = 3
BASE_STEPS, MORE_STEPS = 500, 150
BASE_RATE, MORE_RATE = 3e-4, 1e-4
HOW = (
    *("hardware.precision=bf16", "hardware.batch_seconds=30", "hardware.plan_seconds=30", "hardware.update_seconds=60"),
    *("train.eval_steps=50", "train.save_steps=50", "train.logging_steps=10"),
)
FILTERS = 'plugins.filters=["duration","silence","clipping","duplicates"]'
MEASURES = {
    "fit.contrastive_loss": ("loss", 1, "{:.2f}"),
    "forgetting.contrastive_loss": ("loss on the base's languages", 1, "{:.2f}"),
    "geometry.effective_rank": ("rank", 1, "{:.0f}"),
    "units.stability": ("steady units, %", 100, "{:.1f}"),
    "phones.abx_within": ("ABX within, %", 100, "{:.1f}"),
    "phones.abx_across": ("ABX across, %", 100, "{:.1f}"),
    "phones.probe": ("probe, %", 100, "{:.1f}"),
}
"""By key: its name in the table, what it is multiplied by, how it is written."""


def main() -> None:
    """Prepare, align, train, evaluate; print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("speech", type=Path, help="the folder that holds bantu/ and more/, each with manifest.jsonl")
    parser.add_argument("work", type=Path)
    given = parser.parse_args()
    speech, work = given.speech.resolve(), given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    prepare_both(speech, work)
    base = make_base(work)
    told = {}
    for data, kind in (("target", "continued"), ("known", "sham")):
        for seed in range(SEEDS):
            name = f"{kind}-{seed}"
            model = train(work / "models" / name, base, data, steps=MORE_STEPS, rate=MORE_RATE, seed=seed)
            told[name] = evaluate(work, base, model)
    print_table("Beside the base", ["model", "verdict", *(words for words, _, _ in MEASURES.values())], rows(told))


def prepare_both(speech: Path, work: Path) -> None:
    """The base's languages and the target's, as prepared datasets; the target's phones."""
    lines: dict[str, list[dict[str, object]]] = {"known": [], "target": []}
    for part in ("bantu", "more"):
        for line in (speech / part / "manifest.jsonl").read_text().splitlines():
            row = json.loads(line)
            row["audio_filepath"] = str(speech / part / row["audio_filepath"])
            lines["target" if row["language"] == "lug" else "known"].append(row)
    for name, chosen in lines.items():
        if not (work / name).exists():
            (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))
            if not (work / "random").exists():
                build_model(work / "random")
            share = "0.1" if name == "target" else "0.05"
            options = ["--model-name-or-path", "random", "--manifest-path", f"{name}.jsonl", "--output-dir", name]
            call(work, "prepare", *options, *sets(FILTERS, f"prepare.validation_share={share}"))
    if not (work / "phn").exists():
        align_all(lines["target"], speech, work / "phn")


def align_all(lines: list[dict[str, object]], speech: Path, folder: Path) -> None:
    """Align every recording whose text is spelled in the letters of Luganda."""
    waveforms, words, paths = [], [], []
    for row in lines:
        phones = phones_of(str(row.get("text") or ""))
        waveform, rate = sf.read(str(row["audio_filepath"]), dtype="float32")
        if phones is not None and rate == SAMPLE_RATE and len(waveform) > 3.5 * 160 * sum(map(len, phones)):
            waveforms.append(waveform)
            words.append(phones)
            paths.append((folder / Path(str(row["audio_filepath"])).relative_to(speech)).with_suffix(".phn"))
    for path, segments in zip(paths, align(waveforms, words), strict=True):
        write_phn(segments, path)


def make_base(work: Path) -> Path:
    """Units of spectra first, then contrastive learning."""
    start = work / "models" / "start"
    if not start.exists():
        right = learn_units(work / "random", work / "known", start)
        sys.stdout.write(f"masked units named right: {right:.1%}\n")
    return train(work / "models" / "base", start, "known", steps=BASE_STEPS, rate=BASE_RATE)


def train(folder: Path, base: Path, data: str, *, steps: int, rate: float, seed: int = 0) -> Path:
    """A model that is continued on a dataset; its last checkpoint, as a plain folder."""
    work, name = folder.parent.parent, folder.name
    if not folder.exists():
        out = work / "runs" / name
        shutil.rmtree(out, ignore_errors=True)  # an unfinished one
        options = ["--model-name-or-path", str(base), "--processed-dataset-path", data, "--output-dir", str(out)]
        more = ["--max-steps", str(steps), "--learning-rate", str(rate), *sets(*HOW, f"train.seed={seed}")]
        call(work, "train", *options, *more)
        newest = max(out.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        folder.mkdir(parents=True)
        for file in ("model.safetensors", "config.json", "preprocessor_config.json"):
            shutil.copyfile(newest / file, folder / file)
    return folder


def evaluate(work: Path, base: Path, model: Path) -> dict[str, object]:
    """What `evaluate` finds: the content of evaluation.json."""
    out = work / "evaluations" / model.name
    if not (out / "evaluation.json").exists():
        options = ["--base", str(base), "--adapted", str(model), "--data", "target", "--alignments", "phn"]
        call(work, "evaluate", *options, "--other-data", "known", "--max-minutes", "15", "--output-dir", str(out))
    found: dict[str, object] = json.loads((out / "evaluation.json").read_text())
    return found


def rows(told: dict[str, dict[str, object]]) -> list[list[str]]:
    """Spectra, the base, and each model: value, and where its difference from the base lies."""
    first = next(iter(told.values()))
    found = [["log-mel", "", *cells(first, "log-mel")], ["base", "", *cells(first, "base")]]
    for name, one in told.items():
        found.append([name, str(one["verdict"]["kind"]), *cells(one, "adapted")])  # type: ignore[index]  # JSON
    return found


def cells(evaluation: dict[str, object], subject: str) -> list[str]:
    """The measures of a subject."""
    by_key = {one["key"]: one for one in evaluation["measures"]}  # type: ignore[attr-defined]  # JSON
    found = []
    for key, (_, times, written) in MEASURES.items():
        measure = by_key.get(key)
        if measure is None or subject not in measure["values"]:
            found.append("")
            continue
        text = written.format(times * measure["values"][subject])
        between = measure["difference_interval"]
        if subject == "adapted" and between:
            text += f" ({times * between['low']:+.2f} to {times * between['high']:+.2f})"
        found.append(text)
    return found


def sets(*settings: str) -> list[str]:
    """Options of settings."""
    return [word for one in settings for word in ("--set", one)]


def call(work: Path, *words: str) -> None:
    """Run a task of the toolkit in the folder of work."""
    subprocess.run([sys.executable, "-m", "runyoro_ssl", *words], cwd=work, check=True)


if __name__ == "__main__":
    main()
