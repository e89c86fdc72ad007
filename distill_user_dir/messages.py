"""What a message may show of a stranger's file: one line, short, and nothing that a terminal would obey."""

import sys
import unicodedata
from typing import Any


def quoted(value: Any, most: int = 80) -> str:
    """A value in quotes, with its control characters escaped and its end cut off; of a container only its type."""
    if isinstance(value, str):
        return repr(value[:most]) + ("..." if len(value) > most else "")
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)[:most]
    return f"a {type(value).__name__}"


def plain(text: str, most: int = 1000) -> str:
    """A message with the control characters in it escaped, in case a file's name has some, and its end cut off."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:most])
    return shown + ("..." if len(text) > most else "")


def is_plain(text: str) -> bool:
    """Whether there are neither control characters nor halves of characters in a text."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def reason(error: BaseException, most: int = 200) -> str:
    """The first words of an error of somebody else's, in one line without control characters."""
    return plain(" ".join(str(error)[: 10 * most].split()) or type(error).__name__, most)


def tell(error: Any) -> None:
    """A command's error, line by line, on stderr."""
    for line in str(error).split("\n"):
        print(plain(line), file=sys.stderr)


def help_of(usage: str) -> None:
    """Prints a command's usage text and ends it, where --help is asked of one whose options are hydra's."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(usage.strip())
        sys.exit(0)
