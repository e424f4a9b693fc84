"""Which devices this machine has, and which profile suits it."""

from __future__ import annotations

from runyoro_ssl.errors import ConfigError
from runyoro_ssl.resolve import list_profiles, profile_device

PREFERENCE = ("cuda", "mps", "cpu")


def available_devices() -> list[str]:
    """Devices torch can use here, the best first."""
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [device for device in PREFERENCE if present[device]]


def best_profile() -> str:
    """The first profile for the best device present."""
    best = available_devices()[0]
    for name, path in list_profiles().items():
        if profile_device(path) == best:
            return name
    raise ConfigError(f"no profile is for {best}, the device of this machine; give one with --profile FILE.toml")


def check_device(device: str) -> None:
    """Raise ConfigError, naming the profiles that would work, if the device is absent."""
    present = available_devices()
    if device not in present:
        working = [name for name, path in list_profiles().items() if profile_device(path) in present]
        raise ConfigError(
            f"device {device} is not present on this machine ({', '.join(present)}); "
            f"profiles that work here: {', '.join(working)}"
        )
