"""Features and lengths, read from files that may be anybody's."""

import re
from typing import List

import numpy as np

from distill_user_dir.data.arrays import read_array
from distill_user_dir.files import utf8_lines
from distill_user_dir.messages import quoted


def read_features(path: str) -> np.ndarray:
    """(frames, dim) float32, mapped; ValueError where the file has anything else."""
    return read_array(path, "features", "manifests/features.py")


def read_counts(path: str) -> List[int]:
    """A count of frames a line; ValueError with file and line for what is none."""
    counts = []
    with utf8_lines(path) as lines:
        for number, line in enumerate(lines, 1):
            if not re.fullmatch(r"\d{1,12}", line.strip(), re.ASCII):
                raise ValueError(f"{path}:{number}: no count of frames: {quoted(line.strip())}; make it anew")
            counts.append(int(line))
    return counts
