"""Options: each has one home, its field; none appears or goes by accident."""

from __future__ import annotations

from dataclasses import fields

import pytest

import runyoro_ssl
from runyoro_ssl.commands.given import find_setting
from runyoro_ssl.commands.options import TASKS, options_of
from runyoro_ssl.commands.tasks import HELP
from runyoro_ssl.config import Config
from runyoro_ssl.config.train import usual_output_dir
from runyoro_ssl.resolve import section_type
from runyoro_ssl.setting import deciding, marks_of

FROZEN = {
    "manifest": """
        audio-dir output speaker-from overwrite table path-column speaker-column text-column language-column
        recording-column licence-column start-column end-column licence num-workers max-hours set
    """,
    "prepare": """
        dry-run overwrite manifest-path output-dir max-hours max-duration-sec min-duration-sec segment allow-outside
        executor model-name-or-path revision num-workers no-plugins profile config set
    """,
    "train": """
        dry-run recipe processed-dataset-path output-dir language num-train-epochs max-steps learning-rate warmup-steps
        weight-decay logging-steps save-steps save-total-limit resume-from-checkpoint override-mismatch
        stop-after seed model-name-or-path revision allow-pickle adapters mask-time-prob mask-time-length
        mask-feature-prob mask-feature-length per-device-train-batch-size gradient-accumulation-steps
        dataloader-num-workers gradient-checkpointing no-plugins fp16 bf16 profile config set
    """,
    "evaluate": """
        adapted base data other-data alignments tier transcripts run interpolate average save-best max-minutes
        output-dir no-audio cache-dir seed fp16 bf16 profile config set
    """,
    "runs": """
        one other folder
    """,
    "publish": """
        repo-id run dry-run private licence branch message overwrite yes
    """,
    "embed": """
        files model layer output units overwrite window-sec seed profile config set
    """,
    "convert": """
        file output-dir data num-heads profile config set
    """,
    "donors": """
        target pool hours output-dir layer num-units max-speaker-share max-target-minutes cache-dir seed overwrite
        model-name-or-path revision profile config set
    """,
    "smoke": """
        audio-dir work-dir seed
    """,
    "bench": """
        size device precision reference-precision steps parts clip-seconds batch-seconds compile
        without-reference protection data audio-dir minutes hours json
    """,
    "plugins": """
        profile config set no-plugins
    """,
    "doctor": """
        fetch check what-fits open-speech device precision size minutes json model-name-or-path revision adapters
        profile config set
    """,
}
"""Every option of every task, in the order of its help. Whoever adds one or takes one away says so here."""
SEED = {
    "prepare": "manifest_path output_dir model_name_or_path max_duration_sec min_duration_sec num_workers",
    "train": """
        processed_dataset_path model_name_or_path output_dir num_train_epochs max_steps per_device_train_batch_size
        gradient_accumulation_steps learning_rate warmup_steps weight_decay logging_steps save_steps save_total_limit
        fp16 bf16 seed gradient_checkpointing dataloader_num_workers
        mask_time_prob mask_time_length mask_feature_prob mask_feature_length
    """,
}
"""The options of the reference workflow."""


@pytest.mark.parametrize("task", FROZEN)
def test_options_are_the_frozen_ones(task: str) -> None:
    """In this order, without repeats."""
    assert [option.flag.removeprefix("--") for option in options_of(task)] == FROZEN[task].split()
    assert list(HELP) == list(TASKS) == list(runyoro_ssl.TASKS) == list(FROZEN)


@pytest.mark.parametrize("task", SEED)
def test_options_of_the_reference_workflow_are_all_there(task: str) -> None:
    """By their names, with their defaults."""
    assert set(SEED[task].split()) <= {option.name for option in options_of(task)}
    defaults = Config()
    assert str(defaults.prepare.manifest_path) == "data/manifest/audio_manifest.jsonl"
    assert str(defaults.prepare.output_dir) == "data/processed/ssl_dataset"
    assert defaults.model.model_name_or_path == "facebook/wav2vec2-xls-r-300m"
    assert (defaults.prepare.max_duration_sec, defaults.prepare.min_duration_sec) == (15, 2)
    assert str(defaults.train.output_dir) == "models/ssl/runyoro-wav2vec2-xls-r-300m-continued-training"
    assert usual_output_dir("runyoro", "here/omni.pt").name == "runyoro-omni-continued-training"


@pytest.mark.parametrize("task", TASKS)
def test_every_option_says_what_it_does(task: str) -> None:
    """A help text, from the docstring of its field; its default, where it has one."""
    options = options_of(task)
    assert [option.name for option in options if not option.help] == []
    shown = {option.name: option.default for option in options}
    if task == "train":
        assert (shown["learning_rate"], shown["num_train_epochs"], shown["max_steps"]) == ("5e-05", "10", "")
        assert (shown["logging_steps"], shown["save_steps"]) == ("", "")  # by time and share


def test_choices_come_from_the_type() -> None:
    """Of a Literal; they are how help shows what can be given."""
    segment = next(option for option in options_of("prepare") if option.name == "segment")
    assert segment.choices == ("vad", "fixed", "none")
    assert segment.usage == "--segment=vad|fixed|none"


@pytest.mark.parametrize("task", [name for name, takes in TASKS.items() if takes.sections])
def test_every_flag_leads_to_its_field(task: str) -> None:
    """No option is parsed and not used: it is one of the task's own, or the field of a section that the task reads."""
    own = {name for schema in TASKS[task].own for name in schema.model_fields}
    own |= {field.name for schema in TASKS[task].plain for field in fields(schema)}
    for option in options_of(task):
        if option.name not in own:
            section, name = find_setting(task, option.name)
            marks = marks_of(section_type(section).model_fields[name])
            assert task in marks["flag_of"]


def test_every_setting_says_what_it_decides() -> None:
    """What must be made anew when it changes is not guessed; and every setting has a help text."""
    for section in Config.model_fields:
        for name, field in section_type(section).model_fields.items():
            assert marks_of(field)["decides"], f"{section}.{name} does not say what it decides"
            assert field.description, f"{section}.{name} has no docstring"


def test_what_decides_clips_is_where_prepare_looks_for_it() -> None:
    """A setting of another section that is marked so would be passed over."""
    marked = {
        f"{section}.{name}"
        for section in Config.model_fields
        for what in ("clips", "split")
        for name in deciding(what, section_type(section))
    }
    assert {name for name in marked if not name.startswith("prepare.")} == {"plugins.filters", "plugins.options"}
