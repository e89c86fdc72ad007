"""Criterion `distillation`: weighs the losses, logs them, and leaves their arithmetic to `losses/`."""

import contextlib
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from fairseq import utils
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics
from torch import Tensor

from distill_user_dir.criterions.discriminative import Target, Temperatures, sums_of_sets
from distill_user_dir.criterions.distillation_config import FRONTS, DistillationCriterionConfig
from distill_user_dir.losses.features import feature_penalty
from distill_user_dir.losses.frontend import frontend_loss
from distill_user_dir.losses.regression import regression
from distill_user_dir.modules.frame_alignment import align, labelled_frames
from distill_user_dir.modules.padding import Chosen
from distill_user_dir.stages import check_stages

NO_TEACHER = "there is no teacher: this model was rebuilt from its checkpoint, not built to be distilled"
UNJUDGED = "unjudged"  # logged by validations of the first stage, which are not compared with those of the second
COUNTED = ("discriminative", "agreement")  # means over the frames that the discriminative loss counts
COUNTS = ("ntokens", "nsentences", "sample_size", "counted", UNJUDGED)
HISTOGRAM = "_clusters_"


@register_criterion("distillation", dataclass=DistillationCriterionConfig)
class DistillationCriterion(FairseqCriterion):
    """Means over all valid frames of an update: it returns sums, and fairseq divides them by the frames of all
    workers and batches.

    The discriminative loss alone is a mean over the frames that it counts. Beside a regression both are divided by all
    valid frames, since fairseq divides by one number: frames that do not count then add nothing.
    """

    def __init__(self, cfg: DistillationCriterionConfig, task: Any):
        super().__init__(task)
        for name in ("student_temperature", "teacher_temperature"):
            if not getattr(cfg, name) > 0:
                raise ValueError(f"criterion.{name}={getattr(cfg, name):g}: a temperature is more than 0 (HuBERT: 0.1)")
        check_stages(cfg)
        self.cfg = cfg
        self.labelled = cfg.discriminative_weight > 0 and str(cfg.discriminative_target) == "kmeans"
        self.validates_masked = cfg.discriminative_weight > 0 and str(cfg.discriminative_frames) != "all"
        self.needs_teacher = cfg.regression_weight > 0 or cfg.discriminative_weight > 0 and not self.labelled

    def forward(self, model: Any, sample: Dict[str, Any], reduce: bool = True) -> Tuple[Tensor, int, Dict[str, Any]]:
        """The weighted sum of the losses, the number of frames to divide it by, and what is logged of them."""
        net_input, first_stage = {**sample["net_input"], "lengths": sample.get("lengths")}, model.in_frontend_stage
        label_counts = None
        if self.labelled and not first_stage:
            label_counts = self.label_counts(sample)
        layers, front = self.needs_teacher and not first_stage, model.predicts_front
        # the teacher first: what it needs on its way is then free before the student's activations are there
        teacher = self.run_teacher(model, net_input, layers, front) if layers or front else None
        with self.masks(model, sample) as mask:
            predicted = model(**net_input, mask=mask, label_counts=label_counts)
        if teacher is not None:
            check_frames(predicted.frames, kept(teacher.frames, label_counts, model))
        loss, log = 0.0, {"nsentences": net_input["source"].size(0), "ntokens": predicted.valid.count}
        if front:
            loss = loss + (1.0 if first_stage else self.cfg.frontend_weight) * self.frontend(predicted, teacher, log)
        if first_stage:
            log.update(sample_size=log["ntokens"], counted=0)
            log.update({} if model.training else {UNJUDGED: 1})
        else:
            loss = loss + self.second_stage(model, sample, predicted, teacher, log)
        log["loss"] = loss.detach()
        return loss, log["sample_size"], log

    def second_stage(
        self, model: Any, sample: Dict[str, Any], predicted: Any, teacher: Any, log: Dict[str, Any]
    ) -> Tensor:
        """The weighted sum of the losses behind the front-end's."""
        counted = predicted.counted.count
        log.update(counted=counted, sample_size=log["ntokens"] if self.cfg.regression_weight > 0 else counted)
        loss = 0.0
        target = None  # before the regression, which lets go of the teacher's layers
        if self.cfg.discriminative_weight > 0:
            target = self.target(model, sample, predicted, teacher)
        if self.cfg.regression_weight > 0:
            loss = loss + self.cfg.regression_weight * self.regression(predicted, teacher, log)
        if target is not None:
            loss = loss + self.cfg.discriminative_weight * self.discriminative(predicted, target, log)
        if predicted.features is not None:  # the mean over the batch, as often as its frames count
            log["penalty"] = feature_penalty(predicted.valid.of(predicted.features))
            loss = loss + self.cfg.feature_penalty * log["penalty"] * (log["sample_size"] / log["ntokens"])
            log["penalty"] = log["penalty"].detach()
        return loss

    @staticmethod
    def label_counts(sample: Dict[str, Any]) -> Tensor:
        """(B,) the labels of each utterance in this batch: the fewest of its label sets, as fairseq has it; on the CPU
        where the data set tells."""
        if "label_counts" in sample:
            return torch.tensor(sample["label_counts"])
        return torch.stack(list(sample["target_lengths_list"])).amin(0)

    @contextlib.contextmanager
    def masks(self, model: Any, sample: Dict[str, Any]) -> Iterator[bool]:
        """Whether to mask: in training, and in a validation that counts masked or unmasked frames only.

        Masks of training follow from the seed and the update, by which the trainer seeds torch; those of a validation
        from the seed and the utterances.
        """
        if model.training or not self.validates_masked or model.in_frontend_stage:
            yield model.training
            return
        with utils.set_torch_seed(hash((self.task.cfg.seed, *sample["id"].tolist())) % 2**31):
            yield True

    def run_teacher(self, model: Any, net_input: Dict[str, Tensor], layers: bool, front: bool) -> Any:
        """In the precision of the student's weights."""
        if self.task.teacher is None:
            raise ValueError(NO_TEACHER)
        teacher = self.task.teacher.to(net_input["source"].device, next(model.parameters()).dtype)
        return teacher(**net_input, layers=layers, front=front)

    def frontend(self, predicted: Any, teacher: Any, log: Dict[str, Any]) -> Tensor:
        """Summed over the valid frames."""
        target = teacher.layers[FRONTS[str(self.cfg.frontend_target)]]
        front, target = predicted.valid.of(predicted.front), predicted.valid.of(target)
        loss = frontend_loss(front, target, str(self.cfg.frontend_distance))
        log["frontend"] = loss.detach()
        return loss

    def regression(self, predicted: Any, teacher: Any, log: Dict[str, Any]) -> Tensor:
        """Mean over the predicted layers, summed over the valid frames."""
        valid = predicted.valid
        total, parts = 0.0, {"distance": 0.0, "cosine": 0.0}
        for target, layer, features in layer_pairs(predicted.targets, predicted.layers, teacher.layers, valid):
            sums = regression(layer, features, str(self.cfg.regression_distance), self.cfg.cosine_weight)
            total = total + sums["loss"] / len(predicted.targets)
            log[f"layer_{target}"] = sums["loss"].detach()
            parts = {part: value + sums[part] / len(predicted.targets) for part, value in parts.items()}
        log.update(parts, regression=total.detach())
        return total

    def target(self, model: Any, sample: Dict[str, Any], predicted: Any, teacher: Any) -> Target:
        """What each label set is to be: labels, or what the teacher says. It is asked again in the backward pass, and
        so holds on to nothing but what that takes."""
        counted, size, ratio = predicted.counted, predicted.size, model.feat2tar_ratio
        if self.labelled:
            labels = sample["target_list"]
            return lambda number: counted.of(align(labels[number], size, ratio))
        judge, hard = self.task.teacher, str(self.cfg.discriminative_target) == "hard"
        frames = judge.chosen(teacher, counted)

        def say(number: int) -> Tensor:
            logits = judge.clusters(frames[number], number)
            return logits.argmax(-1) if hard else logits

        return say

    def discriminative(self, predicted: Any, target: Target, log: Dict[str, Any]) -> Tensor:
        """Summed over the counted frames and over the label sets, as fairseq's HuBERT does."""
        total, hits, sets = 0.0, 0.0, predicted.clusters
        temperatures = Temperatures(self.cfg.student_temperature, self.cfg.teacher_temperature)
        for number, (loss, right, counts) in enumerate(sums_of_sets(sets, target, temperatures)):
            total, hits = total + loss, hits + right / len(sets)
            log[f"{HISTOGRAM}{number}"] = counts
        log.update(discriminative=total.detach(), agreement=hits)
        return total

    @classmethod
    def reduce_metrics(cls, logging_outputs: List[Dict[str, Any]]) -> None:
        """Means over the frames of all workers; no logarithm of 2 here, since these are no likelihoods.

        `agreement` is the share of the counted frames where the student's likeliest cluster is the teacher's (or the
        label), `commonest` what always saying the commonest cluster would reach, over all batches of a report.
        """

        def total(name: str) -> Any:
            return sum(log.get(name, 0) for log in logging_outputs)

        names = {name for log in logging_outputs for name in log} - set(COUNTS)
        histograms = sorted(name for name in names if name.startswith(HISTOGRAM))
        if total(UNJUDGED) > 0:
            names.remove("loss")
            metrics.log_scalar("loss", None, 0)  # None: fairseq neither picks a checkpoint by it nor stops for it
        scalars = sorted(names - set(histograms))
        sums = read({name: total(name) for name in (*scalars, "sample_size", "counted", "ntokens")})
        for name in scalars:
            size = sums["sample_size" if name == "loss" else "counted" if name in COUNTED else "ntokens"]
            metrics.log_scalar(name, sums[name] / max(size, 1.0), size, round=4, priority=0 if name == "loss" else 10)
        for name in histograms:
            metrics.log_scalar_sum(name, total(name))
        if histograms:
            metrics.log_derived("commonest", lambda meters: commonest([meters[name].sum for name in histograms]))

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def layer_pairs(
    targets: Sequence[int], predicted: Sequence[Tensor], layers: Dict[int, Tensor], valid: Chosen
) -> Iterator[Tuple[int, Tensor, Tensor]]:
    """For each predicted layer its number in the teacher, and the valid frames of the prediction and of the teacher's,
    (F, D) each. Takes from `layers` what is needed no more."""
    for number, (target, layer) in enumerate(zip(targets, predicted), 1):
        features = layers[target]
        if target not in targets[number:]:
            del layers[target]
        yield target, valid.of(layer), valid.of(features)


