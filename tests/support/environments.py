"""What processes of one run are told by their environment."""

from __future__ import annotations

import socket


def environments(num_processes: int) -> list[dict[str, str]]:
    """What `torchrun` sets in each of so many processes of one machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    number = str(num_processes)
    shared = {"WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(num_processes)]
