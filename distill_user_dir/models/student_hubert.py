"""The student: a HuBERT of any size with prediction heads."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import torch
from fairseq.dataclass import ChoiceEnum
from fairseq.models import register_model
from fairseq.models.hubert.hubert import HubertConfig
from omegaconf import II, DictConfig, OmegaConf
from torch import Tensor, nn

from distill_user_dir.criterions.distillation import DistillationCriterionConfig
from distill_user_dir.modules.cluster_heads import cluster_head
from distill_user_dir.modules.fbank_frontend import NORMS, fbank_frontend
from distill_user_dir.modules.heads import HEADS
from distill_user_dir.modules.hubert import FEATURES, PROJECTED, Encoded, LengthAwareHubert, plain_config
from distill_user_dir.padding import Chosen, padding_mask
from distill_user_dir.stages import in_frontend_stage, learns


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
    frontend: ChoiceEnum(["waveform", "fbank"]) = field(
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
        metadata={"help": "clusters of each label set, specials included; empty reads them from teacher or dictionary"},
    )
    # What the losses need of the model: chosen in the criterion, kept here in the checkpoint.
    regression_weight: float = II("criterion.regression_weight")
    discriminative_weight: float = II("criterion.discriminative_weight")
    discriminative_head: str = II("criterion.discriminative_head")
    discriminative_target: str = II("criterion.discriminative_target")
    discriminative_frames: str = II("criterion.discriminative_frames")
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


class Predictions(NamedTuple):
    """targets: the teacher layers predicted; layers: the predictions, (B, T, D) each; frames: (B,) valid frames of each
    utterance; size: T; valid: all valid frames; counted: those of the discriminative loss; clusters: (counted, C)
    logits for each label set; front: (B, T, D), the prediction of the teacher's front-end, or None; features:
    (B, T, C), the CNN's output, or None where nothing is to be paid for it. In the first stage of a front-end
    distillation there are no layers and clusters."""

    targets: List[int]
    layers: List[Tensor]
    frames: Tensor
    size: int
    valid: Chosen
    counted: Optional[Chosen]
    clusters: List[Tensor]
    front: Optional[Tensor]
    features: Optional[Tensor] = None


def check_layer_map(cfg: Any) -> None:
    """ValueError where the map does not fit the student; the teacher's depth is checked when it is loaded."""
    layer_map = list(cfg.layer_map)
    if not any(target > 0 for target in layer_map) or any(target < 0 for target in layer_map):
        raise ValueError(f"model.layer_map={layer_map}: it names no teacher layer; layers are counted from 1")
    if str(cfg.prediction_head) == "layer-wise" and len(layer_map) != cfg.encoder_layers:
        raise ValueError(
            f"model.layer_map={layer_map} has {len(layer_map)} entries, but the student has {cfg.encoder_layers} "
            "layers: layer-wise heads need one entry a layer, 0 for a layer that predicts nothing"
        )
    if str(cfg.prediction_head) == "expand-last" and 0 in layer_map:
        raise ValueError(f"model.layer_map={layer_map}: 0 has no meaning for expand-last; name teacher layers only")


def check_teacher_width(cfg: Any) -> None:
    if cfg.teacher_embed_dim <= 0:
        raise ValueError("model.teacher_embed_dim=0: there is no teacher to read it from; give the width")


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


