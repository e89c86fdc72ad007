"""Criterion `distillation`: weighs the losses, logs them, and leaves their arithmetic to `losses/`."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Tuple

from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.logging import metrics
from torch import Tensor

from distill_user_dir.losses.regression import DISTANCES, regression


@dataclass
class DistillationCriterionConfig(FairseqDataclass):
    regression_weight: float = field(default=1.0, metadata={"help": "weight of the regression loss (Wang et al.: 1)"})
    regression_distance: ChoiceEnum(list(DISTANCES)) = field(
        default="l1", metadata={"help": "distance of student and teacher, averaged over the feature dimension"}
    )
    cosine_weight: float = field(
        default=1.0, metadata={"help": "lambda, the weight of -log sigmoid(cosine) (Wang et al.: 1)"}
    )


@register_criterion("distillation", dataclass=DistillationCriterionConfig)
class DistillationCriterion(FairseqCriterion):
    """Means over all valid frames of an update: it returns sums, and fairseq divides them by the frames of all
    workers and batches."""

    def __init__(self, cfg: DistillationCriterionConfig, task: Any):
        super().__init__(task)
        self.cfg = cfg

    def forward(self, model: Any, sample: Dict[str, Any], reduce: bool = True) -> Tuple[Tensor, int, Dict[str, Any]]:
        """loss summed over the valid frames, their number, and what is logged of them."""
        if self.task.teacher is None:
            raise ValueError(
                "there is no teacher: this model was rebuilt from its checkpoint, not built to be distilled"
            )
        net_input = sample["net_input"]
        predicted = model(**net_input, mask=model.training)
        teacher = self.task.teacher.to(net_input["source"].device)(**net_input)
        check_frames(predicted.padding_mask, teacher.padding_mask)
        valid = ~predicted.padding_mask
        frames = int(valid.sum())
        log = {"ntokens": frames, "nsentences": valid.size(0), "sample_size": frames, "distance": 0.0, "cosine": 0.0}
        loss = 0.0
        for target, layer in zip(predicted.targets, predicted.layers):
            sums = regression(
                layer, teacher.layers[target], valid, str(self.cfg.regression_distance), self.cfg.cosine_weight
            )
            loss = loss + sums["loss"] / len(predicted.targets)
            log[f"layer_{target}"] = sums["loss"].detach()
            for part in ("distance", "cosine"):
                log[part] = log[part] + sums[part] / len(predicted.targets)
        loss = self.cfg.regression_weight * loss
        log["loss"] = loss.detach()
        return loss, frames, log

    @classmethod
    def reduce_metrics(cls, logging_outputs: List[Dict[str, Any]]) -> None:
        """Means over the frames of all workers; no logarithm of 2 here, since these are no likelihoods."""
        frames = sum(float(log.get("sample_size", 0)) for log in logging_outputs)
        names = {name for log in logging_outputs for name in log} - {"ntokens", "nsentences", "sample_size"}
        for name in sorted(names):
            total = sum(float(log.get(name, 0)) for log in logging_outputs)
            metrics.log_scalar(name, total / max(frames, 1.0), frames, round=4, priority=0 if name == "loss" else 10)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def check_frames(student: Tensor, teacher: Tensor) -> None:
    """(B, T) padding masks of both must be the same; nothing is ever trimmed to fit."""
    if student.shape != teacher.shape or bool((student != teacher).any()):
        ours, theirs = ((~mask).sum(1).tolist() for mask in (student, teacher))
        raise ValueError(f"frames of the student {ours[:8]} and the teacher {theirs[:8]} differ: CNNs do not align")
