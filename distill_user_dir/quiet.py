"""What fairseq does to logging as it is imported, undone.

Some of its modules give the root logger a handler and the level DEBUG, so that other libraries print hundreds of lines,
and one advises to install what nobody asked for.
"""

import contextlib
import logging
from typing import Iterator

ADVISING = "fairseq.tasks.text_to_speech"


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Leaves the root logger as it was, whatever is imported in here."""
    root, advising = logging.getLogger(), logging.getLogger(ADVISING)
    handlers, level, advising.disabled = list(root.handlers), root.level, True
    try:
        yield
    finally:
        root.handlers[:], advising.disabled = handlers, False
        root.setLevel(level)
