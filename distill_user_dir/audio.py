"""Audio files as the manifests see them: their headers are checked once, before training meets them."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import List, Optional, Sequence, Tuple

import numpy as np
import soundfile
import tqdm

SAMPLE_RATE = 16000
# libsndfile's SF_COUNT_MAX: the frames of a header that does not tell its length (a streamed FLAC)
UNKNOWN_LENGTH = 2**63 - 1


class AudioError(ValueError):
    """A file that cannot be used; the message is one line with the file, the numbers and the way out."""


def num_samples(path: str, sample_rate: int = SAMPLE_RATE, min_samples: int = 1) -> int:
    """Samples of a mono file at `sample_rate` Hz, from its header; AudioError if it is anything else or shorter."""
    if not os.path.isfile(path):
        raise AudioError(f"{path}: no such file; restore it, or take it off the list")
    try:
        info = soundfile.info(path)
    except (RuntimeError, OSError) as error:  # soundfile's own error is a RuntimeError in all its versions
        reason = " ".join(str(error).split())
        raise AudioError(f"{path}: not readable as audio ({reason}); replace it, or leave it out") from error
    if info.samplerate != sample_rate:
        fix = f"resample it (sox IN -r {sample_rate} OUT)"
        raise AudioError(f"{path}: {info.samplerate} Hz, expected {sample_rate}; {fix}")
    if info.channels != 1:
        raise AudioError(f"{path}: {info.channels} channels, expected 1; mix it down (sox IN -c 1 OUT)")
    if info.frames >= UNKNOWN_LENGTH:
        raise AudioError(f"{path}: its header does not tell its length; write it anew (sox IN OUT)")
    if info.frames < min_samples:
        raise AudioError(f"{path}: {info.frames} samples, expected at least {min_samples}; leave it out")
    return info.frames


def check_whole(path: str, samples: int) -> None:
    """Decodes a file from end to end; AudioError unless it gives as many samples as its header says."""
    try:
        found = sum(len(block) for block in soundfile.blocks(path, blocksize=1 << 20, dtype="float32"))
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise AudioError(f"{path}: damaged or cut ({reason}); fetch it again, or leave it out") from error
    if found != samples:
        raise AudioError(
            f"{path}: cut, {found} of the {samples} samples in its header; fetch it again, or leave it out"
        )


def check_samples(path: str, samples: np.ndarray, expected: int) -> None:
    """(N,) float samples as they were read; AudioError unless they are `expected` many, and all numbers."""
    if len(samples) != expected:
        raise AudioError(
            f"{path}: {len(samples)} samples read, {expected} in the manifest; fetch the file again, or make the "
            "manifest anew"
        )
    if not np.isfinite(samples).all():
        bad = np.flatnonzero(~np.isfinite(samples))
        raise AudioError(f"{path}: {len(bad)} samples are not finite, the first is number {bad[0]}; fetch it again")


def _length_or_error(path: str, sample_rate: int, min_samples: int, whole: bool) -> Tuple[int, Optional[str]]:
    try:
        samples = num_samples(path, sample_rate, min_samples)
        if whole:
            check_whole(path, samples)
        return samples, None
    except AudioError as error:
        return 0, str(error)


def scan(
    paths: Sequence[str],
    sample_rate: int = SAMPLE_RATE,
    min_samples: int = 1,
    workers: int = 8,
    progress: bool = True,
    whole: bool = False,
) -> Tuple[List[int], List[str]]:
    """Every file's length in samples (0 where it is refused), and the refusals' lines in the order of `paths`.

    whole: decode every file, which finds those that are cut; else headers are read and no more.
    """
    with ThreadPoolExecutor(max_workers=workers) as pool:
        found = pool.map(lambda path: _length_or_error(path, sample_rate, min_samples, whole), paths)
        bar = tqdm.tqdm(found, total=len(paths), desc="audio", unit="file", disable=not progress)
        results = list(bar)
    return [length for length, _ in results], [error for _, error in results if error is not None]
