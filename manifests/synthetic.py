"""Synthesises a corpus of spoken digits, commands or sentences, for where there is no speech at hand.

    python manifests/synthetic.py OUT --grammar digits --train 1500 --valid 100 --test 200
    python manifests/synthetic.py OUT --grammar sentences --voices natural espeak --vary --conditions heard noisy

writes OUT/{split}/SPEAKER/ID.flac (16 kHz, mono, 16 bit) and OUT/{split}.trans.txt (`ID WORDS`) for train, valid and
test, and for each condition a test_{condition}. No sentence is in two of train, valid and the tests; no speaker is,
but for the conditions whose speakers are train's. The same options give the same bytes. A call that was interrupted
goes on where it was; a corpus that is whole is left alone. 1,500 digit strings are about an hour of speech.

Needs the extra `demo` (espeakng-loader carries the GPL eSpeak NG; hibari-tts, the natural voice, takes Python 3.9 or
later) and a system that can fork.
"""

import argparse
import dataclasses
import json
import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Dict, List, Optional, Tuple

import numpy as np
import soundfile
import tqdm

from distill_user_dir.files import write_bytes, write_lines
from distill_user_dir.machine import need
from distill_user_dir.messages import tell
from manifests import effects
from manifests.effects import SAMPLE_RATE
from manifests.grammar import GRAMMARS, sentence
from manifests.speakers import NATURAL, VOICES, Engines, Speaker, speakers

