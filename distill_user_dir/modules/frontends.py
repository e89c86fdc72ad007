"""The front-ends that a student may have in place of HuBERT's CNN, by the name that a recipe gives them.

Here alone a config becomes a network of this room: to add a front-end is to add a file, and an entry below.
"""

from typing import Any, Callable, Iterator, NamedTuple, Tuple

from torch import nn

from distill_user_dir.modules.fbank import KaldiFbank
from distill_user_dir.modules.fbank_frontend import NORMS, FbankFrontend
from distill_user_dir.modules.spec_augment import SpecAugment


class Frames(NamedTuple):
    """Features of windows of `window` milliseconds every `shift` milliseconds; a frame for each `stride` of them."""

    window: float
    shift: float
    stride: int


class Frontend(NamedTuple):
    """build: from a student's config and the sample rate in Hz; the network has `convolve` from (B, N) audio and (B,)
    samples, or None where nothing is padded, to (B, T, C) features, and `proj` from these to the student's width.
    frames: those it makes, which have to be HuBERT's; weights: names below `feature_extractor.` and shapes of the
    largest, by which a checkpoint's config is held against what is in its file."""

    build: Callable[[Any, int], nn.Module]
    frames: Callable[[Any], Frames]
    weights: Callable[[Any], Iterator[Tuple[str, Tuple[int, ...]]]]


def build_fbank(cfg: Any, sample_rate: int) -> FbankFrontend:
    window = (cfg.fbank_length, cfg.fbank_shift, str(cfg.fbank_window))
    fbank = KaldiFbank(cfg.fbank_bins, sample_rate, *window, dither=cfg.fbank_dither)
    masks = (cfg.spec_freq_masks, cfg.spec_freq_width, cfg.spec_time_masks, cfg.spec_time_width, cfg.spec_time_share)
    norm = NORMS[str(cfg.fbank_norm)](cfg.fbank_bins)
    return FbankFrontend(cfg.encoder_embed_dim, fbank, norm, SpecAugment(*masks), cfg.fbank_kernel, cfg.fbank_stride)


def fbank_frames(cfg: Any) -> Frames:
    return Frames(cfg.fbank_length, cfg.fbank_shift, cfg.fbank_stride)


def fbank_weights(cfg: Any) -> Iterator[Tuple[str, Tuple[int, ...]]]:
    yield "conv.weight", (2 * cfg.encoder_embed_dim, cfg.fbank_bins, cfg.fbank_kernel)
    yield "proj.weight", (cfg.encoder_embed_dim, cfg.encoder_embed_dim)


FRONTENDS = {
    "fbank": Frontend(build_fbank, fbank_frames, fbank_weights),
}
