"""What is known to be wrong with MPS, as a table: on which chips, in which torch, and what is done about it here.

docs/mps.md shows it; `invoke doctor` says which of it holds for the machine. Read in pytorch's issues up to October
2026, not tried: no Mac was at hand.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

from packaging.version import Version

ISSUES = "https://github.com/pytorch/pytorch/issues/"
M1_M2 = ("M1", "M2")


@dataclass(frozen=True)
class MpsFault:
    """A fault of MPS.

    Attributes:
        issues: Numbers in pytorch's tracker, the first the one to read.
        what: What goes wrong, and how: silently, with an error, or slowly.
        since, until: The torch versions that have it: from the one to before the other; None where no end, or no
            beginning, is known.
        chips: Families of chips, as `M1`; none for all.
        answer: What is done about it here.
    """

    issues: tuple[int, ...]
    what: str
    answer: str
    since: str | None = None
    until: str | None = None
    chips: tuple[str, ...] = ()

    def holds(self, torch_version: str, chip: str | None) -> bool:
        """Whether a machine has it. An unknown chip has all."""
        version = Version(Version(torch_version).base_version)
        begun = self.since is None or version >= Version(self.since)
        over = self.until is not None and version >= Version(self.until)
        return begun and not over and (not self.chips or chip is None or chip in self.chips)

    def versions(self) -> str:
        """Its torch versions, in words."""
        if self.since and self.until:
            return f"{self.since} to before {self.until}"
        if self.until:
            return f"before {self.until}"
        return f"from {self.since}" if self.since else "all"


FAULTS = (
    MpsFault(
        (177116, 193487, 195163),
        "silently wrong by 10 to 30 %: matrix products that sum over 32,767 numbers or more",
        "the feature encoder's weight gradients are summed in parts of 32,766 rows; longer micro-batches are refused",
        until="2.14",
        chips=M1_M2,
    ),
    MpsFault(
        (195163, 195012),
        "silently wrong: the same of batches of products (bmm), which 2.14 did not mend",
        "none here is so long: they sum over the frames of a clip, or over features",
        since="2.14",
        chips=M1_M2,
    ),
    MpsFault(
        (198182, 183535),
        "slow, 6 to 10 times: what 2.14 does instead for such products",
        "the parts are short enough for the fast way",
        since="2.14",
        chips=M1_M2,
    ),
    MpsFault(
        (189495,),
        "silently wrong: linear with bias, of a batch dimension over 65,536",
        "a batch dimension here counts clips; products of 65,536 rows or more get their bias in a step of its own",
        since="2.12",
        until="2.14",
    ),
    MpsFault(
        (188438,),
        "silently without bias: linear over sequences of a single row, on macOS 26",
        "no sequence here is so short: a clip that is masked has two masked frames or more",
        until="2.14",
        chips=("M1",),
    ),
    MpsFault(
        (192212,),
        "silently wrong: convolutions of a weight with gaps, on macOS 15 and newer",
        "the feature encoder is matrix products; the inputs and weights of the other convolutions have no gaps",
    ),
    MpsFault(
        (152278, 134416),
        "an error: a dimension of a convolution over 65,536",
        "clips over 20.48 s are refused",
    ),
    MpsFault(
        (189690, 139550),
        "silently wrong: a copy to the device that is not waited for may read what was freed",
        "every copy to the device is waited for",
    ),
    MpsFault(
        (179294,),
        "much memory: scaled_dot_product_attention has no backward pass of its own",
        "the memory prediction counts attention's probabilities",
    ),
    MpsFault(
        (181485, 164299),
        "memory grows with every new shape; empty_cache() gives it back only since the first of these",
        "clips of five lengths, and so six shapes (hardware.clip_lengths), and an alarm where memory grows",
    ),
)


def describe_faults(torch_version: str, chip: str | None) -> str:
    """Which of the known faults a machine has, in a line."""
    held = [fault for fault in FAULTS if fault.holds(torch_version, chip)]
    numbers = ", ".join(f"#{fault.issues[0]}" for fault in held)
    where = f"torch {torch_version} on {chip or 'an unknown chip'}"
    return (
        f"{len(held)} of {len(FAULTS)} hold for {where}; training keeps clear of them (docs/mps.md): pytorch {numbers}"
    )


def apple_chip() -> str | None:
    """The family of this machine's chip, as `M1` of "Apple M1 Max"; None where that cannot be learned."""
    try:
        asked = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        said = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=False).stdout  # noqa: S603 - fixed
    except (OSError, subprocess.TimeoutExpired):
        return None
    return chip_family(said)


def chip_family(brand: str) -> str | None:
    """`M1` of "Apple M1 Max"; None of another name."""
    found = re.search(r"\bApple (M\d+)\b", brand)
    return found.group(1) if found else None


def faults_table() -> str:
    """The table of docs/mps.md."""
    head = ["| what goes wrong | torch | chips | here | pytorch |", "|---|---|---|---|---|"]
    rows = [
        f"| {fault.what} | {fault.versions()} | {', '.join(fault.chips) or 'all'} | {fault.answer} | "
        + ", ".join(f"[#{number}]({ISSUES}{number})" for number in fault.issues)
        + " |"
        for fault in FAULTS
    ]
    return "\n".join([*head, *rows])
