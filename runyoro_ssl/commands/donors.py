"""`donors`: speech of other languages that is near the target's, chosen clip by clip, as a dataset to train on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from runyoro_ssl.commands.closing import close, command
from runyoro_ssl.commands.foreign import hear_first, with_folder
from runyoro_ssl.commands.given import own_options, resolve
from runyoro_ssl.commands.own import DonorsOptions
from runyoro_ssl.errors import DonorsError
from runyoro_ssl.logs import get_logger, print_table

if TYPE_CHECKING:
    from runyoro_ssl.donors.found import Donors

COLUMNS = ["speech", "there is", "similarity", "95 %", "nearness", "it is", "taken"]


def donors(**given: Any) -> Donors:
    """Choose the clips of some datasets that are nearest to a target, and write them as a dataset.

    Args:
        **given: The options of the task, by name (`runyoro-ssl donors --help`), and any setting of `model`, `hardware`
            and `prepare`; `profile`, `config`, `set`.

    Returns:
        How near each language and speaker is, and what was taken.

    Raises:
        RunyoroError: Something that you can mend.
    """
    options = own_options(DonorsOptions, given)
    if options.target is None:
        raise DonorsError("no target is given: --target DATASET, the prepared speech that donors are wanted for")
    if not options.pool:
        raise DonorsError("no pool is given: --pool DATASET, once for each dataset to choose from")
    config = resolve("donors", given)
    from runyoro_ssl.dataset.read import read_fingerprint
    from runyoro_ssl.disk.ours import refuse_unwritable
    from runyoro_ssl.donors.request import LOG_MEL, DonorsRequest
    from runyoro_ssl.donors.run import find_donors
    from runyoro_ssl.donors.write import check_output
    from runyoro_ssl.model.listener import to_listen
    from runyoro_ssl.model.source import base_folder
    from runyoro_ssl.resolve import check_device

    check_output(options.output_dir, overwrite=options.overwrite)
    refuse_unwritable(options.cache_dir, "--cache-dir")
    for dataset in (options.target, *options.pool):
        read_fingerprint(dataset)  # before a model is fetched
    check_device(config.hardware.device)
    name = config.model.model_name_or_path
    layer = _layer(options.layer)
    if layer != LOG_MEL:
        config = with_folder(config)
        hear_first(config, options.target)
    request = DonorsRequest(
        target=options.target,
        pools=options.pool,
        hours=options.hours,
        output_dir=options.output_dir,
        base=name if layer == LOG_MEL else base_folder(config.model, "config", "extractor", "weights"),
        base_name=Path(name).resolve().name if Path(name).exists() else name,  # a path is for nobody else
        revision=config.model.revision,
        hardware=to_listen(config.hardware),
        layer=layer,
        num_units=options.num_units,
        max_speaker_share=options.max_speaker_share,
        max_target_minutes=options.max_target_minutes,
        cache_dir=options.cache_dir,
        prepare=config.prepare,
        seed=options.seed,
        overwrite=options.overwrite,
    )
    return find_donors(request)


def _layer(asked: str | None) -> int | Literal["log-mel"] | None:
    """Of a word."""
    from runyoro_ssl.donors.request import LOG_MEL

    if asked is None:
        return None
    if asked == LOG_MEL:
        return LOG_MEL
    if not asked.isdecimal():
        raise DonorsError(f'--layer is "{asked}": give the number of a layer, or {LOG_MEL}')
    return int(asked)


def show(found: Donors, given: Mapping[str, Any]) -> None:
    """Print how near the pools are, what is doubtful, what was made, and what comes next."""
    from runyoro_ssl.dataset.layout import PAGE
    from runyoro_ssl.donors.page import DONORS_PAGE

    title = f"Near {found.target}: {found.minutes_heard:.1f} min heard, {found.heard_as}, {found.num_units} units"
    print_table(title, COLUMNS, rows(found))
    for warning in found.warnings:
        get_logger().warning("donors", note=warning)
    flags = {name: given.get(name) for name in ("profile", "model_name_or_path", "revision")}
    close(
        [
            ("dataset", found.output_dir),
            ("how near, in a browser", found.output_dir / DONORS_PAGE),
            ("listen to what was taken", found.output_dir / PAGE),
        ],
        then=[("train on both", command("train", set=both(given["target"], found.output_dir), **flags))],
    )


def both(target: str | Path, chosen: str | Path) -> str:
    """The setting of a run on a target and its donors, by their folders."""
    paths = ", ".join(f"{{path = {json.dumps(str(path))}}}" for path in (target, chosen))
    return f"train.sources=[{paths}]"


def rows(found: Donors) -> list[list[str]]:
    """The table: the target's other half, the languages, the nearest first, and the target's shuffled units."""
    interval = _interval(found.own_low, found.own_high)
    nearness = ("1.00", "0.00") if found.tells else ("not known", "not known")
    own = ["the target's other half", "", f"{found.own:.2f}", interval, nearness[0], "", ""]
    floor = ["its units in random order", "", f"{found.shuffled:.2f}", "", nearness[1], "", ""]
    pools = [
        [
            one.name,
            f"{one.hours:.2f} h",
            "too little" if one.similarity is None else f"{one.similarity:.2f}",
            _interval(one.low, one.high),
            "not known" if one.nearness is None else f"{one.nearness:.2f}",
            one.reading,
            f"{one.hours_chosen:.2f} h",
        ]
        for one in found.languages
    ]
    return [own, *pools, floor]


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.2f} to {high:.2f}"
