"""Synthesises a small corpus of spoken digits or commands, for where there is no speech at hand.

    python manifests/synthetic.py OUT --grammar digits --train 1500 --valid 100 --test 200

writes OUT/{train,valid,test}/SPEAKER/ID.flac (16 kHz, mono, 16 bit) and OUT/{split}.trans.txt (`ID WORDS`).
A speaker is an accent, a voice, a base rate and a base pitch of eSpeak NG; no speaker is in two splits. The same
options give the same bytes. A call that was interrupted goes on where it was; a corpus that is whole is left alone.
1,500 digit strings are about an hour of speech. Needs `espeakng-loader` (which carries the GPL library), scipy,
soundfile, and a system that can fork.
"""

import argparse
import dataclasses
import json
import os
import random
import sys
from typing import Dict, List, Optional, Tuple

import numpy as np
import soundfile
import tqdm

from distill_user_dir.files import write_bytes, write_lines
from distill_user_dir.machine import need
from distill_user_dir.messages import tell
from manifests.espeak_process import ACCENTS, VARIANTS, Espeak

SAMPLE_RATE = 16000
HELD_OUT = {"valid": 8, "test": 16}  # speakers; train has the others
DIGITS = "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE".split()
NUMBERS = "TWO THREE FOUR FIVE TEN TWELVE FIFTEEN TWENTY THIRTY FORTY FIFTY".split()
SLOTS = {
    "room": "KITCHEN|BEDROOM|GARDEN|OFFICE|HALL|LIVING ROOM".split("|"),
    "thing": "LIGHT|LAMP|RADIO|HEATER|FAN|CAMERA".split("|"),
    "person": "ANNA|PETER|MY MOTHER|THE DOCTOR|DAVID".split("|"),
    "day": "TODAY|TOMORROW|ON MONDAY|ON FRIDAY|ON SUNDAY".split("|"),
    "music": "JAZZ|SOME MUSIC|THE NEWS|MY FAVOURITE SONG".split("|"),
    "state": ["ON", "OFF"],
    "number": NUMBERS,
}
COMMANDS = (
    "TURN {state} THE {thing} IN THE {room}",
    "SWITCH THE {room} {thing} {state}",
    "SET A TIMER FOR {number} MINUTES",
    "WAKE ME IN {number} MINUTES",
    "CALL {person} {day}",
    "REMIND ME TO CALL {person} {day}",
    "PLAY {music} IN THE {room}",
    "WHAT IS THE WEATHER {day}",
    "SET THE {thing} TO {number} PER CENT",
)


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


@dataclasses.dataclass(frozen=True)
class Speaker:
    """Rate in words a minute; pitch and pitch range on eSpeak's scale from 0 to 99."""

    name: str
    voice: str
    rate: int
    pitch: int
    pitch_range: int


@dataclasses.dataclass(frozen=True)
class Utterance:
    """What is said, by whom, and the seed of everything random in how it sounds; `path` is below the corpus."""

    id: str
    speaker: Speaker
    words: str
    path: str
    seed: str


def speakers(seed: int) -> Dict[str, List[Speaker]]:
    """The speakers of each split; they do not depend on how many utterances are asked for."""
    rng = random.Random(f"{seed}/speakers")
    pool = []
    for accent in ACCENTS:
        for variant in VARIANTS:
            rate, pitch, pitch_range = rng.randint(105, 160), rng.randint(30, 65), rng.randint(25, 70)
            pool.append(Speaker(f"{accent}-{variant}", f"{accent}+{variant}", rate, pitch, pitch_range))
    rng.shuffle(pool)
    first, second = HELD_OUT["valid"], HELD_OUT["valid"] + HELD_OUT["test"]
    return {"train": pool[second:], "valid": pool[:first], "test": pool[first:second]}


def sentence(grammar: str, rng: random.Random) -> str:
    """3 to 6 digits, or a command, in upper-case words."""
    if grammar == "digits":
        return " ".join(rng.choice(DIGITS) for _ in range(rng.randint(3, 6)))
    fillers = {slot: rng.choice(words) for slot, words in sorted(SLOTS.items())}
    return rng.choice(COMMANDS).format(**fillers)


def utterances(settings: Settings, split: str) -> List[Utterance]:
    """A split's utterances, speakers in turn; a longer split begins with the shorter one."""
    of_split = speakers(settings.seed)[split]
    result = []
    for index in range(getattr(settings, split)):
        speaker = of_split[index % len(of_split)]
        seed = f"{settings.seed}/{settings.grammar}/{split}/{index}"
        name = f"{speaker.name}-{index:05d}"
        words = sentence(settings.grammar, random.Random(f"{seed}/words"))
        path = os.path.join(split, speaker.name, f"{name}.{settings.ext}")
        result.append(Utterance(name, speaker, words, path, seed))
    return result


