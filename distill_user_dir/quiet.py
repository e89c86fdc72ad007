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
    "The version_base parameter is not specified",
    "hydra.cc/docs/1.2/upgrades/.*/(changes_to_package_header|automatic_schema_matching|changes_to_job_working_dir)",
    "'pin_memory' argument is set as true but no accelerator",
    r"torch\.cuda\.amp\.autocast",
)
NEEDLESS = ("Merging WER requires CUDA.",)  # of one process, which has nothing to merge


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


class ForPeople(logging.Filter):
    """Lets through what a terminal shows of fairseq's log: warnings, why a training stops, what this package tells."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg in NEEDLESS:
            return False
        ours = record.name.startswith("distill_user_dir.")
        return ours or record.levelno >= logging.WARNING or "early stop" in str(record.msg)


def quiet_terminal() -> None:
    """The terminal shows no more than that; a log file has everything."""
    for handler in logging.root.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(ForPeople())
