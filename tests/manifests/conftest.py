"""Small audio trees, and fairseq's own scripts to compare with."""

import os
import subprocess
import sys

import fairseq
import numpy as np
import pytest
import soundfile

EXAMPLES = os.path.join(os.path.dirname(fairseq.__file__), "examples")


def write_audio(path, samples=1600, rate=16000, channels=1, seed=0):
    """Noise of `samples` samples; the folders are made."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    shape = (samples,) if channels == 1 else (samples, channels)
    soundfile.write(path, np.random.RandomState(seed).uniform(-0.5, 0.5, shape), rate, "PCM_16")


def run_example(script, *arguments):
    """Runs a script below fairseq/examples as its documentation does."""
    subprocess.run([sys.executable, os.path.join(EXAMPLES, script), *map(str, arguments)], check=True)


@pytest.fixture
def audio():
    return write_audio


@pytest.fixture
def example():
    return run_example


@pytest.fixture
def libri(tmp_path):
    """A tree like LibriSpeech's: SPEAKER/CHAPTER/ID.flac with SPEAKER-CHAPTER.trans.txt beside the audio."""
    root = tmp_path / "libri"
    texts = ["THE CAT", "IT'S A DOG AND A CAT", "NO", "SEVEN SHEEP SLEEP", "ON", "A HAT"]
    for index, text in enumerate(texts):
        folder = root / f"{19 + index // 4}" / f"{7 + index // 2}"
        name = f"{folder.parent.name}-{folder.name}-{index:04d}"
        write_audio(str(folder / f"{name}.flac"), samples=800 + 160 * index, seed=index)
        with open(folder / f"{folder.parent.name}-{folder.name}.trans.txt", "a") as stream:
            stream.write(f"{name} {text}\n")
    return root
