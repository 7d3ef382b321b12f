r"""Parts of large files of molecules, each read by itself."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from torch_geometric_inertial.chem.formats import READERS, ending, read_records
from torch_geometric_inertial.chem.records import Record, parsed

#: What the line before a record starts with, of formats that can be read from the middle.
SEPARATORS = {'.sdf': b'$$$$', '.jsonl': b''}
LONGEST_SEPARATOR = 4096


class Piece(NamedTuple):
    r"""The records of a file that begin in these bytes, from :obj:`start` to before :obj:`end`."""
    path: str
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start

    def records(self) -> Iterator[Record]:
        r"""As :func:`~torch_geometric_inertial.chem.read_records` has them; they are numbered within the piece."""
        kind = ending(self.path, READERS)
        if self.start == 0 and self.end == Path(self.path).stat().st_size:
            return read_records(self.path)
        return parsed(_lines(self, SEPARATORS[kind]), READERS[kind], f'{self.path} from byte {self.start}')


def pieces_of(path: str | Path, size: int) -> list[Piece]:
    r"""A file in pieces of about :obj:`size` bytes; each of its records is in one of them. XYZ, PDB and compressed
    files are one piece.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the ending is unknown, or the file is empty.
    """
    kind, total = ending(path, READERS), Path(path).stat().st_size
    if total == 0:
        raise ValueError(f"'{path}' is empty")
    if kind not in SEPARATORS or str(path).lower().endswith('.gz'):
        return [Piece(str(path), 0, total)]
    return [Piece(str(path), start, min(start + size, total)) for start in range(0, total, size)]


def _lines(piece: Piece, separator: bytes) -> Iterator[str]:
    with open(piece.path, 'rb') as file:
        at = 0
        if piece.start > 0:  # the separator of the first record may begin before the piece
            at = max(piece.start - LONGEST_SEPARATOR, 0)
            file.seek(at)
            before = b'' if at == 0 else file.readline()
            at += len(before)
            while at < piece.start or not before.startswith(separator):
                before = file.readline()
                if not before:
                    return
                at += len(before)
        while at < piece.end:
            line = b''
            for line in file:
                at += len(line)
                yield line.decode('utf-8', 'replace').replace('\r\n', '\n')
                if line.startswith(separator):
                    break
            if not line:
                return
