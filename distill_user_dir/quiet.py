"""What fairseq tells and does to logging, undone where no user can do anything about it.

Some of its modules give the root logger a handler and the level DEBUG as they are imported, so that other libraries
print hundreds of lines, and one advises to install what nobody asked for.
"""

import contextlib
import logging
import warnings
from typing import Iterator

ADVISING = "fairseq.tasks.text_to_speech"

WARNINGS = (
    "weight_norm.* is deprecated",
    "hydra.cc/docs",
    "version_base",
    "'pin_memory' argument",
    r"torch\.cuda\.amp",
)


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Leaves the root logger as it was, whatever is imported in here."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=f"(?s).*{message}")
    root, advising = logging.getLogger(), logging.getLogger(ADVISING)
    handlers, level, advising.disabled = list(root.handlers), root.level, True
    try:
        yield
    finally:
        root.handlers[:], advising.disabled = handlers, False
        root.setLevel(level)
