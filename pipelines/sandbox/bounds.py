"""What a program in the sandbox may take."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is too much."""

    seconds: float = 900.0
    """From start to end, by the clock."""
    cpu_s: int = 1800
    """Of one process, by the processor."""
    memory_mb: int = 4096
    """Address space of one process, and resident memory of all of them together; beside it stands ``scratch_mb``."""
    output_mb: int = 4096
    """All files of the output folder together, those without a name included, and each of them."""
    files: int = 1000
    """Files and folders of the output folder."""
    processes: int = 64
    """Threads count as well."""
    open_files: int = 512
    """Of one process."""
    scratch_mb: int = 512
    """Of /tmp, and the same of /dev/shm; both are memory, and not in ``memory_mb``."""
    said_mb: int = 16
    """Standard output and error together: whoever says more is stopped."""
