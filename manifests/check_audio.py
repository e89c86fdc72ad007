"""What the check of a corpus hears: every sample of every file, and what is wrong with it."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import tqdm

from distill_user_dir.data.audio import AudioError, blocks
from distill_user_dir.data.manifest import Manifest
from manifests.tsv import MIN_SAMPLES

SILENT = 10 ** (-60 / 20)  # peak


FULL_SCALE, CLIPPED = 0.999, 0.001  # amplitude, and the share of samples at it from which on a file is clipped


class Heard(NamedTuple):
    """digest: of the samples; peak: the largest amplitude; clipped: share of samples at full scale; error: a line."""

    digest: bytes = b""
    peak: float = 1.0
    clipped: float = 0.0
    error: Optional[str] = None


class Findings(NamedTuple):
    errors: List[str]
    warnings: List[str]


def hear(path: str, expected: int, sample_rate: int) -> Heard:
    """Decodes a file; `error` where it is not the (expected,) finite samples of one channel at the rate."""
    digest, peak, clipped = hashlib.blake2b(digest_size=16), 0.0, 0
    try:
        for block in blocks(path, expected, sample_rate, MIN_SAMPLES):
            amplitude = np.abs(block)
            peak, clipped = max(peak, float(amplitude.max())), clipped + int((amplitude >= FULL_SCALE).sum())
            digest.update((block * 32768).round().clip(-(2**31), 2**31 - 128).astype(np.int32).tobytes())
    except AudioError as error:
        return Heard(error=str(error))
    return Heard(digest.digest(), peak, clipped / expected)


def hear_all(manifests: Sequence[Manifest], sample_rate: int, workers: int, progress: bool) -> List[List[Heard]]:
    """Of each manifest what its files hold; a file that several list is read once."""
    wanted = {
        (os.path.join(manifest.root, name), size)
        for manifest in manifests
        for name, size in zip(manifest.names, manifest.sizes)
    }
    order = sorted(wanted)
    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(lambda item: hear(*item, sample_rate), order)
        bar = tqdm.tqdm(results, total=len(order), desc="audio", unit="file", disable=not progress)
        heard = dict(zip(order, bar))
    return [[heard[os.path.join(m.root, name), size] for name, size in zip(m.names, m.sizes)] for m in manifests]


def of_audio(manifest: Manifest, heard: Sequence[Heard]) -> Findings:
    found = Findings([], [])
    first: Dict[bytes, int] = {}
    for number, (name, one) in enumerate(zip(manifest.names, heard), 2):
        place = f"{manifest.path}:{number}: {name}"
        if one.error:
            found.errors.append(f"{manifest.path}:{number}: {one.error}")
            continue
        if one.peak < SILENT:
            found.warnings.append(f"{place} is silent (peak {one.peak:.2g})")
        if one.clipped >= CLIPPED:
            found.warnings.append(f"{place} is clipped ({100 * one.clipped:.1f}% of its samples are at full scale)")
        if one.digest and one.digest in first:
            found.warnings.append(f"{place} sounds as line {first[one.digest]} does, sample by sample")
        first.setdefault(one.digest, number)
    return found