CONDITIONS = {  # further tests, each of as many utterances as the test; whose speakers, and the noise in dB
    "heard": ("train", None),
    "noisy": ("train", (0.0, 10.0)),
    "natural": ("natural", None),  # the natural voice as she is, for models that were trained on eSpeak's
}
ROOMS = 0.3  # of the utterances are heard in a room where voices vary
SPEED = (0.92, 1.08)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a corpus depends on; `snr` is the range of signal-to-noise ratios in dB, None for no noise."""

    grammar: str = "digits"
    train: int = 1500
    valid: int = 100
    test: int = 200
    seed: int = 0
    snr: Optional[Tuple[float, float]] = (15.0, 40.0)
    ext: str = "flac"
    voices: Tuple[str, ...] = ("espeak",)
    vary: bool = False
    speed: Tuple[float, float] = SPEED
    conditions: Tuple[str, ...] = ()

    def sizes(self) -> Dict[str, int]:
        """Utterances of each split, in the order in which they are made."""
        sizes = {split: getattr(self, split) for split in ("train", "valid", "test")}
        return {**sizes, **{f"test_{condition}": self.test for condition in self.conditions}}


@dataclasses.dataclass(frozen=True)
class Utterance:
    """What is said, by whom, and the seed of everything random in how it sounds; `path` is below the corpus."""

    id: str
    speaker: Speaker
    words: str
    path: str
    seed: str
    snr: Optional[Tuple[float, float]] = None


def utterances(settings: Settings, split: str) -> List[Utterance]:
    """A split's utterances, speakers in turn; a longer split begins with the shorter one."""
    side, _, condition = split.partition("_")
    by, snr = CONDITIONS[condition] if condition else (split, None)
    everyone = {**speakers(settings.seed, settings.voices, settings.vary), "natural": [NATURAL]}[by]
    by_engine = [[one for one in everyone if one.engine == engine] for engine in VOICES]
    turns = [own for own in by_engine if own]  # the engines have equal parts
    result = []
    for index in range(settings.sizes()[split]):
        own = turns[index % len(turns)]
        speaker = own[index // len(turns) % len(own)]
        seed = f"{settings.seed}/{settings.grammar}/{split}/{index}"
        name = f"{speaker.name}-{condition and condition + '-'}{index:05d}"
        words = sentence(settings.grammar, side, random.Random(f"{seed}/words"))
        path = os.path.join(split, speaker.name, f"{name}.{settings.ext}")
        result.append(Utterance(name, speaker, words, path, seed, snr or settings.snr))
    return result


def trim(samples: np.ndarray, margin: int) -> np.ndarray:
    """(samples,) without the ends that stay below 1% of the peak, but for `margin` samples on either side."""
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    return samples[max(loud[0] - margin, 0) : loud[-1] + 1 + margin]


def spoken(utterance: Utterance, speed: Tuple[float, float], rng: random.Random, engines: Engines) -> np.ndarray:
    """-> (samples,) float64 at 16 kHz, as the speaker's engine says it; ValueError where it says nothing."""
    speaker, pace = utterance.speaker, rng.uniform(*speed)
    if speaker.engine == "natural":
        engine = engines.natural
        speed_of_hers = pace * speaker.rate / 160 / speaker.transposition
        said = engine.speak(f"{utterance.words.capitalize()}.", speed_of_hers, seed=rng.getrandbits(32))
    else:
        engine = engines.espeak
        rate, pitch = round(speaker.rate * pace / speaker.transposition), speaker.pitch + rng.randint(-5, 5)
        said = engine.speak(
            utterance.words.lower(), speaker.voice, rate, pitch, speaker.pitch_range, gap=rng.randint(0, 12)
        )
    if not np.abs(said).max(initial=0) > 0:
        raise ValueError(f"{utterance.id}: {speaker.voice} said nothing for {utterance.words!r}")
    return need("scipy.signal", "demo").resample_poly(said.astype(np.float64), SAMPLE_RATE, engine.sample_rate)


def waveform(utterance: Utterance, settings: Settings, engines: Engines) -> np.ndarray:
    """-> (samples,) float64 at 16 kHz within (-1, 1): spoken, bent, trimmed, in a room, with noise, at any level."""
    rng, places = (random.Random(f"{utterance.seed}/{what}") for what in ("sound", "place"))
    samples, speaker = spoken(utterance, settings.speed, rng, engines), utterance.speaker
    if speaker.transposition != 1.0:
        samples = effects.transpose(samples, speaker.transposition)
    samples = trim(effects.warp_formants(samples, speaker.tract), margin=rng.randint(800, 2400))
    if settings.vary and places.random() < ROOMS:
        seconds, level = places.uniform(0.1, 0.4), places.uniform(-12.0, -3.0)
        samples = effects.reverberate(samples, seconds, level, seed=places.getrandbits(32))
    if utterance.snr is not None:
        seed, colour, ratio = rng.getrandbits(32), rng.uniform(0.0, 0.9), rng.uniform(*utterance.snr)
        samples = effects.add_noise(samples, ratio, colour, seed)
    return samples * (rng.uniform(0.2, 0.8) / np.abs(samples).max())


def _write_audio(path: str, samples: np.ndarray) -> None:
    soundfile.write(f"{path}.tmp", samples, SAMPLE_RATE, "PCM_16", format=path.rpartition(".")[2].upper())
    os.replace(f"{path}.tmp", path)


def _as_json(settings: Settings) -> Dict[str, object]:
    return json.loads(json.dumps(dataclasses.asdict(settings)))  # lists for tuples


def _is_whole(folder: str, wanted: Dict[str, object]) -> bool:
    """Whether the corpus is there; ValueError if the folder has another one."""
    state = os.path.join(folder, "settings.json")
    if not os.path.exists(state):
        return False
    with open(state, encoding="utf-8") as stream:
        there = json.load(stream)
    if there.get("complete"):  # one begun by an older version, with fewer settings, would go on with other words
        there = {**_as_json(Settings()), **there}
    different = {key: (there.get(key), value) for key, value in wanted.items() if there.get(key) != value}
    if different:
        told = ", ".join(f"{key} {was!r} there, {now!r} asked for" for key, (was, now) in different.items())
        raise ValueError(f"{folder}: made with other settings ({told}); give another folder, or remove this one")
    return there.get("complete") is True


def synthesise(folder: str, settings: Settings, progress: bool = True) -> int:
    """Makes the corpus, or the rest of it, in `folder` -> the number of files written."""
    wanted = _as_json(settings)
    if _is_whole(folder, wanted):
        return 0
    os.makedirs(folder, exist_ok=True)
    state = os.path.join(folder, "settings.json")
    write_bytes(state, json.dumps({**wanted, "complete": False}, indent=1).encode())
    everything = {split: utterances(settings, split) for split in settings.sizes()}
    todo = [item for items in everything.values() for item in items]
    todo = [item for item in todo if not os.path.exists(os.path.join(folder, item.path))]
    for item in todo:
        os.makedirs(os.path.dirname(os.path.join(folder, item.path)), exist_ok=True)

    def make(item: Utterance) -> None:
        _write_audio(os.path.join(folder, item.path), waveform(item, settings, engines))

    with Engines({item.speaker.engine for item in todo}) as engines, ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(make, todo)
        for _ in tqdm.tqdm(made, total=len(todo), desc="speech", unit="utterance", disable=not progress):
            pass
    for split, items in everything.items():
        if items:
            write_lines(os.path.join(folder, f"{split}.trans.txt"), [f"{i.id} {i.words}" for i in items])
    write_bytes(state, json.dumps({**wanted, "complete": True}, indent=1).encode())
    return len(todo)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", help="folder of the corpus")
    parser.add_argument("--grammar", choices=sorted(GRAMMARS), default=Settings.grammar, help="what is said")
    voices = Settings.voices
    parser.add_argument("--voices", nargs="+", choices=VOICES, default=voices, help="who says it (default espeak)")
    parser.add_argument("--vary", action="store_true", help="warp each speaker's pitch and formants; some small rooms")
    for split in ("train", "valid", "test"):
        count = getattr(Settings, split)
        parser.add_argument(f"--{split}", type=int, default=count, metavar="N", help=f"utterances (default {count})")
    parser.add_argument("--conditions", nargs="+", choices=list(CONDITIONS), default=(), help="further tests")
    parser.add_argument("--seed", type=int, default=Settings.seed, help="of everything random (default 0)")
    bounds = {"type": float, "nargs": 2, "metavar": ("LOW", "HIGH")}
    parser.add_argument(
        "--speed", default=SPEED, help="of each utterance, of its speaker's (default 0.92 1.08)", **bounds
    )
    noise = parser.add_mutually_exclusive_group()
    noise.add_argument("--snr", default=Settings.snr, help="noise, in dB (default 15 40)", **bounds)
    noise.add_argument("--clean", action="store_true", help="no noise")
    parser.add_argument("--ext", choices=("flac", "wav"), default=Settings.ext, help="file format")
    return parser


def settings_of(args: argparse.Namespace) -> Settings:
    """ValueError for a range that is none, or that no engine or ear can follow."""
    for name, least, most in (("speed", 0.5, 2.0), ("snr", -20.0, 100.0)):
        low, high = getattr(args, name)
        if not least <= low <= high <= most:
            raise ValueError(f"--{name} {low:g} {high:g}: give LOW <= HIGH between {least:g} and {most:g}")
    for split in ("train", "valid", "test"):
        if getattr(args, split) < 0:
            raise ValueError(f"--{split} {getattr(args, split)}: a number of utterances is 0 or more")
    if "natural" in args.voices and "natural" in args.conditions:
        raise ValueError(
            "--conditions natural: no test of a voice that is trained on; take it from --voices, or ask for heard"
        )
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(Settings)}
    given.update(snr=None if args.clean else tuple(args.snr), speed=tuple(args.speed))
    for name, known in (("voices", VOICES), ("conditions", CONDITIONS)):
        given[name] = tuple(each for each in known if each in given[name])  # in one order, each once
    return Settings(**given)


def main(argv: Optional[List[str]] = None) -> int:
    args = get_parser().parse_args(argv)
    try:
        made = synthesise(args.out, settings_of(args))
    except (ValueError, RuntimeError, OSError) as error:
        tell(error)
        return 1
    print(f"{args.out}: {made} utterances synthesised")
    return 0


if __name__ == "__main__":
    sys.exit(main())
