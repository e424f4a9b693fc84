"""The tasks: parse, import, call. What they do lives in `runyoro_ssl`."""

from __future__ import annotations

from typing import Any

from invoke.context import Context
from invoke.tasks import task

from runyoro_ssl.commands.ending import command

CONFIG_HELP = {
    "profile": "Hardware profile: mps-m4, cuda, cpu-smoke, or a TOML file",
    "config": "TOML file with settings of any section",
    "set": "section.field=value, any setting of runyoro_ssl/config.py (repeatable)",
}
PLUGINS_HELP = {"no-plugins": "Load only the built-in plugins"}
MODEL_HELP = {"model-name-or-path": "Base model: a folder saved by transformers, or a hub id"}


@task(
    auto_shortflags=False,
    iterable=["set"],
    help={
        "set": CONFIG_HELP["set"],
        "audio-dir": "Folder of recordings, walked recursively",
        "output": "Manifest to write",
        "speaker-from": "Regular expression on the path below --audio-dir; its group is the speaker: '([^/]+)/'",
        "num-workers": "Processes that decode",
        "overwrite": "Replace an existing manifest",
    },
)
@command
def manifest(
    _context: Context,
    audio_dir: str = "recordings",
    output: str = "data/manifest/audio_manifest.jsonl",
    speaker_from: Any = None,
    num_workers: Any = None,
    set: Any = None,  # noqa: A002 - the flag's name
    overwrite: bool = False,
) -> None:
    """List the readable recordings of a folder, with their real durations."""
    from runyoro_ssl.commands.options import run_manifest

    flags = {"num_workers": num_workers}
    run_manifest(
        flags, audio_dir=audio_dir, output=output, speaker_from=speaker_from, settings=set, overwrite=overwrite
    )


@task(
    auto_shortflags=False,
    iterable=["set"],
    optional=["allow_outside"],
    help={
        **CONFIG_HELP,
        **MODEL_HELP,
        **PLUGINS_HELP,
        "manifest-path": "JSON Lines manifest, or hf://org/name?config=C&split=S",
        "output-dir": "Dataset to write",
        "max-duration-sec": "No clip is longer",
        "min-duration-sec": "Shorter clips are dropped",
        "segment": "How recordings over the maximum are cut: vad (at pauses, speech only), fixed or none",
        "num-workers": "Processes that decode",
        "executor": "Where the work runs: processes, dask://HOST:PORT, slurm, or a plugin's",
        "allow-outside": "Accept manifest lines that lead out of the manifest's folder",
        "dry-run": "Only say what each filter would drop",
        "overwrite": "Replace an existing dataset",
    },
)
@command
def prepare(
    _context: Context,
    profile: Any = None,
    config: Any = None,
    set: Any = None,  # noqa: A002 - the flag's name
    manifest_path: Any = None,
    output_dir: Any = None,
    model_name_or_path: Any = None,
    max_duration_sec: Any = None,
    min_duration_sec: Any = None,
    segment: Any = None,
    num_workers: Any = None,
    executor: Any = None,
    allow_outside: Any = None,
    no_plugins: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
) -> None:
    """Decode, cut, filter and split the manifest's recordings into a dataset."""
    from runyoro_ssl.commands.options import run_prepare

    flags = {
        "manifest_path": manifest_path,
        "output_dir": output_dir,
        "model_name_or_path": model_name_or_path,
        "max_duration_sec": max_duration_sec,
        "min_duration_sec": min_duration_sec,
        "segment": segment,
        "num_workers": num_workers,
        "executor": executor,
        "allow_outside": allow_outside,
        "no_plugins": no_plugins,
    }
    run_prepare(flags, profile=profile, config_file=config, settings=set, overwrite=overwrite, dry_run=dry_run)


@task(
    auto_shortflags=False,
    iterable=["set"],
    optional=["fp16", "bf16", "gradient_checkpointing", "override_mismatch", "allow_pickle"],
    help={
        **CONFIG_HELP,
        **MODEL_HELP,
        **PLUGINS_HELP,
        "processed-dataset-path": "Dataset of `invoke prepare`",
        "output-dir": "Folder of this run: checkpoints and the final model",
        "num-train-epochs": "Passes over the training split",
        "max-steps": "Optimizer steps; replaces --num-train-epochs",
        "per-device-train-batch-size": "Clips of a micro-batch; replaces the profile's batch_seconds",
        "gradient-accumulation-steps": "Micro-batches of a step; replaces the profile's update_seconds",
        "learning-rate": "Peak rate",
        "warmup-steps": "Default: a tenth of the run",
        "weight-decay": "AdamW, on matrices only",
        "logging-steps": "Steps between log lines",
        "save-steps": "Steps between checkpoints, and validations",
        "save-total-limit": "Checkpoints to keep",
        "fp16": "Half precision with loss scaling",
        "bf16": "bfloat16",
        "seed": "Every random draw follows from it",
        "gradient-checkpointing": "Less memory, more time",
        "dataloader-num-workers": "Processes that build batches",
        "mask-time-prob": "Share of frames inside masked spans, before overlaps",
        "mask-time-length": "Frames of a masked span",
        "mask-feature-prob": "The same for hidden dimensions; 0 is off",
        "mask-feature-length": "Hidden dimensions of a span",
        "resume-from-checkpoint": "`last`, or a checkpoint folder",
        "override-mismatch": "Resume although dataset or settings differ from the run's",
        "stop-after": "Save and end before this much time has passed, e.g. 5h30m",
        "allow-pickle": "Accept .bin or .pt weights of the base model",
    },
)
@command
def train(
    _context: Context,
    profile: Any = None,
    config: Any = None,
    set: Any = None,  # noqa: A002 - the flag's name
    processed_dataset_path: Any = None,
    model_name_or_path: Any = None,
    output_dir: Any = None,
    num_train_epochs: Any = None,
    max_steps: Any = None,
    per_device_train_batch_size: Any = None,
    gradient_accumulation_steps: Any = None,
    learning_rate: Any = None,
    warmup_steps: Any = None,
    weight_decay: Any = None,
    logging_steps: Any = None,
    save_steps: Any = None,
    save_total_limit: Any = None,
    fp16: Any = None,
    bf16: Any = None,
    seed: Any = None,
    gradient_checkpointing: Any = None,
    dataloader_num_workers: Any = None,
    mask_time_prob: Any = None,
    mask_time_length: Any = None,
    mask_feature_prob: Any = None,
    mask_feature_length: Any = None,
    resume_from_checkpoint: Any = None,
    override_mismatch: Any = None,
    stop_after: Any = None,
    allow_pickle: Any = None,
    no_plugins: bool = False,
) -> None:
    """Adapt the base model to the prepared dataset."""
    from runyoro_ssl.commands.options import run_train

    flags = {
        name: value
        for name, value in locals().items()
        if name not in ("_context", "profile", "config", "set", "run_train")
    }
    run_train(flags, profile=profile, config_file=config, settings=set)


