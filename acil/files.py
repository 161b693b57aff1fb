"""Files that are whole or not there, whenever the power fails."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, content: bytes) -> None:
    """Write so that ``path`` holds either what it held before or all of ``content``.

    Raises:
        ValueError: the folder cannot be written or the disk is full; ``path`` is untouched.
    """
    if os.path.isdir(path):  # noqa: PTH112 (Path.is_dir fails on names that are too long)
        raise ValueError(f"cannot write {path}: it is a folder; choose the name of a file")
    # One name per file: what a killed process left behind is overwritten by the next write, never piled up.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with _open_alone(temporary) as file:
            if path.exists():  # a private file stays private
                os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise ValueError(f"cannot write {path}: {error.strerror}; free space or choose another folder") from error
    with suppress(OSError):  # the file is whole; some file systems cannot sync a folder
        _sync_folder(path.parent)


def _open_alone(temporary: Path) -> BinaryIO:
    """The empty temporary file, once no other process writes to it."""
    while True:
        file = open(os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666), "wb")  # noqa: SIM115, PTH123 (the caller closes it)
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), temporary.stat()):
                file.truncate(0)
                return file
        file.close()  # it has become another process's result meanwhile


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
