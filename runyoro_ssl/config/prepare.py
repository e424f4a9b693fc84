"""The settings from a manifest to a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import PositiveFloat, model_validator

from runyoro_ssl.setting import PathOrAddress, Section, Seed, setting


class PrepareConfig(Section):
    """From a manifest to a dataset on disk."""

    manifest_path: PathOrAddress = setting("data/manifest/audio_manifest.jsonl", decides="nothing", flag_of="prepare")
    """JSON Lines, or a Hugging Face audio dataset: `hf://org/name?config=...&split=...&revision=...&column=...`."""
    output_dir: Path = setting(Path("data/processed/ssl_dataset"), decides="nothing", flag_of="prepare")
    """Dataset to write."""
    max_hours: PositiveFloat | None = setting(None, decides="nothing", flag_of="manifest prepare")
    """Hours of audio at most: whole recordings, drawn by `seed` evenly over speakers. Not set: all there is."""
    max_duration_sec: float = setting(15.0, decides="clips", flag_of="prepare", ge=0.1, le=3600.0)
    """No clip is longer; what is gets cut, as `segment` says."""
    min_duration_sec: float = setting(2.0, decides="clips", flag_of="prepare", ge=0.05)
    """Shorter clips and pieces are dropped by the `duration` filter."""
    segment: Literal["vad", "fixed", "none"] = setting("vad", decides="clips", flag_of="prepare")
    """What becomes of recordings over `max_duration_sec`. `vad`: clips of speech, cut at pauses, and the rest is left
    out; `fixed`: pieces of the maximum, nothing is left out; `none`: they are dropped."""
    vad_threshold: float = setting(0.5, decides="clips", gt=0.0, lt=1.0)
    """Probability from which 32 ms count as speech."""
    speech_pad_sec: float = setting(0.2, decides="clips", ge=0.0, le=1.0)
    """Kept before and after speech, so that no consonant is clipped."""
    max_pause_sec: float = setting(1.0, decides="clips", ge=0.0, le=10.0)
    """Longer pauses separate clips; shorter ones may stay inside."""
    max_recording_sec: PositiveFloat = setting(86_400.0, decides="clips")
    """A file that decodes to more is refused: no header or compression bomb costs more than this."""
    time_limit_sec: PositiveFloat = setting(60.0, decides="nothing")
    """A file whose decoding stands still for so long is dropped."""
    allow_outside: bool = setting(default=False, decides="nothing", flag_of="prepare")
    """Accept manifest lines whose relative path leaves the manifest's folder, by `..` or a link."""
    executor: str = setting("processes", decides="nothing", flag_of="prepare")
    """Where the work runs: `processes` here, `dask://HOST:PORT`, `slurm`, or what a plugin offers."""
    shard_seconds: PositiveFloat = setting(600.0, decides="nothing")
    """Stated audio of one unit of work. Changes nothing in the result."""
    keep_shards: bool = setting(default=True, decides="nothing")
    """Keep what each unit of work gave beside the dataset, so that a grown manifest costs only what is new."""
    validation_share: float = setting(0.05, decides="split", gt=0.0, lt=0.5)
    """Share of the kept seconds to hold out, as nearly as whole groups allow."""
    split_by: Literal["auto", "speaker", "recording"] = setting("auto", decides="split")
    """What the splits never share. `speaker` also keeps recordings apart; `auto` is that where two speakers or more are
    told apart, else `recording`."""
    seed: Seed = setting(0, decides="split")
    """Chooses which groups are held out, and what `max_hours` draws."""

    @model_validator(mode="after")
    def _minimum_fits(self) -> Self:
        if self.min_duration_sec > self.max_duration_sec:
            raise ValueError(
                f"min_duration_sec {self.min_duration_sec:g} is above max_duration_sec {self.max_duration_sec:g}; "
                "no clip could pass"
            )
        return self
