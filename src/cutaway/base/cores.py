"""How many processor cores this process may use.

Read next: base/load.py
"""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Processor threads: this process's affinity and its container's quota counted; at least 1."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux alone
    count = len(allowed(0)) if allowed else os.cpu_count() or 1
    try:
        quota, _, period = (CGROUP / "cpu.max").read_text(encoding="utf-8").partition(" ")
    except OSError:
        return count
    if quota.isdecimal() and period.strip().isdecimal() and int(period) > 0:
        count = min(count, max(1, round(int(quota) / int(period))))
    return count
