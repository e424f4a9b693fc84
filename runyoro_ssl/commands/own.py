"""The options of each task that are no settings: a field each, with its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from runyoro_ssl.config import PrepareConfig, TrainConfig
from runyoro_ssl.config.recipe import RecipeChoice
from runyoro_ssl.setting import PathOrAddress, Section

NameOrNumber = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
"""A column of a table; from a notebook, a number may come as one."""
Files = Annotated[tuple[Path, ...], BeforeValidator(lambda value: [value] if isinstance(value, str | Path) else value)]
"""From a notebook, one may come without a list."""
UnitsOrFile = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int | Path) else value)]
"""From a notebook, a number or a path may come as one."""


class ManifestOptions(Section):
    """Recordings and manifest."""

    audio_dir: Path = Path("recordings")
    """Folder of recordings, walked recursively."""
    output: Path = Path(PrepareConfig().manifest_path)
    """Manifest to write."""
    speaker_from: str | None = None
    """Who speaks, by the path below --audio-dir: `folder` (the first), `parent` (the last), `name` (the file's, up to
    its first - _ . or blank); or a regular expression whose group is the speaker: '^([^/]+)/'"""
    overwrite: bool = False
    """Replace an existing manifest."""
    table: Path | None = None
    """CSV or TSV file, or data folder of Kaldi, that says who speaks in which file; only files it names are wanted."""
    path_column: NameOrNumber | None = None
    """Column that has the file: its name in the header, or its number from 1 in a table without one."""
    speaker_column: NameOrNumber | None = None
    """Column that has the speaker."""
    text_column: NameOrNumber | None = None
    """Column that has what is said."""
    language_column: NameOrNumber | None = None
    """Column that has the language."""
    recording_column: NameOrNumber | None = None
    """Column that has the recording which splits keep together. Not given: each file is one."""
    licence_column: NameOrNumber | None = None
    """Column that has the licence."""
    start_column: NameOrNumber | None = None
    """Column that has where in the file the row's part begins: seconds, or h:m:s."""
    end_column: NameOrNumber | None = None
    """Column that has where it ends."""
    licence: str | None = None
    """Licence of all recordings for which the table has no other."""


class PrepareOptions(Section):
    """What this call does."""

    dry_run: bool = False
    """Only say what each filter would drop. What is decoded for it is kept for the real run."""
    overwrite: bool = False
    """Replace an existing dataset."""


class TrainOptions(Section):
    """What this call does."""

    dry_run: bool = False
    """Only say what the run would be, how long it would take, and whether memory and disks hold it. Writes nothing."""
    recipe: RecipeChoice | None = None
    """Settings that others found good for so much speech: `minutes` (under 1 h), `hours` (under 20 h), `days`;
    `auto`: by what the dataset has. Each is printed with its source; any option replaces it. Not given: as usual."""


class SmokeOptions(Section):
    """What is tried."""

    audio_dir: Path | None = None
    """Real recordings to use instead of synthetic speech."""
    work_dir: Path | None = None
    """New folder to keep everything in. Not given: a temporary one."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the corpus, the weights and the run."""


class DoctorOptions(Section):
    """What is done beside looking."""

    fetch: bool = False
    """Fetch the base model into the hub's cache, for a place without a network."""
    check: bool = False
    """Compute and learn on the device for some minutes, and say what is right, what is wrong and what is slow."""
    what_fits: bool = False
    """Say which XLS-R fits on which Mac or GPU, by the way it is trained, and how fast that may be."""
    open_speech: bool = False
    """Ask the hub whether open speech near Runyoro, for `donors`, is where it was, and under which licence."""


class RunsOptions(Section):
    """Runs."""

    one: Path | None = None
    """A run's folder: with another one, they are compared."""
    other: Path | None = None
    """The other."""
    folder: Path = TrainConfig().output_dir.parent
    """Where runs are looked for, in folders below, too."""


class EvaluateOptions(Section):
    """What is compared."""

    adapted: Path = TrainConfig().output_dir
    """Folder of the adapted model: a run, a checkpoint, or any model as transformers writes it."""
    base: Path | None = None
    """The model it is compared with: its folder, or its name on the hub. Not given: the one that the run began with."""
    data: Path | None = None
    """Prepared dataset whose held-out clips are heard. Not given: that of the run."""
    other_data: Path | None = None
    """Prepared dataset of another language: is it forgotten? Not given: what the run replayed, if it did."""
    alignments: Path | None = None
    """Folder of phone alignments (.phn, .TextGrid, .eaf), named like the recordings."""
    tier: str | None = None
    """Tier of a .TextGrid or .eaf that has the phones. Not given: the only one called phones, phonemes or segments."""
    transcripts: bool = False
    """Use the text of the manifest: how well is it read from frozen features?"""
    run: Path | None = None
    """Folder of a run: every checkpoint of it is measured, too, and --adapted is its final model unless given."""
    interpolate: str | None = None
    """Shares of the adapted model in mixtures with the base, such as 0.25,0.5,0.75, that are measured, too."""
    average: str | None = None
    """last-N: the mean of the run's last N checkpoints is measured, too."""
    save_best: Path | None = None
    """Folder to save the best of checkpoints and mixtures in, as a plain model."""
    max_minutes: float = Field(10.0, gt=0.0, le=600.0)
    """Held-out speech that is heard, spread over speakers and recordings."""
    output_dir: Path | None = None
    """Folder for evaluation.json and report.html. Not given: that of the adapted model."""
    no_audio: bool = False
    """Leave voices out of report.html, to share it."""
    cache_dir: Path = Path("data/features")
    """Folder in which features are kept, for another evaluation; at most 8 GiB."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Decides which clips of a recording come first."""


