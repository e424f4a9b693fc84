"""`datasets` as it is wanted here: without torchcodec, at once offline, and not patient for half an hour."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType

from runyoro_ssl.hub.place import hub_reachable
from runyoro_ssl.prepare.hub.address import HubAddress

STREAMING_RETRIES = 2
"""Times that `datasets` tries a read again, beside the client of the hub, which has tried for half a minute by then."""


@contextmanager
def set_up_libraries(address: HubAddress) -> Iterator[None]:
    """Settings of the libraries for which they have no arguments, while the block runs."""
    from datasets import config

    wanted = {
        "HF_HUB_OFFLINE": config.HF_HUB_OFFLINE or not (address.is_local or hub_reachable()),
        "STREAMING_READ_MAX_RETRIES": STREAMING_RETRIES,
        "STREAMING_OPEN_MAX_RETRIES": STREAMING_RETRIES,
    }
    before = {name: getattr(config, name) for name in wanted}
    vars(config).update(wanted)
    try:
        with _without_torchcodec():
            yield
    finally:
        vars(config).update(before)


def is_offline() -> bool:
    """Whether the libraries were set up to ask nobody."""
    from datasets import config

    return bool(config.HF_HUB_OFFLINE)


@contextmanager
def _without_torchcodec() -> Iterator[None]:
    """`datasets` wants torchcodec's encoder at hand for every row of a folder of files, and never uses it."""
    if find_spec("torchcodec"):
        yield
        return
    encoders = ModuleType("torchcodec.encoders")
    encoders.AudioEncoder = None  # type: ignore[attr-defined]
    sys.modules |= {"torchcodec": ModuleType("torchcodec"), encoders.__name__: encoders}
    try:
        yield
    finally:
        del sys.modules["torchcodec"], sys.modules[encoders.__name__]
