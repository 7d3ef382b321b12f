r"""Writing files so that a crash leaves the last good one."""
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_atomically(path: str | Path, write: Callable[[Path], Any]) -> Path:
    r"""Calls :obj:`write(temporary path)`, flushes to disk, and renames to :obj:`path`, in the same folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        write(temporary)
        with open(temporary, 'rb') as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # some writers leave their files to themselves
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
