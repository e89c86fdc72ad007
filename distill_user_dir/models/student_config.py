"""What a recipe says under `model` for a student."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from fairseq.dataclass import ChoiceEnum
from fairseq.models.hubert.hubert import HubertConfig
from omegaconf import II, DictConfig, OmegaConf

from distill_user_dir.criterions.distillation_config import DistillationCriterionConfig
from distill_user_dir.modules.fbank_frontend import NORMS
from distill_user_dir.modules.frontends import FRONTENDS
from distill_user_dir.modules.heads import HEADS


@dataclass
class StudentHubertConfig(HubertConfig):
    mask_prob: float = field(
        default=0.0, metadata={"help": "probability of masking a frame in distillation; 0 in Wang et al."}
    )
    valid_statistics: bool = field(
        default=True,
        metadata={
            "help": "group norm takes mean and variance over the valid samples only; false is fairseq's behaviour, "
            "where an utterance's features depend on the padding of its batch"
        },
    )
    frontend: ChoiceEnum(["waveform", *FRONTENDS]) = field(
        default="waveform", metadata={"help": "waveform: HuBERT's CNN; fbank: log-mel features and one convolution"}
    )
    fbank_bins: int = field(default=80, metadata={"help": "mel bins (Wang et al.: 80)"})
    fbank_length: float = field(default=25.0, metadata={"help": "window in milliseconds (Kaldi: 25)"})
    fbank_shift: float = field(default=10.0, metadata={"help": "shift of the window in milliseconds (Kaldi: 10)"})
    fbank_window: str = field(default="povey", metadata={"help": "povey (Kaldi's), hanning, hamming, rectangular"})
    fbank_dither: float = field(
        default=0.0,
        metadata={"help": "deviation of the noise added, in units of a 16-bit sample; 0: none, at any time"},
    )
    fbank_norm: ChoiceEnum(list(NORMS)) = field(
        default="global", metadata={"help": "mean and variance of each bin: of the training data, or of the utterance"}
    )
    fbank_stats: Optional[str] = field(
        default=None,
        metadata={"help": "for fbank_norm=global: what manifests/fbank_stats.py wrote; read once, kept in checkpoints"},
    )
    fbank_kernel: int = field(default=5, metadata={"help": "of the convolution, in Fbank frames; odd"})
    fbank_stride: int = field(default=2, metadata={"help": "Fbank frames for a frame of the Transformer"})
    spec_freq_masks: int = field(default=0, metadata={"help": "SpecAugment: bands of bins masked in training"})
    spec_freq_width: int = field(default=30, metadata={"help": "SpecAugment: bins of a band, at most"})
    spec_time_masks: int = field(default=0, metadata={"help": "SpecAugment: spans of frames masked in training"})
    spec_time_width: int = field(default=40, metadata={"help": "SpecAugment: Fbank frames of a span, at most"})
    spec_time_share: float = field(
        default=0.2, metadata={"help": "SpecAugment: a span is at most this share of the utterance (its p)"}
    )
    init_from_student: Optional[str] = field(
        default=None,
        metadata={"help": "checkpoint of a student of the same Transformer, to start from its Transformer and heads"},
    )
    prediction_head: ChoiceEnum(list(HEADS)) = field(
        default="layer-wise",
        metadata={
            "help": "layer-wise: a Linear for each student layer; expand-last: a two-layer head on the last layer "
            "that predicts several teacher layers"
        },
    )
    layer_map: List[int] = field(
        default_factory=list,
        metadata={
            "help": "layer-wise: the teacher layer that each student layer predicts, 0 for none; "
            "expand-last: the teacher layers that are predicted. Layers are counted from 1"
        },
    )
    teacher_embed_dim: int = field(
        default=0, metadata={"help": "width of the teacher; 0 reads it from the teacher and keeps it in the checkpoint"}
    )
    init_layers: List[int] = field(
        default_factory=list,
        metadata={"help": "teacher layers that the first student layers start from, e.g. [1,2]; empty: random"},
    )
    init_feature_extractor: bool = field(
        default=False, metadata={"help": "start from the teacher's CNN, its LayerNorm and its projection"}
    )
    init_pos_conv: bool = field(
        default=False, metadata={"help": "start from the teacher's positional convolution and the LayerNorm behind it"}
    )
    codebook_dim: int = field(
        default=0, metadata={"help": "width of the teacher's cluster embeddings; 0 reads it from the teacher, as above"}
    )
    cluster_sizes: List[int] = field(
        default_factory=list,
        metadata={"help": "clusters of each label set, specials included; empty reads them from where these are"},
    )
    # What the losses need of the model: chosen in the criterion, kept here in the checkpoint.
    regression_weight: float = II("criterion.regression_weight")
    discriminative_weight: float = II("criterion.discriminative_weight")
    discriminative_head: str = II("criterion.discriminative_head")
    discriminative_target: str = II("criterion.discriminative_target")
    discriminative_frames: str = II("criterion.discriminative_frames")
    discriminative_layers: List[int] = II("criterion.discriminative_layers")
    discriminative_teacher_layers: List[int] = II("criterion.discriminative_teacher_layers")
    frontend_updates: int = II("criterion.frontend_updates")
    frontend_weight: float = II("criterion.frontend_weight")
    frontend_target: str = II("criterion.frontend_target")
    feature_penalty: float = II("criterion.feature_penalty")


def student_config(values: Dict[str, Any]) -> DictConfig:
    """A student's config outside of a recipe: `values` over the defaults of its dataclass and of the criterion's."""
    model = OmegaConf.merge(OmegaConf.structured(StudentHubertConfig), values)
    criterion = OmegaConf.structured(DistillationCriterionConfig)
    others = {"task": {"label_rate": -1}, "optimization": {"max_update": 0}}
    root = OmegaConf.create({"model": model, "criterion": criterion, **others})
    return OmegaConf.create(OmegaConf.to_container(root, resolve=True, enum_to_str=True)["model"])
