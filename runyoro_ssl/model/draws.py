"""Randomness that depends on nothing but its key: not on order, workers, processes or what ran before."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(*key: int | str) -> int:
    """A 63-bit seed from a key, e.g. (seed, epoch, clip, "mask"). The same on every machine."""
    digest = hashlib.blake2b("\0".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def derive_generator(*key: int | str) -> torch.Generator:
    """A CPU generator whose seed is derived from a key."""
    return torch.Generator().manual_seed(derive_seed(*key))
