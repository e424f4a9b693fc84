"""`smoke`: the whole way in miniature, with every claim checked.

Synthesises speech (or takes a folder of recordings), builds a tiny random wav2vec 2.0, and runs manifest, prepare,
train, a reload in plain transformers, evaluate. The checks say whether the pieces work together and the model learns.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runyoro_ssl.builtins.loggers import METRICS
from runyoro_ssl.commands.closing import close, command
from runyoro_ssl.commands.evaluate import evaluate
from runyoro_ssl.commands.given import own_options
from runyoro_ssl.commands.own import SmokeOptions
from runyoro_ssl.config import Config
from runyoro_ssl.dataset.layout import REPORT
from runyoro_ssl.errors import DatasetError, TooLittleSpeechError, TrainingError
from runyoro_ssl.logs import get_logger, print_table
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.resolve import load_config
from runyoro_ssl.torchaudio_compat import import_transformers

log = get_logger()

MEASURES = ("contrastive_loss", "accuracy", "hard_perplexity")
LOSS_MARGIN = 0.05
"""The held-out contrastive loss must end this far below guessing. Seeds 0 to 9 end 0.07 to 0.88 below."""
MIN_PERPLEXITY = 10.0
"""Of 64 codes in two groups; collapse is 2."""
NUM_CLIPS = 140
STEPS = 240
MODEL: dict[str, Any] = {
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "conv_dim": (48,) * 7,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 8,
    "num_codevectors_per_group": 32,
    "codevector_dim": 64,
    "proj_codevector_dim": 64,
    "layerdrop": 0.0,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "feat_quantizer_dropout": 0.0,
}
"""XLS-R's architecture, about 0.3 M parameters, without dropout: it must learn in a minute."""


