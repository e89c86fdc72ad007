"""Checkpoints that are there whole or not at all, and errors that say why one is not."""

import logging
import os
import shutil
from typing import Any

import torch
from fairseq.file_io import PathManager

from distill_user_dir.checkpoints.loading import CheckpointError
from distill_user_dir.files import replacing

logger = logging.getLogger(__name__)

ATTEMPTS = 3  # to write a checkpoint


def save(obj: Any, filename: str, async_write: bool = False) -> None:
    """torch.save to a file that is there whole or not at all; each attempt begins anew (fairseq's go on in the file
    that the one before has left)."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with replacing(filename) as temporary, open(temporary, "wb") as stream:
                torch.save(obj, stream)
            return
        except (OSError, RuntimeError) as error:  # torch's own has the disk's as its context
            cause = error.__context__ if isinstance(error.__context__, OSError) else error
            reason = getattr(cause, "strerror", None) or str(cause).split("\n")[0]
            logger.warning(f"{filename}: not written, attempt {attempt} of {ATTEMPTS} ({reason})")
    raise not_written(filename, reason)


def not_written(path: str, reason: str) -> CheckpointError:
    free = shutil.disk_usage(os.path.dirname(path) or ".").free / 1e6
    return CheckpointError(
        f"{path}: cannot be written ({reason}; {free:.0f} MB are free there); make room and start the same command "
        "again: the checkpoints before it are whole"
    )


class WholeCopies(PathManager):
    """fairseq copies a checkpoint onto the one before; this puts the copy in its place once it is whole."""

    @staticmethod
    def copy(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
        try:
            with replacing(dst_path) as temporary:
                shutil.copyfile(src_path, temporary)
        except OSError as error:
            raise not_written(dst_path, error.strerror or str(error)) from None
        return True