def trim(samples: np.ndarray, margin: int) -> np.ndarray:
    """(samples,) without the ends that stay below 1% of the peak, but for `margin` samples on either side."""
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    return samples[max(loud[0] - margin, 0) : loud[-1] + 1 + margin]


def waveform(utterance: Utterance, snr: Optional[Tuple[float, float]], espeak: Espeak) -> np.ndarray:
    """-> (samples,) float64 at 16 kHz within (-1, 1): spoken, resampled, trimmed, coloured noise added, any level."""
    rng, signal = random.Random(f"{utterance.seed}/sound"), need("scipy.signal", "demo")
    speaker = utterance.speaker
    rate = round(speaker.rate * rng.uniform(0.92, 1.08))
    pitch = speaker.pitch + rng.randint(-5, 5)
    spoken = espeak.speak(
        utterance.words.lower(), speaker.voice, rate, pitch, speaker.pitch_range, gap=rng.randint(0, 12)
    )
    resampled = signal.resample_poly(spoken.astype(np.float64), SAMPLE_RATE, espeak.sample_rate)
    samples = trim(resampled, margin=rng.randint(800, 2400))
    if snr is not None:
        white = np.random.RandomState(rng.getrandbits(32)).standard_normal(len(samples))
        noise = signal.lfilter([1.0], [1.0, -rng.uniform(0.0, 0.9)], white)
        ratio = 10 ** (rng.uniform(*snr) / 10)
        samples = samples + noise * np.sqrt(np.mean(samples**2) / (ratio * np.mean(noise**2)))
    return samples * (rng.uniform(0.2, 0.8) / np.abs(samples).max())


def _write_audio(path: str, samples: np.ndarray) -> None:
    soundfile.write(f"{path}.tmp", samples, SAMPLE_RATE, "PCM_16", format=path.rpartition(".")[2].upper())
    os.replace(f"{path}.tmp", path)


def _is_whole(folder: str, wanted: Dict[str, object]) -> bool:
    """Whether the corpus is there; ValueError if the folder has another one."""
    state = os.path.join(folder, "settings.json")
    if not os.path.exists(state):
        return False
    with open(state, encoding="utf-8") as stream:
        there = json.load(stream)
    different = {key: (there.get(key), value) for key, value in wanted.items() if there.get(key) != value}
    if different:
        told = ", ".join(f"{key} {was!r} there, {now!r} asked for" for key, (was, now) in different.items())
        raise ValueError(f"{folder}: made with other settings ({told}); give another folder, or remove this one")
    return there.get("complete") is True


def synthesise(folder: str, settings: Settings, progress: bool = True) -> int:
    """Makes the corpus, or the rest of it, in `folder` -> the number of files written."""
    wanted = json.loads(json.dumps(dataclasses.asdict(settings)))  # as JSON gives it back: lists for tuples
    if _is_whole(folder, wanted):
        return 0
    os.makedirs(folder, exist_ok=True)
    state = os.path.join(folder, "settings.json")
    write_bytes(state, json.dumps({**wanted, "complete": False}, indent=1).encode())
    everything = {split: utterances(settings, split) for split in ("train", "valid", "test")}
    todo = [item for items in everything.values() for item in items]
    todo = [item for item in todo if not os.path.exists(os.path.join(folder, item.path))]
    with Espeak() as espeak:
        for item in tqdm.tqdm(todo, desc="speech", unit="utterance", disable=not progress):
            path = os.path.join(folder, item.path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _write_audio(path, waveform(item, settings.snr, espeak))
    for split, items in everything.items():
        if items:
            write_lines(os.path.join(folder, f"{split}.trans.txt"), [f"{i.id} {i.words}" for i in items])
    write_bytes(state, json.dumps({**wanted, "complete": True}, indent=1).encode())
    return len(todo)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", help="folder of the corpus")
    parser.add_argument("--grammar", choices=("digits", "commands"), default=Settings.grammar, help="what is said")
    for split in ("train", "valid", "test"):
        count = getattr(Settings, split)
        parser.add_argument(f"--{split}", type=int, default=count, metavar="N", help=f"utterances (default {count})")
    parser.add_argument("--seed", type=int, default=Settings.seed, help="of everything random (default 0)")
    noise = parser.add_mutually_exclusive_group()
    noise.add_argument("--snr", type=float, nargs=2, default=Settings.snr, metavar=("LOW", "HIGH"), help="noise, in dB")
    noise.add_argument("--clean", action="store_true", help="no noise")
    parser.add_argument("--ext", choices=("flac", "wav"), default=Settings.ext, help="file format")
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    args = get_parser().parse_args(argv)
    snr = None if args.clean else tuple(args.snr)
    settings = Settings(args.grammar, args.train, args.valid, args.test, args.seed, snr, args.ext)
    try:
        made = synthesise(args.out, settings)
    except (ValueError, RuntimeError, OSError) as error:
        tell(error)
        return 1
    print(f"{args.out}: {made} utterances synthesised")
    return 0


if __name__ == "__main__":
    sys.exit(main())
