"""The cores and the memory of this machine, and how they are shared among the workers of a run."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from joblib import cpu_count

#: MiB that a worker is expected to take where no limit says how much it may: an idle one, and a sample's own.
IDLE_MB, SAMPLE_MB = 512, 512

#: Where the two versions of control groups say how many bytes there may be, and how many there are.
GROUP_MEMORY = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


@dataclass(frozen=True)
class Share:
    """How many processes, each with how many threads."""

    workers: int
    threads: int


def share(
    tasks: int, workers: int | None, threads: int | None, memory_mb: int | None, cores: int, free_mb: int | None
) -> Share:
    """Given numbers stay; the others are chosen so that ``workers * threads <= cores`` and all workers fit ``free_mb``.

    The threads do not depend on the number of workers, because sums in another order differ in their last digits: they
    are one, and more only where there are fewer ``tasks`` than cores.
    """
    if threads is None:
        threads = max(1, cores // max(1, tasks))
    if workers is None:
        workers = max(1, cores // threads)
        if free_mb is not None:
            workers = max(1, min(workers, free_mb // (IDLE_MB + (memory_mb or SAMPLE_MB))))
    return Share(max(1, min(workers, tasks)), threads)


def cores() -> int:
    """The cores that this process may use: affinity and the quotas of its control groups count."""
    return int(cpu_count())


def free_mb() -> int | None:
    """MiB of memory that can be had: the system's available memory, or the control group's if that is less.

    ``None`` where the system does not say.
    """
    found = []
    if (available := _number(Path("/proc/meminfo"), r"^MemAvailable:\s+(\d+) kB")) is not None:
        found.append(available // 1024)
    for names in GROUP_MEMORY:
        most, now = (_number(Path("/sys/fs/cgroup") / name, r"^(\d+)") for name in names)
        if most is not None and now is not None:
            found.append(max(0, most - now) // 2**20)
    return min(found, default=None)


def seconds_since_start() -> float:
    """The age of this process in seconds, the start of the interpreter included; 0 if that is unknown.

    In Linux a process' start is in ticks since boot, field 22 of ``/proc/self/stat`` (proc(5)).
    """
    if sys.platform != "linux":
        return 0.0
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()  # from field 3 on
    started = int(fields[22 - 3]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)


def describe() -> dict[str, str | int]:
    """The machine in words, for those who read the results later."""
    processor = _found(Path("/proc/cpuinfo"), r"^model name\s*: (.+)$") or platform.processor() or platform.machine()
    total = _number(Path("/proc/meminfo"), r"^MemTotal:\s+(\d+) kB")
    memory = {} if total is None else {"memory": f"{total / 2**20:.1f} GiB"}
    return {"system": f"{platform.system()} {platform.release()}", "processor": processor, "cores": cores(), **memory}


def _found(path: Path, pattern: str) -> str | None:
    try:
        found = re.search(pattern, path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return found[1].strip() if found else None


def _number(path: Path, pattern: str) -> int | None:
    text = _found(path, pattern)
    return None if text is None else int(text)
