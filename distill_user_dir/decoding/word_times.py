"""When each word was said, from the frames at which a beam search put its units."""

from typing import List, NamedTuple, Sequence

WORD_END = "|"  # of letters
WORD_START = "\u2581"  # of sentencepiece's units


class WordTime(NamedTuple):
    """A word, and its first frame and the one behind its last."""

    word: str
    start: int
    end: int


def word_times(words: Sequence[str], units: Sequence[str], timesteps: Sequence[int]) -> List[WordTime]:
    """units: of the whole utterance, without blanks; timesteps: of flashlight, which counts a frame before the first.

    A word lasts from the frame of its first unit to that of its last. ValueError unless the units make as many words.
    """
    spans: List[List[int]] = []
    inside = False
    for unit, step in zip(units, timesteps):
        if unit in (WORD_END, "</s>"):
            inside = False
            continue
        if not inside or unit.startswith(WORD_START):
            spans.append([step - 1, step])
        inside = True
        spans[-1][1] = step
    if len(spans) != len(words) or len(units) != len(timesteps):
        raise ValueError(f"{len(spans)} words in the units {' '.join(units)}, expected {' '.join(words)}")
    return [WordTime(word, start, end) for word, (start, end) in zip(words, spans)]