@dataclass
class SmokeReport:
    """What each stage took and gave: rows of (stage, seconds, result). The first failed check ends the run."""

    rows: list[list[str]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Time a stage; put its result, in words, into what is yielded."""
        result: list[str] = []
        started = time.perf_counter()
        yield result
        self.rows.append([name, f"{time.perf_counter() - started:.1f}", "; ".join(result)])
        log.info("smoke_stage_done", stage=name)


def smoke(**given: Any) -> SmokeReport:
    """Run the whole way, small, and check what it claims: no network, data or GPU needed.

    Args:
        **given: `audio_dir`, `work_dir`, `seed`.

    Raises:
        RunyoroError: A check that failed, by name; or something that you can mend.
    """
    options = own_options(SmokeOptions, given, alone=True)
    report = SmokeReport()
    with tempfile.TemporaryDirectory(prefix="runyoro-smoke-") as scratch:
        folder = options.work_dir or Path(scratch)
        if options.work_dir and folder.exists() and any(folder.iterdir()):
            raise DatasetError(f"--work-dir {folder} is not empty; give a new folder")
        try:
            _run_stages(report, folder, options.audio_dir, options.seed)
        except BaseException:
            if report.rows:
                _print(report)
            raise
    return report


def show(report: SmokeReport, given: Mapping[str, Any]) -> None:
    """Print what each stage took and gave, and what comes next."""
    _print(report)
    close(
        [
            ("result", "all is well: the whole way works on this machine"),
            *([("all of it", given["work_dir"])] if given.get("work_dir") else []),
        ],
        [("list your own recordings", command("manifest", audio_dir="FOLDER", speaker_from="folder"))],
    )


def _print(report: SmokeReport) -> None:
    print_table("Smoke", ["stage", "seconds", "result"], report.rows)


def _run_stages(report: SmokeReport, folder: Path, audio_dir: Path | None, seed: int) -> None:
    if audio_dir is None:
        audio_dir = folder / "recordings"
        with report.stage("synthesise") as result:
            result.append(_synthesise(audio_dir, seed))
    config = smoke_config(folder, seed, synthetic=audio_dir == folder / "recordings")
    with report.stage("manifest") as result:
        result.append(_manifest(config, audio_dir))
    with report.stage("tiny model") as result:
        result.append(_build_model(Path(config.model.model_name_or_path), seed))
    with report.stage("prepare") as result:
        result.append(_prepare(config))
    with report.stage("train") as result:
        first, best = _train(config)
        result.append(
            f"held-out contrastive loss {first['eval/contrastive_loss']:.3f} to {best['eval/contrastive_loss']:.3f}, "
            f"accuracy {best['eval/accuracy']:.1%}, hard perplexity {best['eval/hard_perplexity']:.0f}"
        )
    with report.stage("reload") as result:
        result.append(_reload(config, round(best["step"])))
    with report.stage("evaluate") as result:
        result.append(_evaluate(config))
    with report.stage("checks") as result:
        result.append(_check_learning(best))


def smoke_config(folder: Path, seed: int, *, synthetic: bool) -> Config:
    """The configuration of a smoke run: hot, short, on the CPU."""
    return load_config(
        profile="cpu-smoke",
        flags={
            "hardware": {"batch_seconds": 16.0, "update_seconds": 16.0},
            "model": {"model_name_or_path": str(folder / "tiny-model")},
            "prepare": {
                "manifest_path": folder / "manifest.jsonl",
                "output_dir": folder / "dataset",
                "validation_share": 0.15,
                # A folder given by a user may hold one speaker, or name none.
                "split_by": "speaker" if synthetic else "recording",
                "seed": seed,
            },
            # The synthetic words are the same each time they are said: near-duplicates, if they were recordings.
            "plugins": {"filters": ["duration", "silence", "clipping"]},
            "train": {
                "processed_dataset_path": folder / "dataset",
                "output_dir": folder / "run",
                "max_steps": STEPS,
                "learning_rate": 3e-3,
                "warmup_steps": STEPS // 4,
                "feature_encoder_lr_scale": 1.0,
                "gumbel_temperature_start": 1.0,
                "logging_steps": STEPS // 8,
                "eval_steps": STEPS // 2,
                "save_steps": STEPS // 2,
                "seed": seed,
            },
            # So hot a run has spikes, and gets over them.
            "health": {"spike_factor": 50.0},
        },
    )


def _synthesise(folder: Path, seed: int) -> str:
    from runyoro_ssl.audio.synth import write_corpus

    known = write_corpus(folder, num_clips=NUM_CLIPS, num_words=8, seed=seed)
    return f"{len(known)} clips, {sum(map(len, known.values()))} phones"


def _manifest(config: Config, audio_dir: Path) -> str:
    from runyoro_ssl.prepare.scan import scan

    # Only the synthetic corpus is known to have a folder for each speaker.
    speaker_from = "folder" if config.prepare.split_by == "speaker" else None
    found = scan(audio_dir, Path(config.prepare.manifest_path), speaker_from=speaker_from, config=config)
    return f"{found.num_files} recordings, {found.seconds:.0f} s, {len(found.rejected)} rejected"


def _build_model(folder: Path, seed: int) -> str:
    transformers = import_transformers()
    import torch

    torch.manual_seed(seed)
    model = transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**MODEL))
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.2f} M random parameters"


def _prepare(config: Config) -> str:
    from runyoro_ssl.prepare.pipeline import prepare

    report = prepare(config, load_plugins(config)).report
    samples = report["samples"]
    _check(
        samples["in"] == samples["kept"] + sum(samples["dropped"].values()),
        f"{REPORT} does not add up: {samples}",
    )
    splits = report["splits"]
    _check(
        splits["train"]["clips"] + splits["validation"]["clips"] == report["clips_kept"],
        f"the splits do not hold the clips kept: {splits}",
    )
    return (
        f"{report['seconds_kept']:.0f} s kept, {report['seconds_dropped']:.0f} s dropped; "
        f"{splits['train']['clips']} clips to train, {splits['validation']['clips']} held out"
    )


def _train(config: Config) -> tuple[dict[str, float], dict[str, float]]:
    from runyoro_ssl.publish.report.keep import PageKeeper
    from runyoro_ssl.train.run import train

    keeper = PageKeeper()
    outcome = train(config, load_plugins(config), on_validation=keeper.write_page, on_final=keeper.write_card_and_page)
    if outcome.ending.kind == "signal":
        raise KeyboardInterrupt
    logged = [json.loads(line)["step"] for line in (config.train.output_dir / METRICS).open(encoding="utf-8")]
    _check(max(logged) == STEPS, f"{METRICS} ends at step {max(logged)}, not {STEPS}")
    return outcome.first, outcome.best


def _reload(config: Config, best_step: int) -> str:
    """Load the final model and the best checkpoint with nothing but transformers; they must be the same model."""
    from runyoro_ssl.train.checkpoints.format import checkpoint_of

    transformers = import_transformers()
    import torch

    run = config.train.output_dir
    states = []
    for folder in (run, checkpoint_of(run, best_step)):
        model, info = transformers.Wav2Vec2ForPreTraining.from_pretrained(
            folder, output_loading_info=True, trust_remote_code=False
        )
        transformers.AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
        wrong = sorted(info["missing_keys"]) + sorted(info["unexpected_keys"])
        _check(not wrong, f"{folder.name} reloads with missing or unexpected weights: {wrong[:3]}")
        states.append(model.state_dict())
    same = all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    _check(same, f"the final model and checkpoint-{best_step} differ")
    return f"final model and checkpoint-{best_step} load in plain transformers"


def _evaluate(config: Config) -> str:
    """Have the trained model compared with the tiny one, on the clips held out, as users do."""
    run, plain = config.train.output_dir, "hardware.precision=fp32"  # no product is timed
    try:
        found = evaluate(
            adapted=run, cache_dir=run.parent / "features", max_minutes=1.0, profile="cpu-smoke", set=(plain,)
        ).evaluation
    except TooLittleSpeechError:
        return "not told: too few clips are held out"
    loss = found.get("fit.contrastive_loss")
    change = loss.difference if loss else None
    _check(change is not None, "evaluate knows no held-out loss of both models")
    return f"{found.verdict.kind}: held-out loss {change:+.3f} beside the tiny model's"


def _check_learning(best: dict[str, float]) -> str:
    from runyoro_ssl.model.objective import chance

    guessing = chance(import_transformers().Wav2Vec2Config(**MODEL))
    loss, accuracy, perplexity = (best[f"eval/{name}"] for name in MEASURES)
    chance_loss = min(guessing.loss, best["eval/chance_loss"])
    _check(
        loss < chance_loss - LOSS_MARGIN,
        f"the held-out contrastive loss ended at {loss:.3f}, not {LOSS_MARGIN} below guessing ({chance_loss:.3f})",
    )
    _check(
        accuracy > 2 * guessing.accuracy,
        f"the accuracy ended at {accuracy:.2%}, not above twice chance ({2 * guessing.accuracy:.2%})",
    )
    _check(perplexity > MIN_PERPLEXITY, f"the codebook collapsed: perplexity {perplexity:.1f}, floor {MIN_PERPLEXITY}")
    times_chance = accuracy / guessing.accuracy
    return f"loss {chance_loss - loss:.3f} below guessing, accuracy {times_chance:.1f} times chance, codebook in use"


def _check(passed: bool, complaint: str) -> None:  # noqa: FBT001 - reads as the assertion it is
    if not passed:
        raise TrainingError(f"smoke check failed: {complaint}")
