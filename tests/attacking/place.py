"""Where an attack happens: a tiny model, recordings, a dataset, a run that may go on, and things of other people."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attacking.command import Command, finish
from runyoro_ssl.foreign.names import FAIRSEQ2
from support.foreign import write_foreign

STEPS, KEPT = 12, 9
"""Steps of a run, and of its last checkpoint before the end: its best model."""
SETTINGS = (
    *("hardware.precision=fp32", "hardware.batch_seconds=6", "hardware.update_seconds=12", "train.warmup_steps=2"),
    *(f"train.max_steps={STEPS}", "train.logging_steps=1", "train.save_steps=4", "train.eval_steps=3"),
    *('plugins.loggers=["console", "jsonl"]', "hardware.dataloader_num_workers=0"),
)
RUN, DONE, OTHERS, MADE = "run", "done", "others", "made"
PLAIN, MIXED, REFERENCE = "plain", "mixed", "reference"
"""Of the seeds: a run on one dataset, and what it made; one on several; and what other tasks make, undisturbed."""
FOREIGN, SOURCES, CACHE = "foreign.pt", "mix.toml", "tmp/cache"
MIX = """[train]
ema_decay = 0.9
average_last = 2

[[train.sources]]
path = "dataset"

[[train.sources]]
path = "pool"
share = 0.3
from_step = 3

[[train.sources]]
path = "replay"
role = "replay"
until_step = 10
"""
MINE = ("home", "tmp", "log")
"""What any task may change: its user's folders, and what it says."""
CANARY = """import pathlib
pathlib.Path({mark!r}).write_text("ran")
class Canary:
    pass
main = Canary
"""
MARK = "canary-ran"


