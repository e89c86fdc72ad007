"""Who speaks in a synthetic corpus, and the two engines that speak for them: eSpeak NG, and a natural voice.

The natural voice is that of `hibari-tts`, the only one in its wheel; nothing is downloaded. It is one woman: what makes
many speakers of her, as of each of eSpeak's voices, is pitch, pace and the length of the vocal tract (effects.py).
"""

import dataclasses
import random
from typing import Dict, List, Sequence

import numpy as np

from distill_user_dir.machine import need
from manifests.espeak_process import ACCENTS, VARIANTS, Espeak

VOICES = ("espeak", "natural")
HELD_OUT = {"espeak": {"valid": 8, "test": 16}, "natural": {"valid": 4, "test": 8}}  # speakers; train has the others
NATURAL_SPEAKERS = 48


@dataclasses.dataclass(frozen=True)
class Speaker:
    """rate: words a minute of eSpeak's; pitch, pitch_range: on its scale from 0 to 99.

    transposition: of pitch and formants together; tract: of the formants alone; both 1 for the engine's own voice.
    """

    name: str
    engine: str
    voice: str
    rate: int = 160
    pitch: int = 50
    pitch_range: int = 50
    transposition: float = 1.0
    tract: float = 1.0


NATURAL = Speaker("heart", "natural", "heart")  # as she is


def espeak_speakers(seed: int, vary: bool) -> List[Speaker]:
    rng = random.Random(f"{seed}/speakers")
    pool = []
    for accent in ACCENTS:
        for variant in VARIANTS:
            rate, pitch, pitch_range = rng.randint(105, 160), rng.randint(30, 65), rng.randint(25, 70)
            pool.append(Speaker(f"{accent}-{variant}", "espeak", f"{accent}+{variant}", rate, pitch, pitch_range))
    rng.shuffle(pool)
    warps = random.Random(f"{seed}/warps")
    return [bent(speaker, warps, (0.94, 1.06), (0.92, 1.09)) for speaker in pool] if vary else pool


def natural_speakers(seed: int) -> List[Speaker]:
    rng = random.Random(f"{seed}/natural speakers")
    pool = []
    for index in range(NATURAL_SPEAKERS):
        speaker = Speaker(f"heart-{index:02d}", "natural", "heart", rate=rng.randint(140, 185))
        pool.append(bent(speaker, rng, (0.72, 1.12), (0.88, 1.12)))
    return pool


def bent(speaker: Speaker, rng: random.Random, transposition: Sequence[float], tract: Sequence[float]) -> Speaker:
    """The speaker with another pitch and vocal tract, each drawn from its range, to a hundredth."""
    drawn = [round(rng.uniform(*bounds), 2) for bounds in (transposition, tract)]
    return dataclasses.replace(speaker, transposition=drawn[0], tract=drawn[1])


def speakers(seed: int, voices: Sequence[str] = ("espeak",), vary: bool = False) -> Dict[str, List[Speaker]]:
    """The speakers of each split, the engines in turn; they do not depend on how many utterances are asked for."""
    found: Dict[str, List[Speaker]] = {"train": [], "valid": [], "test": []}
    for engine in voices:
        pool = natural_speakers(seed) if engine == "natural" else espeak_speakers(seed, vary)
        first, second = HELD_OUT[engine]["valid"], sum(HELD_OUT[engine].values())
        for split, part in (("train", pool[second:]), ("valid", pool[:first]), ("test", pool[first:second])):
            found[split].extend(part)
    return found


class Natural:
    """The natural voice, at `sample_rate` Hz; ValueError where `hibari-tts` is not installed."""

    def __init__(self) -> None:
        hibari = need("hibari", "demo")
        self.sample_rate = int(hibari.SAMPLE_RATE)
        self.engine = hibari.Hibari(voice="heart", threads=1)

    def speak(self, text: str, speed: float, seed: int) -> np.ndarray:
        """-> (samples,) float32, the same for the same arguments; speed: 1 is her own, 0.5 to 2."""
        return self.engine(text, speed=min(max(speed, 0.5), 2.0), seed=seed)


class Engines:
    """The engines that a corpus needs, each started once; a context manager."""

    def __init__(self, names: Sequence[str]) -> None:
        self.natural = Natural() if "natural" in names else None
        self.espeak = Espeak() if "espeak" in names else None

    def __enter__(self) -> "Engines":
        return self

    def __exit__(self, *error: object) -> None:
        if self.espeak is not None:
            self.espeak.__exit__(*error)
