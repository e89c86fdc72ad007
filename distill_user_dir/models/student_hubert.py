"""The student: a HuBERT of any size with prediction heads."""

from typing import Any, List, NamedTuple, Optional, Sequence

import torch
from fairseq.models import register_model
from omegaconf import OmegaConf
from torch import Tensor, nn

from distill_user_dir.models.student_config import StudentHubertConfig
from distill_user_dir.modules.cluster_heads import SetPrediction, cluster_head
from distill_user_dir.modules.frontends import FRONTENDS, Frontend
from distill_user_dir.modules.heads import HEADS
from distill_user_dir.modules.hubert import FEATURES, PROJECTED, Encoded, LengthAwareHubert, plain_config
from distill_user_dir.modules.padding import Chosen, padding_mask
from distill_user_dir.stages import in_frontend_stage, learns


class Predictions(NamedTuple):
    """targets: the teacher layers predicted; layers: the predictions, (B, T, D) each; frames: (B,) valid frames of each
    utterance; size: T; valid: all valid frames; counted: those of the discriminative loss; clusters: what the logits of
    each label set are made of, (counted, D) frames and a head; front: (B, T, D), the prediction of the teacher's
    front-end, or None; features: (B, T, C), the CNN's output, or None where nothing is to be paid for it. In the first
    stage of a front-end distillation there are no layers and clusters."""

    targets: List[int]
    layers: List[Tensor]
    frames: Tensor
    size: int
    valid: Chosen
    counted: Optional[Chosen]
    clusters: List[SetPrediction]
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


def cluster_layers(cfg: Any) -> List[int]:
    """The layer, counted from 1, that predicts each label set. ValueError where the config names one that is none."""
    layers, sets, depth = list(cfg.discriminative_layers), len(cfg.cluster_sizes), cfg.encoder_layers
    if layers and len(layers) != sets:
        raise ValueError(
            f"criterion.discriminative_layers={layers} has {len(layers)} entries, expected {sets}: a student "
            "layer for each label set, or none at all for the last layer"
        )
    beyond = [layer for layer in layers if not 1 <= layer <= depth]
    if beyond:
        raise ValueError(
            f"criterion.discriminative_layers={layers}: there is no layer {beyond[0]}, the student has layers 1 to "
            f"{depth}"
        )
    return layers or [depth] * sets


def check_teacher_width(cfg: Any) -> None:
    if cfg.teacher_embed_dim <= 0:
        raise ValueError("model.teacher_embed_dim=0: there is no teacher to read it from; give the width")


def with_frames_of(frontend: Frontend, cfg: Any, task_cfg: Any) -> Any:
    """The config of a HuBERT whose CNN, which is then replaced, makes the frames of a front-end on features.

    Features of a window of W every S samples, and then an odd kernel with half of it as padding and stride K, have the
    frames of a CNN of one layer with kernel W and stride K S. ValueError where it cannot be.
    """
    if task_cfg.normalize:
        raise ValueError(f"task.normalize=true is for a waveform; {cfg.frontend} wants raw audio: set it to false")
    if cfg.init_feature_extractor:
        raise ValueError(
            f"model.init_feature_extractor=true: frontend={cfg.frontend} has no CNN to start from; set it to false"
        )
    window, shift, stride = frontend.frames(cfg)
    window, shift = (int(task_cfg.sample_rate * length * 0.001) for length in (window, shift))
    frames = f"[({cfg.encoder_embed_dim},{window},{shift * stride})]"
    return OmegaConf.merge(plain_config(cfg), {"conv_feature_layers": frames, "extractor_mode": "default"})


@register_model("student_hubert", dataclass=StudentHubertConfig)
class StudentHubert(LengthAwareHubert):
    """A HuBERT with heads that predict the teacher's layers, its clusters, or both: one set of heads for each loss
    whose weight is not 0."""

    def __init__(self, cfg: StudentHubertConfig, task_cfg: Any):
        frontend = FRONTENDS.get(str(cfg.frontend))
        hubert = cfg if frontend is None else with_frames_of(frontend, cfg, task_cfg)
        super().__init__(hubert, task_cfg, [None], cfg.valid_statistics)
        super().remove_pretraining_modules()
        self.has_cnn = frontend is None
        if frontend is not None:
            self.feature_extractor = frontend.build(cfg, task_cfg.sample_rate)
            self.layer_norm = nn.Identity()
        self.targets, self.heads, self.cluster_head, self.frontend_head = [], None, None, None
        self.cluster_layers: List[int] = []
        self.frontend_updates, self.frontend_weight = cfg.frontend_updates, cfg.frontend_weight
        self.pays_for_features = cfg.feature_penalty > 0 and self.has_cnn
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
            self.cluster_layers = cluster_layers(cfg)
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
        keep = self.cluster_layers if self.heads is None else list(range(1, depth + 1))
        keep = [*keep, *[PROJECTED] * self.predicts_front, *[FEATURES] * self.pays_for_features]
        encoded = self.encode(source, padding_mask, mask, keep, label_counts=label_counts, lengths=lengths)
        layers = [] if self.heads is None else self.heads([encoded.layers[i + 1] for i in range(depth)])
        valid = self.valid(encoded)
        counted = valid if self.frames == "all" else self.counted(encoded)
        clusters = self.clusters(encoded, counted)
        front = self.frontend_head(encoded.layers[PROJECTED]) if self.predicts_front else None
        features = encoded.layers.get(FEATURES)
        found = encoded.frames, encoded.x.size(1), valid, counted, clusters, front, features
        return Predictions(self.targets, layers, *found)

    def clusters(self, encoded: Encoded, counted: Chosen) -> List[SetPrediction]:
        """What the logits of each label set are made of; the last layer's frames are those behind its LayerNorm."""
        layers = {**encoded.layers, len(self.encoder.layers): encoded.x}
        chosen = {layer: counted.of(layers[layer]) for layer in set(self.cluster_layers)}
        return [self.cluster_head.of_set(number, chosen[layer]) for number, layer in enumerate(self.cluster_layers)]

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
        return super().extract(source, lengths) if self.has_cnn else self.feature_extractor.convolve(source, lengths)

    def frontend(self, source: Tensor, lengths: Optional[Tensor]) -> Tensor:
        """As of a HuBERT; an Fbank's Linear learns where the front-end is frozen, as a CNN's projection does."""
        features = super().frontend(source, lengths)
        return features if self.has_cnn else self.feature_extractor.proj(features)

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
        self.cluster_layers = []
