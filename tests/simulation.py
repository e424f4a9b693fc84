"""Long runs on a simulated machine: the real trainer, with a clock, a device, a share and a disk that are made up.

`python tests/simulation.py --updates 100000 --seed 1`. Processes are pre-empted every half hour, by SIGTERM or SIGKILL;
the disk fills, the share hangs, the laptop sleeps, updates give no numbers, as often as `simulated/faults.py` says.
After each process, and at the end, what is left is compared with what docs/training.md promises; the newest checkpoint
must be, to the bit, that of the same updates taken one after another. Status 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from runyoro_ssl.audio.synth import write_corpus
from runyoro_ssl.config import Config
from runyoro_ssl.publish.report.keep import PageKeeper
from runyoro_ssl.publish.runs import read_run
from runyoro_ssl.resolve import load_config
from runyoro_ssl.torchaudio_compat import import_transformers
from runyoro_ssl.train.disk_space import folder_bytes
from runyoro_ssl.train.health import journal
from runyoro_ssl.train.intervals import Intervals
from simulated.audit import Audit, event_files
from simulated.clock import SimulatedClock
from simulated.disk import KILLED
from simulated.faults import HOUR, QUIET_SHARE, RATES, STEP_SEC, Faults, Span
from simulated.ledger import Ledger
from simulated.life import FINISHED, MIB, REFUSED, STOPPED, Life, Machine, Sample
from simulated.reference import Reference

SHAPE: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 8,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 8),
    "conv_stride": (20, 16),
    "num_feat_extract_layers": 2,
    "conv_bias": True,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "num_codevectors_per_group": 8,
    "codevector_dim": 8,
    "proj_codevector_dim": 8,
    "layerdrop": 0.0,
}
"""As few weights as a wav2vec 2.0 can have."""
REFUSED_SEC = 900.0
"""Until somebody types the command again."""
SETTLED_UPDATES = 1200
"""In a process: by then all that remembers so many of the last updates is full. Blocks are judged from there on."""
MOST_BLOCKS, MOST_GROWTH = 0.5, 0.03
"""Blocks of Python's allocator that an update may leave behind; share by which resident memory may grow."""
MOST_LIVES = 5000
TOLD = 25
"""Processes, after each of which a line says how far it is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate a run, print what it came to, and what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--often", type=float, default=1.0, help="faults so many times as often as usual")
    parser.add_argument("--quiet", type=float, default=QUIET_SHARE, help="share of the updates without pre-emption")
    parser.add_argument("--folder", type=Path, help="keeps the run, its log and the ledger; must not exist")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="runyoro-simulation-") as scratch:
        folder = given.folder or Path(scratch) / "simulation"
        folder.mkdir()
        simulation = Simulation(folder, given.updates, given.seed, often=given.often, quiet=given.quiet)
        simulation.run()
        for what, value in simulation.rows():
            print(f"{what:<58} {value}")  # noqa: T201 - the result
        for problem in simulation.audit.wrong[:20]:
            print(f"wrong: {problem}")  # noqa: T201 - the result
    return int(bool(simulation.audit.wrong))


class Simulation:
    """A run from its first update to its last, through all that is drawn for it."""

    def __init__(self, folder: Path, num_updates: int, seed: int, *, often: float, quiet: float) -> None:
        self._began = time.monotonic()
        self._num_updates, self._draw = num_updates, random.Random(seed)  # noqa: S311 - chance, no secret
        self._quiet_from = (1 - quiet) * num_updates
        self._faults = Faults.draw(num_updates, seed, often=often)
        config = prepare(folder, num_updates)
        ledger = Ledger(folder / "ledger")
        self._reference = Reference(config, self._faults, folder / "reference")
        intervals = Intervals.of(self._reference.run)
        self._clock = SimulatedClock()
        self._machine = Machine(config, self._clock, self._faults, ledger, str(folder / "log"))
        self.audit = Audit(self._machine, self._reference, intervals, ledger)
        self._lives: list[Life] = []

    @property
    def out(self) -> Path:
        """The run's folder."""
        return self._machine.config.train.output_dir

    def run(self) -> None:
        """Start processes until one comes to the end."""
        for _ in range(MOST_LIVES):
            life = self._machine.live(may_be_ended=self._reference.step < self._quiet_from)
            self._lives.append(life)
            self.audit.look(life)
            if len(self._lives) % TOLD == 0:
                print(f"{self._reference.step:,} updates, {len(self._lives)} processes", file=sys.stderr, flush=True)  # noqa: T201
            if life.status == FINISHED or len(self.audit.wrong) > 20:
                break
            self._clock.pass_by(
                REFUSED_SEC if life.status == REFUSED else self._draw.uniform(*RATES["pre-emption"].lasts)
            )
        if self._lives[-1].status != FINISHED:
            self.audit.wrong.append("the run did not come to its end")
            return
        self.audit.finish()
        self._check_readers()
        self._check_memory()

    def _check_readers(self) -> None:
        """`invoke runs` and the page read what the run left."""
        record = read_run(self.out)
        if (record.state, record.step) != ("finished", self._num_updates):
            self.audit.wrong.append(f"`invoke runs` says: {record.state}, step {record.step}")
        PageKeeper().write_page(self.out)
        if not (self.out / "report.html").exists():
            self.audit.wrong.append("no page could be made of the run")

    def _check_memory(self) -> None:
        first, last = self._settled()
        blocks = (last.blocks - first.blocks) / max(1, last.updates - first.updates)
        if first.updates >= SETTLED_UPDATES and blocks > MOST_BLOCKS:
            self.audit.wrong.append(f"{blocks:.2f} blocks of memory are kept at each update")
        if last.mib > (1 + MOST_GROWTH) * first.mib:
            self.audit.wrong.append(f"memory grew from {first.mib:.0f} to {last.mib:.0f} MiB")

    def _settled(self) -> tuple[Sample, Sample]:
        """What the process that lived longest held when all was remembered that is, and at its end."""
        longest = max((life.samples for life in self._lives if life.samples), key=lambda samples: samples[-1].updates)
        start = min(SETTLED_UPDATES, longest[-1].updates // 2)
        return next(sample for sample in longest if sample.updates >= start), longest[-1]

    def rows(self) -> Iterator[tuple[str, str]]:
        """The result as a table."""
        counts, clock = self.audit.counts, self._clock
        lives, happened = counts.lives, counts.happened
        wasted = counts.computed - self._num_updates
        awake = sum(life.ended - life.started for life in self._lives)
        share = f"{(awake - STEP_SEC * self._num_updates) / awake:.1%}"
        first, last = self._settled()
        size = folder_bytes(self.out)
        yield "updates learned; computed", f"{self._num_updates:,}; {counts.computed:,}"
        yield (
            "simulated days of processes; with queues; asleep",
            "; ".join(f"{seconds / 24 / HOUR:.1f}" for seconds in (awake, clock.monotonic(), clock.asleep)),
        )
        yield (
            "starts; ended by SIGTERM; killed; by an error",
            "; ".join(str(number) for number in (len(self._lives), lives[STOPPED], lives[KILLED], lives[REFUSED])),
        )
        yield "alarms; roll-backs", f"{happened['alarms']}; {happened['roll-backs']}"
        yield (
            "full disks; hangs; sleeps, while a process lived",
            "; ".join(map(str, (self._met(self._faults.full), self._met(self._faults.hangs), happened["sleeps"]))),
        )
        yield "calls that a full disk refused", str(happened["calls refused by a full disk"])
        yield "updates computed again", f"{wasted:,} ({wasted / counts.computed:.1%})"
        yield (
            "lost by a kill, at most; on average",
            (
                f"{max(counts.lost_sec, default=0) / 60:.1f} min; "
                f"{sum(counts.lost_sec) / max(1, len(counts.lost_sec)) / 60:.1f} min"
            ),
        )
        yield "from SIGTERM to the end, at most", f"{max(counts.after_signal_sec, default=0):.0f} s"
        yield "time of processes that was not learning", share
        yield "names in the run's folder, at most; at the end", f"{counts.most_names}; {len(list(self.out.iterdir()))}"
        yield "MiB in the run's folder, at most; at the end", f"{counts.most_bytes / MIB:.1f}; {size / MIB:.1f}"
        for name in ("metrics.jsonl", journal.NAME):
            data = (self.out / name).read_bytes()
            yield f"{name}: lines; KiB", f"{len(data.splitlines()):,}; {len(data) / 1024:,.0f}"
        yield "TensorBoard's files", str(event_files(self.out))
        yield "longest process: updates; MiB settled; at its end", f"{last.updates:,}; {first.mib:.0f}; {last.mib:.0f}"
        yield "resident MiB of a process, at most", f"{counts.most_mib:.0f}"
        yield (
            "processor seconds: trainers; the whole simulation; minutes",
            (
                f"{counts.cpu_sec:.0f}; {counts.cpu_sec + sum(psutil.Process().cpu_times()[:2]):.0f}; "
                f"{(time.monotonic() - self._began) / 60:.1f}"
            ),
        )

    def _met(self, spans: Sequence[Span]) -> int:
        return sum(any(life.started < span.end and life.ended > span.start for life in self._lives) for span in spans)


def prepare(folder: Path, num_updates: int) -> Config:
    """A small model, synthetic speech of three minutes in clips of a second, and the configuration of a run."""
    import datasets  # noqa: F401 - once, before processes are forked
    import torch
    import torch.utils.tensorboard

    from runyoro_ssl import manifest
    from runyoro_ssl import prepare as prepare_task

    transformers = import_transformers()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**SHAPE)).save_pretrained(folder / "model")
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder / "model")
    write_corpus(folder / "corpus", num_clips=4, num_voices=4, num_words=40, clip_sec=40.0)
    manifest(audio_dir=folder / "corpus", output=folder / "manifest.jsonl", speaker_from="folder")
    prepare_task(
        manifest_path=folder / "manifest.jsonl",
        output_dir=folder / "dataset",
        model_name_or_path=str(folder / "model"),
        segment="fixed",
        max_duration_sec=1.0,
        min_duration_sec=0.5,
        set={"plugins.filters": [], "prepare.keep_shards": False, "hardware.num_workers": 1},
    )
    shutil.rmtree(folder / "corpus")
    settings = [
        "hardware.precision=fp32",
        "hardware.batch_seconds=1",
        "hardware.update_seconds=2",
        "hardware.dataloader_num_workers=1",
        f"train.max_steps={num_updates}",
        f"train.processed_dataset_path={folder / 'dataset'}",
        f"train.output_dir={folder / 'run'}",
        "train.resume_from_checkpoint=last",
        f"model.model_name_or_path={folder / 'model'}",
    ]
    return load_config(profile="cpu-smoke", settings=settings)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    raise SystemExit(main())
