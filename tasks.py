"""The tasks of `invoke`, by the names of the user's card. `runyoro-ssl` has the same ones, from any folder.

What they do, and the options they take, stands in `runyoro_ssl/commands`.
"""

from runyoro_ssl.commands.program import adopt_invoke
from runyoro_ssl.commands.tasks import (
    bench,
    convert,
    doctor,
    donors,
    embed,
    evaluate,
    manifest,
    plugins,
    prepare,
    publish,
    runs,
    smoke,
    train,
)

__all__ = [
    "bench",
    "convert",
    "doctor",
    "donors",
    "embed",
    "evaluate",
    "manifest",
    "plugins",
    "prepare",
    "publish",
    "runs",
    "smoke",
    "train",
]

adopt_invoke()
