"""Addresses of datasets: what they name, and those that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runyoro_ssl.errors import ConfigError
from runyoro_ssl.prepare.hub.address import HubAddress

SECRET = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345"  # noqa: S105 - looks like one


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hf://org/name", HubAddress("org/name", None, "train")),
        ("hf://org/name?config=nyo&split=validation", HubAddress("org/name", "nyo", "validation")),
        ("hf://org/name/?split=test+train", HubAddress("org/name", None, "test+train")),
        ("hf://org/name?revision=refs/convert/parquet", HubAddress("org/name", None, "train", "refs/convert/parquet")),
        ("hf://org/name?column=near&config=", HubAddress("org/name", None, "train", None, "near")),
    ],
)
def test_address(address: str, expected: HubAddress) -> None:
    """Name, configuration, split, revision, column; written again, it is the same."""
    assert HubAddress.parse(address) == expected
    assert HubAddress.parse(str(expected)) == expected


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("hf://", "no dataset is named"),
        ("hf://org/name?splits=train", r'no option "splits" \(did you mean "split"\?\)'),
        ("hf://?x=1", 'no option "x"; there are config, split, revision, column'),
        ("hf://org/name?split=train[:10%]", r'split "train\[:10%\]" is no name of a split; .*--max-hours'),
        ("hf://name", "a dataset of the hub is org/name"),
        ("hf://org/name/data", "a dataset of the hub is org/name"),
        ("hf:///no/such/folder", "/no/such/folder.*no such folder"),
        ("hf://./no-such", "no such folder"),
        ("hf://[org/name", "Invalid IPv6 URL"),
        (f"hf://tester:{SECRET}@org/name", "credentials do not belong in it; log in once by `hf auth login`"),
    ],
)
def test_impossible_address(address: str, complaint: str) -> None:
    """What is wrong with it, and how it is written."""
    with pytest.raises(ConfigError, match=complaint):
        HubAddress.parse(address)


def test_folder_has_no_revision(tmp_path: Path) -> None:
    """It would be read, and not be used."""
    with pytest.raises(ConfigError, match="a folder has no revisions; leave revision away"):
        HubAddress.parse(f"hf://{tmp_path}?revision=main")


@pytest.mark.parametrize("address", [f"hf://tester:{SECRET}@org/name", f"hf://org/name?token={SECRET}"])
def test_secret_in_an_address_is_not_shown(
    address: str, run_task: Callable[[str], tuple[int, str, str]], tmp_path: Path
) -> None:
    """In one line, with status 1, and nothing is written."""
    status, out, err = run_task(f"prepare --manifest-path {address} --output-dir {tmp_path}/d")
    assert status == 1
    assert SECRET not in out + err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())
