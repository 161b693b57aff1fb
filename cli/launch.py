"""What torchrun tells a process in its environment, before anything heavy is loaded."""

from __future__ import annotations

import os
from pathlib import Path

THREADS = "OMP_NUM_THREADS"


def is_first_rank() -> bool:
    """Whether this process is the one that prints: the only one, or the first that torchrun started."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"


def lift_thread_limit() -> None:
    """Let the first rank compute with as many threads as a process that torchrun did not start.

    torchrun sets OMP_NUM_THREADS=1 for all ranks where the user has set nothing. But the last bits of base training
    and of a solve depend on the number of threads. Call it before torch and SciPy are loaded, which look only once.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or not is_first_rank():
        return
    try:
        set_by_user = Path(f"/proc/{os.getppid()}/environ").read_bytes().split(b"\0")
    except OSError:
        return
    if not any(variable.startswith(f"{THREADS}=".encode()) for variable in set_by_user):
        os.environ.pop(THREADS, None)
