"""`embed`: features of recordings, or units, for whoever studies them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyoro_ssl.commands.closing import close, command
from runyoro_ssl.commands.foreign import as_folder, warn_if_unheard
from runyoro_ssl.commands.given import own_options, resolve
from runyoro_ssl.commands.own import EmbedOptions
from runyoro_ssl.errors import EmbedError
from runyoro_ssl.logs import print_table

if TYPE_CHECKING:
    from runyoro_ssl.embed.run import Embedded

FEATURES, UNITS = Path("features.npz"), Path("units.csv")
"""What is written where nothing is said."""
MIN_UNITS, MAX_UNITS = 2, 10_000


def embed(**given: Any) -> Embedded:
    """Write features of recordings by a model, or the units that they go through.

    Args:
        **given: The options of the task, by name (`runyoro-ssl embed --help`), `files` among them; `profile`,
            `config`, `set`, and any setting of `hardware` and `model`.

    Returns:
        What was written, and where.

    Raises:
        RunyoroError: A recording, a model or an option that cannot be used: nothing is written.
    """
    options = own_options(EmbedOptions, given)
    config = resolve("embed", given)
    from runyoro_ssl.embed.run import Request, check_request
    from runyoro_ssl.embed.run import embed as run_embed

    units = _units(options.units)
    output = options.output or (FEATURES if units is None else UNITS)
    request = Request(
        files=options.files,
        output=output,
        layer=options.layer,
        units=units,
        window_sec=options.window_sec,
        seed=options.seed,
        overwrite=options.overwrite,
    )
    check_request(request)
    from runyoro_ssl.embed.encoder import load_encoder
    from runyoro_ssl.resolve import check_device

    check_device(config.hardware.device)
    model = config.model.model_copy(update={"model_name_or_path": as_folder(options.model)})
    warn_if_unheard(Path(model.model_name_or_path))
    return run_embed(request, load_encoder(config.model_copy(update={"model": model})))


def _units(asked: str | None) -> int | Path | None:
    """How many units, or the file that has them."""
    if asked is None:
        return None
    if not asked.lstrip("-").isdecimal():
        return Path(asked)
    if not MIN_UNITS <= int(asked) <= MAX_UNITS:
        raise EmbedError(f'--units is "{asked}": give {MIN_UNITS} to {MAX_UNITS}, such as 100, or a file ….centres.npz')
    return int(asked)


def show(result: Embedded, given: Mapping[str, Any]) -> None:
    """Print what was written, and how it is read, or used again."""
    layers = str(result.layers[0]) if len(result.layers) == 1 else f"{result.layers[0]} to {result.layers[-1]}"
    units = [] if result.num_units is None else [["units", str(result.num_units)]]
    rows = [["recordings", str(len(result.frames))], ["frames", str(sum(result.frames.values()))], ["layer", layers]]
    print_table("Heard", ["what", "how much"], [*rows, *units])
    again = next((path for what, path in result.files.items() if what.startswith("the same")), None)
    others = {name: given.get(name) for name in ("model", "profile", "set")}
    then = [("others by the same units", command("embed", "OTHER.wav", units=again, **others))] if again else []
    close(list(result.files.items()), then=then)
