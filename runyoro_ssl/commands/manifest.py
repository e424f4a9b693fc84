"""`manifest`: a folder of recordings to a list of those that can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runyoro_ssl import logs
from runyoro_ssl.commands.given import own_options, resolve
from runyoro_ssl.commands.options import ManifestOptions

if TYPE_CHECKING:
    from runyoro_ssl.prepare.scan import Scan


def manifest(**given: Any) -> Scan:
    """List the readable recordings of a folder, with their real durations.

    Args:
        **given: The options of the task, by name: `audio_dir`, `output`, `speaker_from`, `overwrite`, `num_workers`,
            `set`.

    Returns:
        What was found, and where it is listed.

    Raises:
        RunyoroError: Something that you can mend.
    """
    from runyoro_ssl.prepare.scan import scan

    options = own_options(ManifestOptions, given)
    config = resolve("manifest", given)
    return scan(
        options.audio_dir,
        options.output,
        speaker_from=options.speaker_from,
        overwrite=options.overwrite,
        config=config,
    )


def show(found: Scan) -> None:
    """Print what was found, and where the rejected files are listed."""
    rows = [
        ["recordings", f"{found.num_files}"],
        ["audio", f"{found.seconds / 3600:.2f} h"],
        ["speakers", f"{found.num_speakers} ({found.num_without_speaker} recordings without)"],
        *([["damaged, used as far as they go", str(found.num_flawed)]] if found.num_flawed else []),
        *([f"rejected: {reason}", str(count)] for reason, count in found.rejected_by_reason.most_common()),
        ["other files", str(found.num_other)],
    ]
    logs.print_table(f"{found.output}", ["what", "count"], rows)
    if found.rejected:
        logs.get_logger().info("rejected_files_listed", path=str(found.rejected_path))