@task(
    auto_shortflags=False,
    help={
        "audio-dir": "Real recordings to use instead of synthetic speech",
        "work-dir": "Keep everything here; default: a temporary folder",
        "seed": "Of the corpus, the weights and the run",
    },
)
@command
def smoke(_context: Context, audio_dir: Any = None, work_dir: Any = None, seed: Any = None) -> None:
    """Run the whole way, small, and check what it claims: no network, data or GPU needed."""
    from runyoro_ssl.commands.options import run_smoke_test

    run_smoke_test({"seed": seed}, audio_dir=audio_dir, work_dir=work_dir)


@task(
    auto_shortflags=False,
    help={
        "size": "Model: small, base, xls-r-300m or xls-r-1b, of random weights",
        "device": "cuda, mps or cpu; default: the best present",
        "precision": "fp32, bf16 or fp16; default: bf16 on CUDA, else fp32",
        "reference-precision": "Of transformers' side; default: fp32 on a CPU, else as ours",
        "steps": "Timed runs of each side (5)",
        "parts": "What to measure: objective,feature_encoder,step,epoch",
        "clip-seconds": "Length of the clips of a step (15)",
        "batch-seconds": "Audio of a micro-batch; default: by size and device",
        "compile": "torch.compile each Transformer layer on our side",
        "without-reference": "Measure ours alone",
        "protection": "Measure instead what checkpoints and the health watch cost a run",
        "data": "Measure prepare and reading instead, beside datasets.map",
        "audio-dir": "With --data or --protection: recordings to use instead of synthetic speech",
        "minutes": "With --data: audio to use (20)",
        "hours": "With --data: prepare so many hours once instead, and tell memory; 100 take 25 GB of disk",
        "json": "File to write the rows to",
    },
)
@command
def bench(
    _context: Context,
    size: Any = None,
    device: Any = None,
    precision: Any = None,
    reference_precision: Any = None,
    steps: Any = None,
    parts: Any = None,
    clip_seconds: Any = None,
    batch_seconds: Any = None,
    compile: bool = False,  # noqa: A002 - the flag's name
    without_reference: bool = False,
    protection: bool = False,
    data: bool = False,
    audio_dir: Any = None,
    minutes: Any = None,
    hours: Any = None,
    json: Any = None,
) -> None:
    """Time the training step, or with --data the data path, beside what a user would otherwise run."""
    from runyoro_ssl.commands.options import run_bench

    options = {
        "size": size,
        "device": device,
        "precision": precision,
        "reference_precision": reference_precision,
        "steps": steps,
        "parts": parts,
        "clip_seconds": clip_seconds,
        "batch_seconds": batch_seconds,
        "compile": compile,
        "without_reference": without_reference,
    }
    run_bench(options, protection=protection, data=data, audio_dir=audio_dir, minutes=minutes, hours=hours, json=json)


@task(auto_shortflags=False, iterable=["set"], help={**CONFIG_HELP, **PLUGINS_HELP})
@command
def plugins(
    _context: Context,
    profile: Any = None,
    config: Any = None,
    set: Any = None,  # noqa: A002 - the flag's name
    no_plugins: bool = False,
) -> None:
    """List the plugins: where each comes from, what it offers, what the configuration uses."""
    from runyoro_ssl.commands.options import run_plugins

    run_plugins({"no_plugins": no_plugins}, profile=profile, config_file=config, settings=set)


@task(auto_shortflags=False, iterable=["set"], help={**CONFIG_HELP, **MODEL_HELP})
@command
def doctor(
    _context: Context,
    profile: Any = None,
    config: Any = None,
    set: Any = None,  # noqa: A002 - the flag's name
    model_name_or_path: Any = None,
) -> None:
    """Say what this machine is, what will work on it, and, with any option, what memory training needs."""
    from runyoro_ssl.commands.options import run_doctor

    flags = {"model_name_or_path": model_name_or_path}
    run_doctor(flags, profile=profile, config_file=config, settings=set)