@register_model("student_hubert", dataclass=StudentHubertConfig)
class StudentHubert(LengthAwareHubert):
    """A HuBERT with heads that predict the teacher's layers, its clusters, or both: one set of heads for each loss
    whose weight is not 0."""

    def __init__(self, cfg: StudentHubertConfig, task_cfg: Any):
        is_fbank = str(cfg.frontend) == "fbank"
        super().__init__(
            with_frames_of_fbank(cfg, task_cfg) if is_fbank else cfg, task_cfg, [None], cfg.valid_statistics
        )
        super().remove_pretraining_modules()
        self.is_fbank = is_fbank
        if is_fbank:
            self.feature_extractor = fbank_frontend(cfg, task_cfg.sample_rate)
            self.layer_norm = nn.Identity()
        self.targets, self.heads, self.cluster_head, self.frontend_head = [], None, None, None
        self.frontend_updates, self.frontend_weight = cfg.frontend_updates, cfg.frontend_weight
        self.pays_for_features = cfg.feature_penalty > 0 and not is_fbank
        self.num_updates = 0
        self.frames = str(cfg.discriminative_frames)
        if cfg.regression_weight > 0:
            check_layer_map(cfg)
            check_teacher_width(cfg)
            self.targets = [target for target in cfg.layer_map if target > 0]
            head = HEADS[str(cfg.prediction_head)]
            self.heads = head(list(cfg.layer_map), cfg.encoder_embed_dim, cfg.teacher_embed_dim)
        if cfg.discriminative_weight > 0:
            kind, sizes = str(cfg.discriminative_head), list(cfg.cluster_sizes)
            if not sizes or kind == "codebook" and cfg.codebook_dim <= 0:
                raise ValueError("model.cluster_sizes and model.codebook_dim: there is nothing to read them from")
            self.cluster_head = cluster_head(kind, cfg.encoder_embed_dim, cfg.codebook_dim, sizes)

        if cfg.frontend_updates > 0 or cfg.frontend_weight > 0:
            check_teacher_width(cfg)
            self.frontend_head = nn.Linear(cfg.encoder_embed_dim, cfg.teacher_embed_dim)

    @classmethod
    def build_model(cls, cfg: StudentHubertConfig, task: Any) -> "StudentHubert":
        return cls(cfg, task.cfg)

    def forward(
        self,
        source: Tensor,
        padding_mask: Optional[Tensor] = None,
        mask: bool = False,
        label_counts: Optional[Tensor] = None,
        lengths: Optional[Sequence[int]] = None,
        **kwargs: Any,
    ) -> Predictions:
        """(B, N) raw audio, (B, N) bool padding mask or None -> the teacher's layers and clusters as heads see them.

        label_counts: (B,) frame labels of each utterance, where frames without one are to count as padding; lengths:
        the samples of each, where the CPU knows them.
        """
        if self.in_frontend_stage:
            encoded = self.encode(source, padding_mask, last=PROJECTED, lengths=lengths)
            front = self.frontend_head(encoded.x)
            return Predictions([], [], encoded.frames, encoded.x.size(1), self.valid(encoded), None, [], front)
        depth = len(self.encoder.layers)
        keep = [] if self.heads is None else list(range(1, depth + 1))
        keep += [PROJECTED] * self.predicts_front + [FEATURES] * self.pays_for_features
        encoded = self.encode(source, padding_mask, mask, keep, label_counts=label_counts, lengths=lengths)
        layers = [] if self.heads is None else self.heads([encoded.layers[i + 1] for i in range(depth)])
        valid = self.valid(encoded)
        counted = valid if self.frames == "all" else self.counted(encoded)
        clusters = [] if self.cluster_head is None else self.cluster_head(counted.of(encoded.x))
        front = self.frontend_head(encoded.layers[PROJECTED]) if self.predicts_front else None
        features = encoded.layers.get(FEATURES)
        found = encoded.frames, encoded.x.size(1), valid, counted, clusters, front, features
        return Predictions(self.targets, layers, *found)

    @property
    def in_frontend_stage(self) -> bool:
        return in_frontend_stage(self.num_updates, self.frontend_updates)

    @property
    def predicts_front(self) -> bool:
        """In the first stage always; in the second where its loss has a weight, and in validations."""
        if self.frontend_head is None:
            return False
        return self.in_frontend_stage or self.frontend_weight > 0 or not self.training

    def set_num_updates(self, num_updates: int) -> None:
        """Called by the trainer before each update; a validation belongs to the stage of the update before it."""
        super().set_num_updates(num_updates)
        self.num_updates = num_updates

    def choose_what_learns(self) -> None:
        """Gradients for the parameters of the stage, and for no other: those keep neither gradient nor moments."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(learns(name, self.in_frontend_stage, self.frontend_weight))

    def extract(self, source: Tensor, lengths: Optional[Tensor]) -> Tensor:
        """(B, N) audio, (B,) samples or None -> (B, T, C) features; an Fbank takes float32 audio in any precision."""
        return self.feature_extractor.convolve(source, lengths) if self.is_fbank else super().extract(source, lengths)

    def frontend(self, source: Tensor, lengths: Optional[Tensor]) -> Tensor:
        """As of a HuBERT; an Fbank's Linear learns where the front-end is frozen, as a CNN's projection does."""
        features = super().frontend(source, lengths)
        return self.feature_extractor.proj(features) if self.is_fbank else features

    @staticmethod
    def valid(encoded: Encoded) -> Chosen:
        """All frames but padding."""
        return Chosen.where(~padding_mask(encoded.frames, encoded.x.size(1)), encoded.x.device)

    def counted(self, encoded: Encoded) -> Chosen:
        """The frames that `discriminative_frames` names, masked or not, padding never."""
        valid = ~padding_mask(encoded.frames, encoded.x.size(1))
        masked = torch.zeros_like(valid) if encoded.masked is None else encoded.masked
        return Chosen.where(valid & (masked if self.frames == "masked" else ~masked), encoded.x.device)

    def remove_pretraining_modules(self) -> None:
        """Leaves what fine-tuning needs: the heads go."""
        super().remove_pretraining_modules()
        self.heads = self.cluster_head = self.frontend_head = None