class PublishOptions(Section):
    """What is sent, and where."""

    repo_id: str | None = None
    """Where it shall be on the hub: ORG/NAME, of yourself or of an organisation."""
    run: Path = TrainConfig().output_dir
    """Folder of a finished run; or any folder with a model and its card."""
    dry_run: bool = False
    """Only say what would be sent. The hub is not asked."""
    private: bool = False
    """For yourself and your organisation alone. Not given: for everybody."""
    licence: str | None = None
    """Licence of the model, by the hub's name of it. Not given: what base model and recordings ask for; to show a model
    to everybody, it is needed where that is not known."""
    branch: str = "main"
    """Branch to send to; made if it is not there."""
    message: str = Field("Adapted model", min_length=1)
    """What the hub's history says of it."""
    overwrite: bool = False
    """Replace the files of another model of that name."""
    yes: bool = False
    """Do not ask before sending."""


class EmbedOptions(Section):
    """What is heard, and what comes of it."""

    files: Files = ()
    """Recordings, in nearly any format."""
    model: PathOrAddress = str(TrainConfig().output_dir)
    """Folder of a model, or its name on the hub."""
    layer: NameOrNumber | None = None
    """Layer of the Transformer, 0 (its input) to the last; or last; or all. Not given: two thirds of the way up, where
    speech sounds are told apart best."""
    output: Path | None = None
    """What is written: .npz (arrays by recording) or .parquet (a row for each frame); with --units also .csv: units
    alone. Not given: features.npz; with --units units.csv."""
    units: UnitsOrFile | None = None
    """Label each frame with one of so many units, found in these recordings by k-means; or with those of a file
    ….centres.npz, which an earlier call has written."""
    overwrite: bool = False
    """Replace what is there."""
    window_sec: float = Field(30.0, ge=8.0, le=600.0)
    """Longer recordings are heard in windows of so many seconds, which overlap by a third: memory follows from it."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the k-means."""


class DonorsOptions(Section):
    """What is compared, and how much is taken."""

    target: Path | None = None
    """Prepared dataset of the language that donors are wanted for. What it holds out chooses nothing."""
    pool: Files = ()
    """Prepared datasets to choose from; each may have --pool before it. What they hold out stays held out."""
    hours: float = Field(60.0, gt=0.0)
    """Hours to take, the nearest clips first."""
    output_dir: Path = Path("data/processed/donors")
    """Dataset to write."""
    layer: NameOrNumber | None = None
    """Layer of the Transformer that is heard; or log-mel: spectra, with no model, far quicker. Not given: the
    middle one."""
    num_units: int = Field(100, ge=10, le=200)
    """Acoustic units, found on the target by k-means."""
    max_speaker_share: float = Field(0.1, gt=0.0, le=1.0)
    """Of --hours, that one speaker, or one recording, gives at most."""
    max_target_minutes: float = Field(30.0, gt=0.0, le=600.0)
    """Speech of the target that is heard, spread over speakers and recordings."""
    cache_dir: Path = Path("data/features")
    """Folder in which units of clips are kept, to go on with: 0.2 MB for each hour."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Of the k-means, and of all else that is drawn."""
    overwrite: bool = False
    """Replace donors that are there."""


class ConvertOptions(Section):
    """What is converted."""

    file: Path | None = None
    """The .pt that fairseq2 or fairseq wrote, e.g. omniASR-W2V-300M.pt."""
    output_dir: Path | None = None
    """Folder to write. Not given: beside the file, and named like it."""
    data: Path | None = None
    """Prepared dataset of your own speech: a minute of it says whether the model hears, and whether clips are to be
    normalised. Not given: `train` does that before its first step."""
    num_heads: int | None = Field(None, ge=1, le=128)
    """Of attention, which no weight says. Not given: those of the published model of that width."""


class PrecisionOptions(Section):
    """Precision; replaces the profile's."""

    fp16: bool | None = None
    """Half precision with loss scaling."""
    bf16: bool | None = None
    """bfloat16."""


class SourceOptions(Section):
    """Where settings come from: defaults < profile < file < --set < options."""

    profile: str | None = None
    """What the machine can do, or a TOML file of that. Not given: `train` and `doctor` take that of the best device."""
    config: Path | None = None
    """TOML file with settings of any section, such as a run.toml."""
    set: tuple[str, ...] = ()
    """Any setting of runyoro_ssl/config/, e.g. train.max_grad_norm=0.5; a value is TOML. Repeatable."""


class FilelessSourceOptions(Section):
    """Where settings come from: defaults < --set < options."""

    set: tuple[str, ...] = ()
    """Any setting of runyoro_ssl/config/, e.g. prepare.max_recording_sec=7200; a value is TOML. Repeatable."""
