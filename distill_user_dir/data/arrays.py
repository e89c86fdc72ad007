"""Matrices of float32, read from .npy files that may be anybody's."""

import numpy as np

from distill_user_dir.files import check_regular
from distill_user_dir.messages import reason


def read_centres(path: str) -> np.ndarray:
    """(clusters, dim) float32; ValueError where the file has anything else."""
    centres = read_array(path, "cluster centres", "manifests/kmeans.py")
    if not len(centres) or not np.isfinite(centres).all():
        raise ValueError(f"{path}: no cluster centres, or some that are not finite; make them with manifests/kmeans.py")
    return np.array(centres)


def read_array(path: str, what: str, maker: str) -> np.ndarray:
    """A matrix of float32, mapped, so that it takes no more memory than the file."""
    check_regular(path)
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy's parser of headers has errors of its own for what is none
        raise ValueError(f"{path}: no {what} ({reason(error)}); make them with {maker}") from None
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype != np.float32 or not found.shape[1]:
        raise ValueError(f"{path}: no {what}, which are a matrix of float32; make them with {maker}")
    return found
