"""The student: a HuBERT of any size with prediction heads."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional

import torch
from fairseq.dataclass import ChoiceEnum
from fairseq.models import register_model
from fairseq.models.hubert.hubert import HubertConfig
from omegaconf import II, DictConfig, OmegaConf
from torch import Tensor

from distill_user_dir.criterions.distillation import DistillationCriterionConfig
from distill_user_dir.modules.cluster_heads import cluster_head
from distill_user_dir.modules.heads import HEADS
from distill_user_dir.modules.hubert import Encoded, LengthAwareHubert


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


def student_config(values: Dict[str, Any]) -> DictConfig:
    """A student's config outside of a recipe: `values` over the defaults of its dataclass and of the criterion's."""
    model = OmegaConf.merge(OmegaConf.structured(StudentHubertConfig), values)
    criterion = OmegaConf.structured(DistillationCriterionConfig)
    root = OmegaConf.create({"model": model, "criterion": criterion, "task": {"label_rate": -1}})
    return OmegaConf.create(OmegaConf.to_container(root, resolve=True, enum_to_str=True)["model"])


class Predictions(NamedTuple):
    """targets: the teacher layers predicted; layers: the predictions, (B, T, D) each; padding_mask: (B, T) bool;
    counted: (B, T) bool, the F frames of the discriminative loss; clusters: (F, C) logits for each label set."""

    targets: List[int]
    layers: List[Tensor]
    padding_mask: Tensor
    counted: Tensor
    clusters: List[Tensor]


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


@register_model("student_hubert", dataclass=StudentHubertConfig)
class StudentHubert(LengthAwareHubert):
    """A HuBERT with heads that predict the teacher's layers, its clusters, or both: one set of heads for each loss
    whose weight is not 0."""

    def __init__(self, cfg: StudentHubertConfig, task_cfg: Any):
        super().__init__(cfg, task_cfg, [None], cfg.valid_statistics)
        super().remove_pretraining_modules()
        self.targets, self.heads, self.cluster_head = [], None, None
        self.frames = str(cfg.discriminative_frames)
        if cfg.regression_weight > 0:
            check_layer_map(cfg)
            if cfg.teacher_embed_dim <= 0:
                raise ValueError("model.teacher_embed_dim=0: there is no teacher to read it from; give the width")
            self.targets = [target for target in cfg.layer_map if target > 0]
            head = HEADS[str(cfg.prediction_head)]
            self.heads = head(list(cfg.layer_map), cfg.encoder_embed_dim, cfg.teacher_embed_dim)
        if cfg.discriminative_weight > 0:
            kind, sizes = str(cfg.discriminative_head), list(cfg.cluster_sizes)
            if not sizes or kind == "codebook" and cfg.codebook_dim <= 0:
                raise ValueError("model.cluster_sizes and model.codebook_dim: there is nothing to read them from")
            self.cluster_head = cluster_head(kind, cfg.encoder_embed_dim, cfg.codebook_dim, sizes)

    @classmethod
    def build_model(cls, cfg: StudentHubertConfig, task: Any) -> "StudentHubert":
        return cls(cfg, task.cfg)

    def forward(
        self,
        source: Tensor,
        padding_mask: Optional[Tensor] = None,
        mask: bool = False,
        label_counts: Optional[Tensor] = None,
        **kwargs: Any,
    ) -> Predictions:
        """(B, N) raw audio, (B, N) bool padding mask -> the teacher's layers and clusters as the heads see them.

        label_counts: (B,) frame labels of each utterance, where frames without one are to count as padding.
        """
        depth = len(self.encoder.layers)
        keep = () if self.heads is None else range(1, depth + 1)
        encoded: Encoded = self.encode(source, padding_mask, mask, keep=keep, label_counts=label_counts)
        layers = [] if self.heads is None else self.heads([encoded.layers[i] for i in keep])
        counted = self.counted(encoded)
        clusters = [] if self.cluster_head is None else self.cluster_head(encoded.x[counted])
        return Predictions(self.targets, layers, encoded.padding_mask, counted, clusters)

    def counted(self, encoded: Encoded) -> Tensor:
        """(B, T) bool: the frames that `discriminative_frames` names, padding never."""
        valid = ~encoded.padding_mask
        if self.frames == "all":
            return valid
        masked = torch.zeros_like(valid) if encoded.masked is None else encoded.masked
        return valid & (masked if self.frames == "masked" else ~masked)

    def remove_pretraining_modules(self) -> None:
        """Leaves what fine-tuning needs: the heads go."""
        super().remove_pretraining_modules()
        self.heads = self.cluster_head = None
