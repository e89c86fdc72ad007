"""Files: those of strangers read as text, ours written whole or not at all."""

import contextlib
import gzip
import os
import zlib
from typing import Any, Iterator, Optional, Sequence

from distill_user_dir.messages import reason

LONGEST_LINE = 1 << 22  # characters
LARGEST = 1 << 26  # bytes of a file that is read in one piece


def check_regular(path: str) -> None:
    """ValueError for a folder, and for a pipe, which would have to be waited for; OSError where there is nothing."""
    if not os.path.isfile(path) and os.path.exists(path):
        raise ValueError(f"{path}: no file but a {'folder' if os.path.isdir(path) else 'device or pipe'}")


@contextlib.contextmanager
def utf8_lines(path: str, encoding: str = "utf-8", newline: Optional[str] = None) -> Iterator[Iterator[str]]:
    """The lines of a text file, gzipped where its name ends in .gz, with their ends; they end where Python's text
    files, and so fairseq's, end them. ValueError with the file's name for what is no such text."""
    check_regular(path)
    number = [0]
    try:
        opened = gzip.open if path.endswith(".gz") else open
        with opened(path, "rt", encoding=encoding, newline=newline) as stream:
            yield bounded(path, stream, number)
    except UnicodeDecodeError as error:
        place = f"{path}: no UTF-8 text behind line {number[0]}"
        raise ValueError(f"{place} ({error.reason}); save it as UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged or cut ({reason(error)}); fetch it again") from None


def bounded(path: str, stream: Any, number: Any) -> Iterator[str]:
    while True:
        line = stream.readline(LONGEST_LINE)
        if not line:
            return
        number[0] += 1
        if number[0] == 1 and line.startswith("\ufeff"):
            raise ValueError(f"{path}: it begins with a byte order mark; save it as UTF-8 without one")
        if len(line) == LONGEST_LINE:
            raise ValueError(f"{path}:{number[0]}: a line of more than {LONGEST_LINE} characters")
        yield line


def read_text(path: str) -> str:
    """A whole file; ValueError where it is no text, or too large."""
    check_regular(path)
    if os.path.getsize(path) > LARGEST:
        raise ValueError(f"{path}: more than {LARGEST} bytes")
    with utf8_lines(path) as lines:
        return "".join(lines)


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
