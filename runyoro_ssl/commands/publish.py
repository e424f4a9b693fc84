"""`publish`: the final model of a run to the Hugging Face hub."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runyoro_ssl import logs
from runyoro_ssl.commands.closing import close, command
from runyoro_ssl.commands.given import own_options
from runyoro_ssl.commands.own import PublishOptions
from runyoro_ssl.errors import PublishError

if TYPE_CHECKING:
    from runyoro_ssl.publish.parcel import Parcel
    from runyoro_ssl.publish.refusals import Destination
    from runyoro_ssl.publish.upload import HubPlace

YES = ("y", "yes")


@dataclass(frozen=True)
class Published:
    """What was published, or would be. `sizes`: bytes by file; `address` and `commit`: None where nothing was sent."""

    repo_id: str
    sizes: Mapping[str, int]
    licence: str | None
    address: str | None = None
    commit: str | None = None
    must_decide: str | None = None
    """What has to be found out about the licence before it can be sent."""


def publish(**given: Any) -> Published:
    """Send the final model of a run to the hub: weights, config.json, preprocessor_config.json and card, nothing else.

    Args:
        **given: The options of the task, by name (`runyoro-ssl publish --help`). Where there is no terminal to ask,
            `yes=True` is needed.

    Returns:
        What was sent, and its address; with `dry_run`, what would be: nothing is then asked of the hub.

    Raises:
        RunyoroError: What cannot be published, or was not taken: nothing is then visible on the hub.
    """
    options = own_options(PublishOptions, given, alone=True)
    from runyoro_ssl.publish.parcel import pack
    from runyoro_ssl.publish.upload import check_place, check_target, check_token, look, send

    target = check_target(options.repo_id, options.branch)
    parcel = pack(options.run, target.repo_id, licence=options.licence)
    if options.dry_run:
        missing = None if options.private else parcel.must_decide
        return Published(target.repo_id, parcel.sizes, parcel.licence, must_decide=missing)
    check_token(target)
    place = look(target)
    check_place(target, place, parcel, private=options.private, overwrite=options.overwrite)
    _ask(target, place, parcel, options)
    sent = send(target, place, parcel, private=options.private, message=options.message)
    return Published(target.repo_id, parcel.sizes, parcel.licence, sent.address, sent.commit)


def _ask(target: Destination, place: HubPlace, parcel: Parcel, options: PublishOptions) -> None:
    """Show what would be sent, and go on only if that is wanted."""
    who = "you and your organisation alone" if options.private or place.is_private else "everybody"
    about = [["branch", target.branch], ["model", "there already" if place.exists else "new"], ["for", who]]
    _show_files(f"To {target.repo_id}", parcel.sizes, parcel.licence, about)
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise PublishError(f"{target.repo_id}: nobody can be asked here whether to send that; add --yes if you want it")
    sys.stderr.write("Send that? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in YES:
        raise PublishError(f"{target.repo_id}: nothing was sent, as you wished")


def _show_files(title: str, sizes: Mapping[str, int], licence: str | None, about: Sequence[list[str]] = ()) -> None:
    from runyoro_ssl.hub.place import amount

    rows = [[name, amount(num_bytes)] for name, num_bytes in sizes.items()]
    logs.print_table(title, ["what", "how much"], [*rows, ["licence", licence or "none is stated"], *about])


def show(result: Published, given: Mapping[str, Any]) -> None:
    """Print what would be sent, and how; or where it now is."""
    if result.address is None:
        _show_files(f"For {result.repo_id}", result.sizes, result.licence)
        if result.must_decide:
            logs.print_lines(
                [f"to send it, its licence must be settled (--licence), or --private: {result.must_decide}"]
            )
        close(then=[("publish", command("publish", **{**given, "dry_run": None}))])
        return
    close(
        [
            ("model", result.address),
            ("exactly this", result.commit),
            ("use it in Python", f'Wav2Vec2ForPreTraining.from_pretrained("{result.repo_id}")'),
        ]
    )
