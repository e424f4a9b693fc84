"""Whatever the hub, its libraries or a stranger's files raise, as one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from runyoro_ssl.errors import ManifestError, RunyoroError
from runyoro_ssl.hub.failures import Asked, chain_of, explain, first_line
from runyoro_ssl.prepare.hub.address import PARQUET, HubAddress

KEPT = "run the same again: what has come is kept"


@contextmanager
def told_in_a_line(address: HubAddress) -> Iterator[None]:
    """Raise what the libraries raise in this block as a ManifestError of one line.

    The block must hold their work only: no own mistake may hide here.
    """
    try:
        yield
    except RunyoroError:
        raise
    except Exception as error:  # noqa: BLE001 - half a dozen libraries, at work on what a stranger has written
        raise ManifestError(f"{address}: {_explain(address, error)}") from None


def _explain(address: HubAddress, error: BaseException) -> str:
    """What went wrong, and what to do."""
    asked = Asked("dataset", address.name, address.revision or "main", KEPT)
    if said := explain(asked, error):
        return said
    chain = chain_of(error)
    if script := next((said for cause in chain if (said := _of_script(address, cause))), None):
        return script
    offline = "" if address.is_local else ". Offline, only what was fetched before is at hand"
    return f"cannot be loaded ({first_line(chain[-1])}); check the name, the configuration and the split{offline}"


def _of_script(address: HubAddress, error: BaseException) -> str | None:
    """Its data come by a script."""
    if not (isinstance(error, RuntimeError) and "scripts are no longer supported" in str(error)):
        return None
    if address.is_local:
        return "its data come by a script, and scripts are not run; give the folder of its recordings or parquet files"
    way_out = replace(address, revision=PARQUET)
    return f"its data come by a script, and scripts are not run; take what the hub has converted: '{way_out}'"