def read(values: Dict[str, Any]) -> Dict[str, float]:
    """Numbers and tensors of one number each -> numbers, by one transfer from the device."""
    tensors = {name: value.double() for name, value in values.items() if isinstance(value, Tensor)}
    numbers = torch.stack(list(tensors.values())).tolist() if tensors else []
    return {**values, **dict(zip(tensors, numbers))}


def commonest(histograms: List[Tensor]) -> float:
    """(C,) counts for each label set -> the share of the commonest cluster, averaged over the sets."""
    return round(sum(float(h.max()) / max(float(h.sum()), 1.0) for h in histograms) / len(histograms), 4)


def kept(teacher: Tensor, label_counts: Optional[Tensor], model: Any) -> Tensor:
    """(B,) frames of the teacher -> without those that fairseq's alignment to frame labels leaves out."""
    if label_counts is None:
        return teacher
    return labelled_frames(teacher, label_counts.to(teacher.device), model.feat2tar_ratio)


def check_frames(student: Tensor, teacher: Tensor) -> None:
    """(B,) valid frames of both must be the same; nothing is ever trimmed to fit."""
    if not torch.equal(student, teacher):
        ours, theirs = student.tolist()[:8], teacher.tolist()[:8]
        raise ValueError(f"frames of the student {ours} and the teacher {theirs} differ: CNNs do not align")