@dataclass(frozen=True)
class Place:
    """The folder of an attack."""

    folder: Path

    @property
    def run(self) -> Path:
        """A run that was killed after its checkpoint-8; or nothing, where one begins."""
        return self.folder / RUN

    @property
    def done(self) -> Path:
        """A run that has ended well."""
        return self.folder / DONE

    @property
    def made(self) -> Path:
        """Where donors, and converted models, are written."""
        return self.folder / MADE

    @property
    def log(self) -> Path:
        """What commands say."""
        return self.folder / "log"

    @property
    def mark(self) -> Path:
        """Is there when code ran that no task may run."""
        return self.folder / MARK

    def train(self, *, resume: bool, mix: bool = False) -> list[str]:
        """The words of `train` into the run's folder; `mix`: on several datasets, by a recipe."""
        settings = [word for setting in SETTINGS for word in ("--set", setting)]
        words = ["train", "--profile", "cpu-smoke", *settings, "--model-name-or-path", f"{self.folder}/model"]
        one = ["--processed-dataset-path", f"{self.folder}/dataset"]
        words += ["--config", f"{self.folder}/{SOURCES}", "--recipe", "hours"] if mix else one
        words += ["--output-dir", str(self.run)]
        return words + (["--resume-from-checkpoint", "last"] if resume else [])

    def donors(self) -> list[str]:
        """The words of `donors` into `made/chosen`."""
        words = ["donors", "--profile", "cpu-smoke", "--target", f"{self.folder}/dataset", "--hours", "0.005"]
        words += ["--pool", f"{self.folder}/pool", "--pool", f"{self.folder}/replay", "--num-units", "20"]
        words += ["--model-name-or-path", f"{self.folder}/model", "--cache-dir", f"{self.folder}/{CACHE}"]
        return [*words, "--output-dir", f"{self.made}/chosen"]

    def convert(self) -> list[str]:
        """The words of `convert` into `made/converted`."""
        words = ["convert", f"{self.folder}/{FOREIGN}", "--num-heads", "2"]
        return [*words, "--output-dir", f"{self.made}/converted"]

    def prepare(self) -> list[str]:
        """The words of `prepare` into `out`."""
        words = ["prepare", "--profile", "cpu-smoke", "--segment", "fixed", "--num-workers", "1"]
        words += ["--set", 'plugins.filters=["duration", "silence", "clipping"]', "--set", "prepare.shard_seconds=15"]
        words += ["--manifest-path", f"{self.folder}/manifest.jsonl", "--output-dir", f"{self.folder}/out"]
        return [*words, "--model-name-or-path", f"{self.folder}/model"]

    def environment(self) -> dict[str, str]:
        """What a task is told by its environment: nothing of this user's."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ}
        folders = {"HOME": "home", "TMPDIR": "tmp", "HF_HOME": "home/hf"}
        folders = {name: str(self.folder / place) for name, place in folders.items()}
        return {**kept, **folders, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def command(self, words: Iterable[str], name: str, **told: object) -> Command:
        """A command line in this place; what it says goes to `log/name.out` and `log/name.err`."""
        told = {"environment": self.environment(), **told}
        return Command([*words], self.folder, self.log / name, **told)  # type: ignore[arg-type]  # by their names


def make_seeds(folder: Path, manifest: Path, given: Mapping[str, Path]) -> Place:
    """The place that all others are copies of. What lies in it is made by the real tasks; they must end well.

    `given`: folders by their names in it: model, corpus, dataset, pool, replay.
    """
    seeds = Place(folder)
    if (folder / "whole").exists():
        return seeds
    shutil.rmtree(folder, ignore_errors=True)
    for name, source in given.items():
        shutil.copytree(source, folder / name)
    text = manifest.read_text().replace(os.path.relpath(given["corpus"], manifest.parent) + "/", "corpus/")
    (folder / "manifest.jsonl").write_text(text)
    (folder / SOURCES).write_text(MIX)
    write_foreign(folder / "model", folder / FOREIGN, FAIRSEQ2)
    for name in (*MINE, MADE):
        (folder / name).mkdir()
    for kind in (PLAIN, MIXED):
        _finish(seeds, seeds.train(resume=False, mix=kind == MIXED))
        _keep_run(seeds, folder / kind)
    for words in (seeds.donors(), seeds.convert()):
        _finish(seeds, words)
    seeds.made.rename(folder / REFERENCE)
    (folder / CACHE).rename(folder / "cache")
    seeds.made.mkdir()
    _write_others(folder / OTHERS)
    (folder / "whole").write_text(str(folder))
    return seeds


def _finish(seeds: Place, words: Sequence[str]) -> None:
    ended = finish(seeds.command(words, "whole"), limit_sec=300)
    if ended.status != 0:
        sys.exit(f"what is to be attacked did not end well: {ended.said[-2000:]}")


def _keep_run(seeds: Place, folder: Path) -> None:
    """Move a finished run into a folder, as it is, and as it was at its last checkpoint but that of its end."""
    folder.mkdir()
    seeds.run.rename(folder / DONE)
    shutil.copytree(folder / DONE, folder / RUN)
    shutil.rmtree(folder / RUN / f"checkpoint-{STEPS}")
    for name in ("model.safetensors", "result.json", "config.json", "preprocessor_config.json", "README.md"):
        (folder / RUN / name).unlink(missing_ok=True)
    logged = (folder / RUN / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / RUN / "metrics.jsonl").write_text("".join(line for line in logged if json.loads(line)["step"] <= KEPT))


def _write_others(folder: Path) -> None:
    """What other people have there, under names that ours have, too."""
    for name in ("thesis/chapter.bin", ".tmp-mine/a", ".trash-old/b", "checkpoint-9/model.safetensors", "run.lock"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(hashlib.sha256(name.encode()).digest() * 50)
    (folder / "link").symlink_to("thesis")
    (folder / "nothing").touch()


def set_up(seeds: Place, folder: Path, *, kind: str, has_run: bool) -> Place:
    """A copy for one attack, with what a run of that kind made, and, half-way, its run."""
    shutil.rmtree(folder, ignore_errors=True)
    place = Place(folder)
    made_at = (seeds.folder / "whole").read_text()
    left_out = {"whole", PLAIN, MIXED, REFERENCE}
    shutil.copytree(seeds.folder, folder, symlinks=True, ignore=lambda at, names: _ours(seeds, at, names, left_out))
    for name in (DONE, RUN) if has_run else (DONE,):
        shutil.copytree(seeds.folder / kind / name, folder / name)
        toml = folder / name / "run.toml"
        toml.write_text(toml.read_text().replace(made_at, str(folder)))
    for name in MINE:
        (folder / name).mkdir(exist_ok=True)
    for near in (folder, folder / "model", folder / "dataset"):
        (near / "canary.py").write_text(CANARY.format(mark=str(place.mark)))
    return place


def _ours(seeds: Place, at: str, names: list[str], left_out: set[str]) -> set[str]:
    return left_out & set(names) if Path(at) == seeds.folder else set()


def picture(folder: Path, *, without: Iterable[str] = ()) -> dict[str, str]:
    """Kind, and content or target, of everything in a folder, by its path; `without` names of the first level."""
    found, skipped = {}, {*without}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.partition("/")[0] not in skipped:
            found[name] = _describe(path)
    return found


def _describe(path: Path) -> str:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            return f"link to {path.readlink()}"
        return hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else f"kind {stat.S_IFMT(mode):o}"
    except OSError as error:
        return f"not readable: {error.strerror}"
