"""Features, cluster centres and lengths, read from files that may be anybody's."""

import re
from typing import List

import numpy as np

from distill_user_dir.files import check_regular, utf8_lines
from distill_user_dir.messages import quoted, reason


def read_centres(path: str) -> np.ndarray:
    """(clusters, dim) float32; ValueError where the file has anything else."""
    centres = read_array(path, "cluster centres", "manifests/kmeans.py")
    if not len(centres) or not np.isfinite(centres).all():
        raise ValueError(f"{path}: no cluster centres, or some that are not finite; make them with manifests/kmeans.py")
    return np.array(centres)


def read_features(path: str) -> np.ndarray:
    """(frames, dim) float32, mapped; ValueError where the file has anything else."""
    return read_array(path, "features", "manifests/features.py")


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


def read_counts(path: str) -> List[int]:
    """A count of frames a line; ValueError with file and line for what is none."""
    counts = []
    with utf8_lines(path) as lines:
        for number, line in enumerate(lines, 1):
            if not re.fullmatch(r"\d{1,12}", line.strip(), re.ASCII):
                raise ValueError(f"{path}:{number}: no count of frames: {quoted(line.strip())}; make it anew")
            counts.append(int(line))
    return counts
