"""How an export differs from its checkpoint, each run as its users run it."""

from typing import Any, List, Sequence

import numpy as np

from distill_user_dir.shipping import runner


class Difference:
    """Between a checkpoint and its export on some recordings.

    largest: of any frame's log-probabilities, or features where there is no CTC; infinite where one is no number;
    frames: the share of those whose likeliest unit differs; lengths, words: how many recordings differ in them.
    """

    def __init__(self, model: Any, export: Any, audio: Sequence[np.ndarray]):
        self.largest, different, count, self.lengths, self.words = 0.0, 0, 0, 0, 0
        self.has_words = bool(model.symbols)
        self.recordings = len(audio)
        for batch in (audio[at : at + 8] for at in range(0, len(audio), 8)):
            both = model.outputs(batch), export.outputs(batch)
            said = [[], []] if not self.has_words else [said_by(model, batch, both[0]), said_by(export, batch, both[1])]
            self.words += sum(ours != theirs for ours, theirs in zip(*said))
            for ours, theirs in zip(*both):
                if ours.shape != theirs.shape:
                    self.lengths += 1
                    continue
                apart = np.nan_to_num(np.abs(ours - theirs), nan=np.inf)
                self.largest = max(self.largest, float(apart.max(initial=0)))
                different += int((ours.argmax(1) != theirs.argmax(1)).sum())
                count += len(ours)
        self.frames = different / max(count, 1)

    def __str__(self) -> str:
        if not self.has_words:
            told = f"features differ by at most {self.largest:.2g}, lengths in {self.lengths}"
            return f"{self.recordings} recordings: {told}"
        return (
            f"{self.recordings} recordings: log-probabilities differ by at most {self.largest:.2g}, the likeliest "
            f"unit in {self.frames:.2%} of the frames, lengths in {self.lengths}, words in {self.words} recordings"
        )


def said_by(model: Any, audio: Sequence[np.ndarray], log_probs: Sequence[np.ndarray]) -> List[List[str]]:
    """The words of each recording: what the model's own runtime writes, where it has `said`, else its best path."""
    if hasattr(model, "said"):
        return [model.said(one) for one in audio]
    frame = model.frame_shift / model.sample_rate
    return [[word.word for word in runner.words_of(one, model.symbols, model.units, frame)] for one in log_probs]


def noises(window: int) -> List[np.ndarray]:
    """Built-in audio: noise that comes and goes, from one frame to eight seconds, the same each time."""
    rng = np.random.RandomState(1)
    sizes = [window, 719, 720, 5000, 16000, 23456, 48000, 128000]
    loudness = [np.abs(np.sin(np.arange(size) / 3000.0)) * 0.1 for size in sizes]
    return [(rng.standard_normal(len(one)) * one).astype(np.float32) for one in loudness]
