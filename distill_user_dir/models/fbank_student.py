"""What makes a student one on Fbank features: its front-end, and the frames of it, from its config."""

from typing import Any

from omegaconf import OmegaConf

from distill_user_dir.modules.fbank import KaldiFbank
from distill_user_dir.modules.fbank_frontend import NORMS, FbankFrontend
from distill_user_dir.modules.hubert import plain_config
from distill_user_dir.modules.spec_augment import SpecAugment


def with_frames_of_fbank(cfg: Any, task_cfg: Any) -> Any:
    """The config of a HuBERT whose CNN, which is then replaced, makes the frames of the Fbank front-end.

    Frames of an Fbank with a window of W and a shift of S samples, and then of an odd kernel with half of it as padding
    and stride K, are those of a CNN of one layer with kernel W and stride K S. ValueError where it cannot be.
    """
    if task_cfg.normalize:
        raise ValueError("task.normalize=true is for a waveform; an Fbank wants raw audio: set it to false")
    if cfg.init_feature_extractor:
        raise ValueError("model.init_feature_extractor=true: frontend=fbank has no CNN to start from; set it to false")
    window, shift = (int(task_cfg.sample_rate * length * 0.001) for length in (cfg.fbank_length, cfg.fbank_shift))
    frames = f"[({cfg.encoder_embed_dim},{window},{shift * cfg.fbank_stride})]"
    return OmegaConf.merge(plain_config(cfg), {"conv_feature_layers": frames, "extractor_mode": "default"})


def fbank_frontend(cfg: Any, sample_rate: int) -> FbankFrontend:
    """From the config of a `student_hubert`."""
    fbank = KaldiFbank(
        cfg.fbank_bins,
        sample_rate,
        cfg.fbank_length,
        cfg.fbank_shift,
        str(cfg.fbank_window),
        dither=cfg.fbank_dither,
    )
    augment = SpecAugment(
        cfg.spec_freq_masks, cfg.spec_freq_width, cfg.spec_time_masks, cfg.spec_time_width, cfg.spec_time_share
    )
    norm = NORMS[str(cfg.fbank_norm)](cfg.fbank_bins)
    return FbankFrontend(cfg.encoder_embed_dim, fbank, norm, augment, cfg.fbank_kernel, cfg.fbank_stride)
