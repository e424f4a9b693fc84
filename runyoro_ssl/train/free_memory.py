"""The memory that a device has free."""

from __future__ import annotations

from typing import Any

import torch

from runyoro_ssl.model.allocator import available_memory


def free_memory(device: Any) -> int:
    """Bytes that a run may take on a device (torch.device), before its model is there."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory()) - int(torch.mps.driver_allocated_memory())
    return available_memory()
