r"""A log of one JSON object per line, which a crash may tear but not block."""
from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

from torch_geometric_inertial.files import write_atomically


def append_record(path: Path, record: dict[str, Any]) -> None:
    r"""Adds a line, whole or not at all; a disk that is full is a warning."""
    line = (json.dumps(record) + '\n').encode()
    try:
        with open(path, 'ab', buffering=0) as file:
            size = file.tell()
            try:
                if file.write(line) != len(line):
                    raise OSError('the disk is full')
            except OSError:
                os.truncate(path, size)
                raise
    except OSError as error:
        warnings.warn(f"a line of '{path}' is lost: {error}", stacklevel=2)


def keep_records(path: Path, last_step: int) -> None:
    r"""Keeps the lines up to a step: what came after it will be done again. Lines that are torn or damaged go."""
    if not path.exists():
        return
    lines = path.read_text(errors='replace').splitlines(keepends=True)
    kept = [line for line in lines if line.endswith('\n') and _step_of(line) <= last_step]
    if kept != lines:
        write_atomically(path, lambda temporary: temporary.write_text(''.join(kept)))


def _step_of(line: str) -> float:
    try:
        step = json.loads(line)['step']
    except (ValueError, TypeError, KeyError):
        return float('inf')
    return step if isinstance(step, int) else float('inf')
