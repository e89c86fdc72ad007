"""The statistics that normalise an Fbank student's features, from the file that manifests/fbank_stats.py writes."""

import json
from typing import Any, Dict, Tuple

import torch
from torch import Tensor

from distill_user_dir.files import read_text
from distill_user_dir.messages import quoted, reason

SMALLEST_STD = 1e-5


def read_stats(path: str, options: Dict[str, Any], bins: int) -> Tuple[Tensor, Tensor]:
    """(bins,) means and (bins,) standard deviations; ValueError where they do not fit. options: the model's Fbank's."""
    try:
        stats = json.loads(read_text(path))
        mean, std = torch.tensor(stats["mean"]), torch.tensor(stats["std"])
        made_with = stats["options"]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        told = f"{type(error).__name__}: {reason(error)}"
        raise ValueError(f"{path}: no statistics of manifests/fbank_stats.py ({told}); make them anew") from None
    if made_with != options:
        told = quoted(str(made_with), 400)
        raise ValueError(f"{path}: statistics of {told}, but the model has {options}; make them anew")
    if mean.shape != (bins,) or std.shape != (bins,):
        raise ValueError(f"{path}: {mean.numel()} means and {std.numel()} deviations, expected {bins} of each")
    wrong = ~(std > SMALLEST_STD) | ~std.isfinite() | ~mean.isfinite()
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0])
        raise ValueError(
            f"{path}: bin {at} has mean {float(mean[at]):g} and deviation {float(std[at]):g}: "
            "the audio has nothing there (silence, or a lower sample rate); use other audio or fewer bins"
        )
    return mean, std
