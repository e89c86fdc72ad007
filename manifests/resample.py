"""Audio of other rates and channels, written as 16 kHz mono FLAC into a folder of its own."""

import hashlib
import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import soundfile
import tqdm

from distill_user_dir.audio import BLOCK, SAMPLE_RATE, AudioError, check_finite, damaged, header
from distill_user_dir.files import replacing
from distill_user_dir.machine import need
from manifests.items import Item

SLOWEST, FASTEST = 4000, 384_000  # Hz, of speech and of what records it


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """(N,) at `rate` Hz -> (ceil(N 16000 / rate),) at 16 kHz, within 1."""
    resample_poly = need("scipy.signal", "manifests").resample_poly
    common = math.gcd(rate, SAMPLE_RATE)
    # a filter's overshoot would wrap around in 16 bits
    return np.clip(resample_poly(samples, SAMPLE_RATE // common, rate // common), -1.0, 1.0 - 2.0**-15)


def target_of(path: str, folder: str) -> str:
    """Where a file goes: its name, made unique by its path and its state, so that a changed file is written anew."""
    state = os.stat(path)
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
            samples = mono(item.path, info)
            if len(samples) == 0:
                return item, f"{item.path}: no samples in it; replace it, or leave it out"
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with replacing(target) as temporary:
                soundfile.write(temporary, resample(samples, info.samplerate), SAMPLE_RATE, "PCM_16", format="FLAC")
        return item._replace(path=target), None
    except AudioError as error:
        return item, str(error)
    except (RuntimeError, OSError) as error:  # soundfile's own error is a RuntimeError in all its versions
        return item, str(damaged(item.path, error))


def mono(path: str, info: Any) -> np.ndarray:
    """(N,) float32, the mean of the channels, of a file with this header; AudioError where it has samples that are not
    finite."""
    found, total = np.empty(info.frames, dtype=np.float32), 0
    for block in soundfile.blocks(path, blocksize=max(1, BLOCK // info.channels), dtype="float32", always_2d=True):
        check_finite(path, block.ravel(), total)
        found[total : total + len(block)] = block.mean(1)
        total += len(block)
    return found[:total]


def resample_all(listed: Sequence[Item], folder: str, workers: int, progress: bool) -> Tuple[List[Item], List[str]]:
    """Every item with 16 kHz mono audio, and a line for each that has none. What is there is not written again."""
    with ThreadPoolExecutor(max_workers=workers) as pool:
        done = pool.map(lambda item: resample_file(item, folder), listed)
        results = list(tqdm.tqdm(done, total=len(listed), desc="resample", unit="file", disable=not progress))
    return [item for item, error in results if error is None], [error for _, error in results if error is not None]
