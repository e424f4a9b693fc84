"""What decides a prepared dataset: settings, versions and plugin files; and how two of them differ, in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from runyoro_ssl.config import Config, PrepareConfig
from runyoro_ssl.dataset.layout import FORMAT, SPLIT_BY
from runyoro_ssl.plugin.manager import Plugins
from runyoro_ssl.prepare.clips import CLIPS_VERSION
from runyoro_ssl.redaction import redact
from runyoro_ssl.setting import deciding

DECODING = ("soundfile", "av", "soxr", "silero-vad")
"""Libraries of which another version may give other samples, or other cuts: clips are then made anew."""
RECORDED = ("runyoro_ssl", "torch", "numpy", "datasets")
"""Libraries that are named in a fingerprint, and decide nothing. What this package decides, CLIPS_VERSION stands for;
torch and numpy compute the same but for the last digits, and datasets only writes."""


@dataclass(frozen=True)
class Differences:
    """How a dataset was made otherwise than is asked for, in words: `soxr 1.0.0 -> 1.1.0`.

    After those of `clips` all clips must be made anew; those of `split` only divide them otherwise.
    """

    clips: tuple[str, ...]
    split: tuple[str, ...]


def describe_origin(config: Config, plugins: Plugins, sampling_rate: int) -> dict[str, Any]:
    """Describe all but the input that decides a dataset; `clips_sha256` is over what decides its clips."""
    settings = config.prepare.model_dump(mode="json")
    used = config.plugins
    clips = {
        "format": FORMAT,
        "clips_version": CLIPS_VERSION,
        "sampling_rate": sampling_rate,
        "settings": {
            **{name: settings[name] for name in sorted(deciding("clips", PrepareConfig))},
            "filters": list(used.filters),
            "options": redact({name: used.options.get(name, {}) for name in used.filters}),
        },
        "plugin_files": plugins.sources("filter"),
        "versions": versions(DECODING),
    }
    split = {name: settings[name] for name in sorted(deciding("split", PrepareConfig))}
    return {**clips, "split": split, "clips_sha256": sha256_of(clips)}


def with_split_by(origin: Mapping[str, Any], split_by: str) -> dict[str, Any]:
    """The same origin with another word for what is held out, and the hash that follows from it."""
    changed = {name: value for name, value in origin.items() if name != "sha256"}
    changed["split"] = {**origin["split"], SPLIT_BY: split_by}
    return {**changed, "sha256": sha256_of(changed)}


def deciders_of_clips(origin: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an origin that decides its clips."""
    names = ("format", "clips_version", "sampling_rate", "settings", "plugin_files", "versions")
    return {name: origin[name] for name in names}


def versions(libraries: tuple[str, ...]) -> dict[str, str]:
    """The installed version of each library."""
    return {name: version(name) for name in libraries}


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> Differences:
    """Tell how an origin (or a fingerprint, or the settings beside shards) differs from the one that is asked for."""
    if "clips_version" not in before:
        who = before.get("versions", {}).get("runyoro_ssl", "of unknown version")
        words = f"it was written by runyoro_ssl {who}, before there was a CLIPS_VERSION"
        return Differences((f"{words} (train reads the dataset as it is)",), ())
    return Differences(
        _changes(_name_clip_deciders(before), _name_clip_deciders(now)),
        _changes(_name_settings(before.get("split", {})), _name_settings(now["split"])),
    )


def sha256_of(value: Any) -> str:
    """Hex digest of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _name_clip_deciders(origin: Mapping[str, Any]) -> dict[str, Any]:
    """What decides clips, a value under each name that a user knows."""
    settings = dict(origin.get("settings", {}))
    filters, options = settings.pop("filters", None), settings.pop("options", {})
    files = origin.get("plugin_files", {})
    libraries = origin.get("versions", {})
    return {
        "CLIPS_VERSION": origin.get("clips_version"),
        "format": origin.get("format"),
        "the model's sampling rate": origin.get("sampling_rate"),
        **_name_settings(settings),
        "plugins.filters": filters,
        **{f"plugins.options.{path}": value for path, value in _leaves(options)},
        **{f'the file of filter "{name}"': f"({digest[:8]})" for name, digest in files.items()},
        **{name: libraries[name] for name in DECODING if name in libraries},
    }


def _name_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {f"prepare.{name}": value for name, value in settings.items()}


def _leaves(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of all that is no dictionary."""
    for name, part in value.items():
        if isinstance(part, Mapping):
            yield from _leaves(part, f"{path}{name}.")
        else:
            yield f"{path}{name}", part


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """`name old -> new` of all that differs."""
    return tuple(
        f"{name} {_text(before.get(name))} -> {_text(now.get(name))}"
        for name in dict.fromkeys([*now, *before])
        if before.get(name) != now.get(name)
    )


def _text(value: Any) -> str:
    if value is None:
        return "(unset)"
    return value if isinstance(value, str) else json.dumps(value)
