"""Files that are there whole or, if writing them was interrupted, as they were before."""

import contextlib
import os
from typing import Iterator, Sequence


def temporary_of(path: str) -> str:
    return f"{path}.tmp"


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """A path to write to, beside `path`; it takes the place of `path` once the block has ended without an error."""
    temporary = temporary_of(path)
    if os.path.lexists(temporary):  # of a process that was killed, or a pipe
        os.remove(temporary)
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())  # else a machine that loses power has the new name with no content
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def write_bytes(path: str, content: bytes) -> None:
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        stream.write(content)


def write_lines(path: str, lines: Sequence[str]) -> None:
    """Writes one string a line, UTF-8."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(f"{line}\n" for line in lines)
