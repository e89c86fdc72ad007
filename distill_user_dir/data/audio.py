"""Audio files as the manifests see them: their headers are checked once, before training meets them."""

import contextlib
import io
import os
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import soundfile
import tqdm
from fairseq.data.audio.audio_utils import read_from_stored_zip

from distill_user_dir.messages import plain, reason

SAMPLE_RATE = 16000
# libsndfile's SF_COUNT_MAX: the frames of a header that does not tell its length (a streamed FLAC)
UNKNOWN_LENGTH = 2**63 - 1
UNTOLD = 0x7FFF0000  # bytes of samples, from which on what writes a stream means that it cannot tell
SLICE = re.compile(r"(.*\.zip):(\d{1,15}):(\d{1,15})", re.DOTALL)
BLOCK = 1 << 20  # samples that are read at a time
LONGEST = 20 * 60  # seconds of a file: a longer one is no utterance, and a small FLAC may claim any length


class AudioError(ValueError):
    """A file that cannot be used; the message is one line with the file, the numbers and the way out."""

    def __init__(self, message: str):
        """torch makes one that a data worker raised anew, from its traceback, whose last line is the message."""
        super().__init__(plain(message.rpartition(f"{__name__}.AudioError: ")[2].rstrip("\n")))


def file_of(path: str) -> str:
    """The file itself: a slice of a stored .zip (fairseq's ZIP:OFFSET:LENGTH) is in the .zip."""
    found = SLICE.fullmatch(path)
    return found.group(1) if found else path


def source_of(path: str) -> Any:
    """What soundfile is to read: the path, or the bytes of a slice of a .zip.
    AudioError where there is no such file; a pipe, which would have to be waited for, is none."""
    found, file = SLICE.fullmatch(path), file_of(path)
    if "\0" in file or not os.path.isfile(file):
        raise AudioError(f"{file}: no such file; restore it, or take it off the list")
    if not found:
        return path
    offset, length = int(found.group(2)), int(found.group(3))
    if offset + length > os.path.getsize(file):
        raise AudioError(f"{path}: beyond the end of the .zip; make the manifest anew")
    return io.BytesIO(read_from_stored_zip(file, offset, length))


def cut_bytes(source: Any) -> int:
    """How many bytes of a WAV's samples are missing at its end, which libsndfile passes over; 0 for other formats."""
    with open(source, "rb") if isinstance(source, str) else contextlib.nullcontext(source) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if file.read(4) != b"RIFF":
            return 0
        at = 12
        while at + 8 <= size:
            file.seek(at)
            name, length = struct.unpack("<4sI", file.read(8))
            if name == b"data":
                return max(0, at + 8 + length - size) if length < UNTOLD else 0
            at += 8 + length + length % 2
        return 0


def header(path: str) -> Any:
    """soundfile's info of a file, of whatever rate and channels; AudioError where it has none."""
    source = source_of(path)
    try:
        info = soundfile.info(source)
    except (RuntimeError, OSError, TypeError, ValueError) as error:  # of no format, or of one without a header
        raise AudioError(f"{path}: not readable as audio ({reason(error)}); replace it, or leave it out") from error
    missing = cut_bytes(source)
    if missing:
        raise AudioError(f"{path}: cut, {missing} bytes of its samples are missing; fetch it again, or leave it out")
    if info.frames >= UNKNOWN_LENGTH:
        raise AudioError(f"{path}: its header does not tell its length; write it anew (sox IN OUT)")
    if info.frames > LONGEST * info.samplerate:
        seconds = f"{info.frames / info.samplerate:.0f} s by its header, and {LONGEST} s are the most"
        raise AudioError(f"{path}: {seconds}; cut it into utterances")
    return info


def num_samples(path: str, sample_rate: int = SAMPLE_RATE, min_samples: int = 1) -> int:
    """Samples of a mono file at `sample_rate` Hz, from its header; AudioError if it is anything else or shorter."""
    info = header(path)
    if info.samplerate != sample_rate:
        fix = f"resample it (sox IN -r {sample_rate} OUT)"
        raise AudioError(f"{path}: {info.samplerate} Hz, expected {sample_rate}; {fix}")
    if info.channels != 1:
        raise AudioError(f"{path}: {info.channels} channels, expected 1; mix it down (sox IN -c 1 OUT)")
    if info.frames < min_samples:
        raise AudioError(f"{path}: {info.frames} samples, expected at least {min_samples}; leave it out")
    return info.frames


def check_whole(path: str, samples: int) -> None:
    """Decodes a file from end to end; AudioError unless it gives as many samples as its header says."""
    try:
        found = sum(len(block) for block in soundfile.blocks(source_of(path), blocksize=BLOCK, dtype="float32"))
    except (RuntimeError, OSError) as error:
        raise damaged(path, error) from error
    if found != samples:
        raise AudioError(
            f"{path}: cut, {found} of the {samples} samples in its header; fetch it again, or leave it out"
        )


def damaged(path: str, error: BaseException) -> AudioError:
    return AudioError(f"{path}: damaged or cut ({reason(error)}); fetch it again, or leave it out")


def read_samples(path: str, expected: int, sample_rate: int = SAMPLE_RATE, min_samples: int = 1) -> np.ndarray:
    """(N,) samples in [-1, 1] of a mono file; AudioError unless it is what the manifest says, and all numbers."""
    samples = np.empty(0, dtype=np.float32)
    for block in blocks(path, expected, sample_rate, min_samples, max(1, expected)):
        samples = block
    return samples


def blocks(
    path: str, expected: int, sample_rate: int = SAMPLE_RATE, min_samples: int = 1, size: int = BLOCK
) -> Iterator[np.ndarray]:
    """As `read_samples`, in (size,) pieces of which one at a time is in memory."""
    found, total = num_samples(path, sample_rate, min_samples), 0
    if found != expected:
        raise other_length(path, found, expected)
    try:
        for block in soundfile.blocks(source_of(path), blocksize=size, dtype="float32"):
            check_finite(path, block, total)
            total += len(block)
            yield block
    except (RuntimeError, OSError, MemoryError) as error:
        raise damaged(path, error) from None
    if total != expected:
        raise other_length(path, total, expected)


def other_length(path: str, found: int, expected: int) -> AudioError:
    told = f"{found} samples read, {expected} in the manifest"
    return AudioError(f"{path}: {told}; fetch the file again, or make the manifest anew")


def check_finite(path: str, samples: np.ndarray, start: int) -> None:
    """(N,) float samples, the first of which is number `start`; AudioError unless all are numbers."""
    if not np.isfinite(samples).all():
        bad = np.flatnonzero(~np.isfinite(samples))
        told = f"{len(bad)} samples are not finite, the first is number {start + bad[0]}"
        raise AudioError(f"{path}: {told}; fetch it again")


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

    def read(path: str) -> Tuple[int, Optional[str]]:
        return _length_or_error(path, sample_rate, min_samples, whole)

    first = [read(path) for path in paths[:1]]  # alone: cffi builds its types at first use, and not for several threads
    with ThreadPoolExecutor(max_workers=workers) as pool:
        found = chain(first, pool.map(read, paths[1:]))
        bar = tqdm.tqdm(found, total=len(paths), desc="audio", unit="file", disable=not progress)
        results = list(bar)
    return [length for length, _ in results], [error for _, error in results if error is not None]
