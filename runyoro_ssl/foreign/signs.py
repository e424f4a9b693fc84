"""Models that are not in transformers' format, told by what they hold: of fairseq, fairseq2, or a mere adapter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from runyoro_ssl.small_files import read_small

SIGNS = {
    "fairseq2": (b"encoder_frontend.", b"final_target_proj."),
    "fairseq": (b"post_extract_proj.", b"encoder.pos_conv.0.", b"w2v_encoder."),
}
"""In the names of weights of one toolkit only; transformers has none of them."""
NAMES_BYTES = 8 << 20
"""A checkpoint of torch begins with all names, before the first number."""
CHECKPOINTS = ("*.pt", "*.pth", "*.bin", "*/*.pt", "model/*/*/*.pt", "*/model/*/*/*.pt")
"""Where fairseq and fairseq2 leave theirs, below the folder of a run."""
MOST_LOOKED_AT = 20
ADAPTER = "adapter_config.json"


def describe_toolkit(path: Path) -> str | None:
    """Say whose checkpoint a file is, or what a folder holds, if it is of fairseq or fairseq2; else None."""
    files = [path] if path.is_file() else _checkpoints_in(path)
    for _, file in zip(range(MOST_LOOKED_AT), files, strict=False):
        if toolkit := toolkit_of(file):
            what = f"is a checkpoint of {toolkit}" if file == path else f"holds a checkpoint of {toolkit} ({file.name})"
            return (
                f"{what}, which transformers does not read; `invoke convert {file}` makes a folder that it reads, if "
                "that is a pre-trained model and no recogniser"
            )
    return None


def is_foreign(model_name_or_path: str) -> bool:
    """Whether a model is given as a file of fairseq or fairseq2."""
    path = Path(model_name_or_path)
    return path.is_file() and toolkit_of(path) is not None


def _checkpoints_in(folder: Path) -> Iterator[Path]:
    for pattern in CHECKPOINTS:
        yield from (path for path in sorted(folder.glob(pattern)) if path.is_file())


def toolkit_of(file: Path) -> str | None:
    """The toolkit whose names stand at the beginning of a file of weights, if that is not transformers."""
    with file.open("rb") as opened:
        names = opened.read(NAMES_BYTES)
    return next((toolkit for toolkit, signs in SIGNS.items() if any(sign in names for sign in signs)), None)


def describe_adapter(folder: Path) -> str | None:
    """Say of which base model a folder holds an adapter only; None if it holds none."""
    if not (folder / ADAPTER).is_file():
        return None
    try:
        base = json.loads(read_small(folder / ADAPTER)).get("base_model_name_or_path")
    except (ValueError, AttributeError):
        base = None
    return (
        f"holds an adapter ({ADAPTER}), not a model: give its base{f' ({base})' if base else ''}, or a folder into "
        "which peft's merge_and_unload() was saved"
    )
