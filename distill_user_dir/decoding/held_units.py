"""Searches over sentencepiece units hear each unit once, however many frames it lasts.

flashlight's lexicon search ends a word in the frame in which its last unit begins; only a silence may follow there, as
| does behind letters. Sentencepiece has no unit for it, so that a last unit of two frames would cost as much as a wrong
one, or double its word. Frames of one and the same likeliest unit are therefore made one, as CTC's best path does.
"""

from typing import Any, Dict, List, Tuple

import torch
from torch import Tensor


def merge_held(emissions: Tensor, blank: int) -> Tuple[Tensor, List[int]]:
    """(T, V) logits -> (T', V), summed over each run of frames with one likeliest unit, and each run's first frame.

    Whatever stays on one unit over a run scores as before. Frames whose likeliest is blank stay as they are.
    """
    best = emissions.argmax(-1)
    first = torch.ones_like(best, dtype=torch.bool)
    first[1:] = (best[1:] != best[:-1]) | (best[1:] == blank)
    runs = first.cumsum(0) - 1
    merged = emissions.new_zeros(int(first.sum()), emissions.size(1)).index_add_(0, runs, emissions)
    return merged, first.nonzero().flatten().tolist()


def hear_held_units(decoder: Any) -> None:
    """Changes fairseq's decoder with a lexicon: its `decode` merges, and gives timesteps of the frames as they were."""
    search = decoder.decode

    def decode(emissions: Tensor) -> List[List[Dict[str, Any]]]:
        return [decode_one(row) for row in emissions]

    def decode_one(row: Tensor) -> List[Dict[str, Any]]:
        merged, starts = merge_held(row, decoder.blank)
        (hypotheses,) = search(merged[None])
        frames = [0, *(start + 1 for start in starts), len(row) + 1]  # flashlight counts one before and one behind
        for hypothesis in hypotheses:
            if "timesteps" in hypothesis:
                hypothesis["timesteps"] = [frames[step] for step in hypothesis["timesteps"]]
        return hypotheses

    decoder.decode = decode
