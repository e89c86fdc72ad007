"""Audio of other rates and channels, written as 16 kHz mono FLAC into a folder of its own."""

import contextlib
import hashlib
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import soundfile
import tqdm

from distill_user_dir.data.audio import (
    BLOCK,
    SAMPLE_RATE,
    AudioError,
    check_finite,
    damaged,
    file_of,
    header,
    source_of,
)
from distill_user_dir.files import replacing
from distill_user_dir.machine import need
from manifests.items import Item

SLOWEST, FASTEST = 4000, 384_000  # Hz, of speech and of what records it
MOST_FRAMES, LARGE = 1200 * 48_000, 1 << 22  # of a file; and from which on one file at a time is in memory
large_one_by_one = threading.Lock()


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """(N,) at `rate` Hz -> (ceil(N 16000 / rate),) at 16 kHz, within 1."""
    resample_poly = need("scipy.signal", "manifests").resample_poly
    common = math.gcd(rate, SAMPLE_RATE)
    # a filter's overshoot would wrap around in 16 bits
    return np.clip(resample_poly(samples, SAMPLE_RATE // common, rate // common), -1.0, 1.0 - 2.0**-15)


def target_of(path: str, folder: str) -> str:
    """Where a file goes: its name, made unique by its path and its state, so that a changed file is written anew."""
    state = os.stat(file_of(path))
    key = hashlib.sha1(f"{path}\n{state.st_size}\n{state.st_mtime_ns}".encode()).hexdigest()[:10]
    return os.path.join(os.path.abspath(folder), key[:2], f"{os.path.splitext(os.path.basename(path))[0]}-{key}.flac")


def resample_file(item: Item, folder: str) -> Tuple[Item, Optional[str]]:
    """The item with audio that is 16 kHz and mono, its own where it is; and what is wrong with it."""
    try:
        info = header(item.path)
        if info.samplerate == SAMPLE_RATE and info.channels == 1:
            return item, None
        target = target_of(item.path, folder)
        if not os.path.exists(target):
            if not SLOWEST <= info.samplerate <= FASTEST:
                return item, f"{item.path}: {info.samplerate} Hz, expected {SLOWEST} to {FASTEST}; leave it out"
            if not 0 < info.frames <= MOST_FRAMES:
                return item, f"{item.path}: {info.frames} samples, expected 1 to {MOST_FRAMES}; cut it, or leave it out"
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with large_one_by_one if info.frames > LARGE else contextlib.nullcontext(), replacing(target) as temporary:
                samples = resample(mono(item.path, info), info.samplerate)
                soundfile.write(temporary, samples, SAMPLE_RATE, "PCM_16", format="FLAC")
        return item._replace(path=target), None
    except AudioError as error:
        return item, str(error)
    except (RuntimeError, OSError, MemoryError) as error:  # soundfile's own error is a RuntimeError in all its versions
        return item, str(damaged(item.path, error))


def mono(path: str, info: Any) -> np.ndarray:
    """(N,) float32, the mean of the channels, of a file with this header; AudioError where it has samples that are not
    finite."""
    found, total = np.empty(info.frames, dtype=np.float32), 0
    size = max(1, BLOCK // info.channels)
    for block in soundfile.blocks(source_of(path), blocksize=size, dtype="float32", always_2d=True):
        check_finite(path, block.ravel(), total)
        found[total : total + len(block)] = block.mean(1)
        total += len(block)
    if total != info.frames:
        raise AudioError(f"{path}: cut, {total} of the {info.frames} samples in its header; fetch it again")
    return found


def resample_all(listed: Sequence[Item], folder: str, workers: int, progress: bool) -> Tuple[List[Item], List[str]]:
    """Every item with 16 kHz mono audio, and a line for each that has none. What is there is not written again."""
    with ThreadPoolExecutor(max_workers=workers) as pool:
        done = pool.map(lambda item: resample_file(item, folder), listed)
        results = list(tqdm.tqdm(done, total=len(listed), desc="resample", unit="file", disable=not progress))
    return [item for item, error in results if error is None], [error for _, error in results if error is not None]
