"""Criterion `ctc_distillation`: a student with CTC learns from a fine-tuned teacher, from transcripts, or from both."""

import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from fairseq.criterions import register_criterion
from fairseq.criterions.ctc import CtcCriterion, CtcCriterionConfig
from fairseq.data.dictionary import Dictionary
from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics
from torch import Tensor

from distill_user_dir.criterions.distillation import NO_TEACHER, check_frames, layer_pairs, read
from distill_user_dir.data.dataset import PSEUDO, TRANSCRIPT
from distill_user_dir.losses.ctc import BLANK, Units, best_path, blank_weights, ctc, frame_kl
from distill_user_dir.losses.regression import DISTANCES, regression
from distill_user_dir.modules.padding import Chosen, padding_mask

WEIGHTS = ("frame_weight", "pseudo_weight", "transcript_weight", "regression_weight")
TERMS = ("frame", "pseudo", "transcript", "regression")  # of the loss, each divided by all valid frames
SPECIAL = Dictionary().nspecial  # the first of its symbols are no letters
PARTS = ("blank", "letters")  # of the first term, each divided by its own frames: the teacher's likeliest unit is blank


@dataclass
class CtcDistillationConfig(CtcCriterionConfig):
    frame_weight: float = field(
        default=1.0, metadata={"help": "weight of the KL divergence from the teacher's posterior, frame by frame"}
    )
    pseudo_weight: float = field(
        default=1.0,
        metadata={
            "help": "weight of CTC on the teacher's words: its best path, or, for task.pseudo_labelled, the label file"
        },
    )
    transcript_weight: float = field(
        default=0.0, metadata={"help": "weight of CTC on the transcripts of the utterances that have one"}
    )
    regression_weight: float = field(
        default=0.0,
        metadata={"help": "weight of the regression on the teacher's layers; above 0 it needs model.keep_heads=true"},
    )
    regression_distance: ChoiceEnum(list(DISTANCES)) = field(default="l1", metadata={"help": "see distillation"})
    cosine_weight: float = field(default=1.0, metadata={"help": "see distillation"})
    temperature: float = field(default=1.0, metadata={"help": "divides the logits of both in the KL divergence"})
    blank_threshold: float = field(
        default=1.0, metadata={"help": "frames whose blank is likelier than this to the teacher have blank_weight"}
    )
    blank_weight: float = field(default=1.0, metadata={"help": "of these frames in the KL divergence; the others: 1"})


class Taught(NamedTuple):
    """Of the teacher. logits: (B, T, V); frames: (B,) valid ones; layers: {1-based layer: (B, T, D)}."""

    logits: Tensor
    frames: Tensor
    layers: Dict[int, Tensor]


class Computed(NamedTuple):
    """A model in evaluation whose output is there already."""

    model: Any
    output: Any
    training: bool = False

    def __call__(self, **net_input: Any) -> Any:
        return self.output

    def get_normalized_probs(self, net_output: Any, log_probs: bool) -> Tensor:
        return self.model.get_normalized_probs(net_output, log_probs)


def check(cfg: CtcDistillationConfig, task: Any) -> None:
    """ValueError for settings that say nothing, or nothing that the data have. task: its config."""
    for name in (*WEIGHTS, "blank_weight"):
        if not 0 <= getattr(cfg, name) < math.inf:
            raise ValueError(f"criterion.{name}={getattr(cfg, name):g}: it has to be 0 or more")
    if not 0 < cfg.temperature < math.inf:
        raise ValueError(f"criterion.temperature={cfg.temperature:g}: a temperature is more than 0 (1 as it is)")
    if not any(getattr(cfg, name) for name in WEIGHTS):
        raise ValueError(f"criterion.{'=0 criterion.'.join(WEIGHTS)}=0: there is no loss")
    splits = set(task.train_subset.split(","))
    transcribed = splits - {*task.unlabelled, *task.pseudo_labelled}
    if cfg.transcript_weight > 0 and (not transcribed or task.labelled_share == 0):
        what = "task.labelled_share=0" if transcribed else f"no transcripts in dataset.train_subset={task.train_subset}"
        raise ValueError(f"criterion.transcript_weight={cfg.transcript_weight:g}, but {what}; set one of them anew")
    if cfg.pseudo_weight == 0 and splits & set(task.pseudo_labelled):
        raise ValueError("criterion.pseudo_weight=0, but task.pseudo_labelled names splits to learn from; set it to 1")
    if cfg.blank_weight != 1 and not cfg.blank_threshold < 1:
        raise ValueError(f"criterion.blank_weight={cfg.blank_weight:g} needs criterion.blank_threshold below 1")
    if asks_teacher(cfg, task) and not task.teacher_path:
        raise ValueError("task.teacher_path is not set: name the checkpoint of the fine-tuned teacher")


def asks_teacher(cfg: CtcDistillationConfig, task: Any) -> bool:
    """Whether a training on these splits cannot do without a teacher."""
    searches = cfg.pseudo_weight > 0 and not set(task.train_subset.split(",")) <= set(task.pseudo_labelled)
    return cfg.frame_weight > 0 or cfg.regression_weight > 0 or searches


def check_teacher(cfg: CtcDistillationConfig, teacher: Any) -> None:
    """ValueError for a teacher of other units, and where nothing predicts its layers."""
    if teacher.units != cfg.post_process:
        group = {"letter": "letters"}.get(teacher.units, teacher.units)
        told = f"the teacher writes in units of kind {teacher.units}; add units={group}"
        raise ValueError(f"criterion.post_process={cfg.post_process}, but {told}")
    if cfg.regression_weight > 0 and not teacher.layers:
        raise ValueError(f"criterion.regression_weight={cfg.regression_weight:g} needs model.keep_heads=true")


@register_criterion("ctc_distillation", dataclass=CtcDistillationConfig)
class CtcDistillationCriterion(CtcCriterion):
    """Three sums over an update, divided by one number, its valid frames, since fairseq has one. So neither padding nor
    the way in which an update is cut into batches changes it; weights are per frame."""

    def __init__(self, cfg: CtcDistillationConfig, task: Any):
        check(cfg, task.cfg)
        super().__init__(cfg, task)
        self.cfg = cfg
        self.searches = cfg.pseudo_weight > 0 and bool(task.cfg.teacher_path)  # be it in validations alone
        self.needs_teacher = cfg.frame_weight > 0 or cfg.regression_weight > 0 or self.searches
        if self.needs_teacher and task.teacher is not None:
            check_teacher(cfg, task.teacher)

    def forward(self, model: Any, sample: Dict[str, Any], reduce: bool = True) -> Tuple[Tensor, int, Dict[str, Any]]:
        """The weighted sum of the losses, the number of frames to divide it by, and what is logged of them."""
        net_input = sample["net_input"]
        teacher = self.run_teacher(model, sample)  # first: what it needs is then free again
        output = model(**net_input)
        student = output["encoder_out"].transpose(0, 1)
        frames = model.w2v_encoder.w2v_model.num_frames(torch.tensor(sample["lengths"]))
        valid = Chosen.where(~padding_mask(frames, student.size(1)), student.device)
        log = {"ntokens": valid.count, "sample_size": valid.count, "nsentences": len(frames)}
        loss = student[:0].float().sum()  # of a batch without transcripts, where nothing else counts
        if teacher is not None:
            check_frames(frames, teacher.frames)
            if self.cfg.frame_weight > 0:
                loss = loss + self.cfg.frame_weight * self.frame(valid.of(student), valid.of(teacher.logits), log)
            if self.cfg.regression_weight > 0:
                loss = loss + self.cfg.regression_weight * self.regression(model, output, teacher, valid, log)
        log_probs = model.get_normalized_probs(output, log_probs=True).transpose(0, 1)
        if self.cfg.pseudo_weight > 0:
            found = None if teacher is None else self.found(teacher.logits, frames, sample, log)
            loss = loss + self.cfg.pseudo_weight * self.pseudo(log_probs, frames, found, sample, log)
        if self.cfg.transcript_weight > 0:
            loss = loss + self.cfg.transcript_weight * self.transcript(log_probs, frames, sample, log)
        if not model.training and set(sample["sources"]) == {TRANSCRIPT}:
            log.update(self.word_errors(model, output, sample))
        log["loss"] = loss.detach()
        return loss, valid.count, log

    def run_teacher(self, model: Any, sample: Dict[str, Any]) -> Optional[Taught]:
        """In the precision of the student's weights; None where nothing is asked of it."""
        searches = self.searches and set(sample["sources"]) != {PSEUDO}
        if not (self.cfg.frame_weight > 0 or self.cfg.regression_weight > 0 or searches):
            return None
        if self.task.teacher is None:
            raise ValueError(NO_TEACHER)
        net_input = sample["net_input"]
        teacher = self.task.teacher.to(net_input["source"].device, next(model.parameters()).dtype)
        layers = self.cfg.regression_weight > 0
        output = teacher(net_input["source"], net_input["padding_mask"], layers, lengths=sample["lengths"])
        return Taught(teacher.logits(output), output.frames, output.layers)

    def regression(self, model: Any, output: Any, teacher: Taught, valid: Chosen, log: Dict[str, Any]) -> Tensor:
        """Mean over the predicted layers, summed over the valid frames."""
        targets, total = model.w2v_encoder.w2v_model.targets, 0.0
        for _, layer, features in layer_pairs(targets, output["predicted"], teacher.layers, valid):
            found = regression(layer, features, str(self.cfg.regression_distance), self.cfg.cosine_weight)["loss"]
            total = total + found / len(targets)
        log["regression"] = total.detach()
        return total

    def frame(self, student: Tensor, teacher: Tensor, log: Dict[str, Any]) -> Tensor:
        """(F, V) logits of both -> summed over the frames."""
        each = frame_kl(student, teacher, self.cfg.temperature)
        silent = teacher.argmax(-1) == BLANK
        log.update(blank_frames=silent.sum(), letters_frames=(~silent).sum())
        log.update(blank=(each * silent).sum().detach(), letters=(each * ~silent).sum().detach())
        if self.cfg.blank_weight != 1 and self.cfg.blank_threshold < 1:
            each = each * blank_weights(teacher, self.cfg.blank_threshold, self.cfg.blank_weight)
        log["frame"] = each.sum().detach()
        return each.sum()

    @staticmethod
    def found(teacher: Tensor, frames: Tensor, sample: Dict[str, Any], log: Dict[str, Any]) -> Units:
        """The best path of a teacher's (B, T, V) logits, of the utterances whose label file does not hold its words."""
        known = torch.tensor(sample["sources"]) == PSEUDO
        ignored = padding_mask(frames, teacher.size(1)) | known.unsqueeze(1)
        found = best_path(teacher, ignored.to(teacher.device), SPECIAL)
        log["empty"] = (found.lengths == 0).sum() - known.sum()
        return found

    def pseudo(
        self, log_probs: Tensor, frames: Tensor, found: Optional[Units], sample: Dict[str, Any], log: Dict[str, Any]
    ) -> Tensor:
        """CTC on the teacher's words, summed over the utterances."""
        loss = ctc(log_probs, frames, self.written(sample, PSEUDO))
        if found is not None:
            loss = loss + ctc(log_probs, frames, found)
        log["pseudo"] = loss.detach()
        return loss

    def transcript(self, log_probs: Tensor, frames: Tensor, sample: Dict[str, Any], log: Dict[str, Any]) -> Tensor:
        """CTC on the transcripts, summed over the utterances that have one."""
        loss = ctc(log_probs, frames, self.written(sample, TRANSCRIPT))
        known = [int(count) for count, source in zip(frames, sample["sources"]) if source == TRANSCRIPT]
        log.update(transcript=loss.detach(), labelled=sum(known))
        return loss

    def written(self, sample: Dict[str, Any], source: int) -> Units:
        """The units in the label files, of the utterances whose words are from this source."""
        target = sample["target"]
        rows = torch.tensor(sample["sources"], device=target.device) == source
        kept = (target != self.pad_idx) & (target != self.eos_idx) & rows.unsqueeze(1)
        return Units(target[kept].long(), kept.sum(1))

    def word_errors(self, model: Any, output: Any, sample: Dict[str, Any]) -> Dict[str, Any]:
        """As fairseq's `ctc` counts them."""
        log = super().forward(Computed(model, output), sample)[2]
        return {name: count for name, count in log.items() if name.endswith(("_errors", "_total"))}

    @staticmethod
    def reduce_metrics(logging_outputs: List[Dict[str, Any]]) -> None:
        """fairseq's, with losses in nats a frame where it has bits, and the terms."""
        names = sorted({name for log in logging_outputs for name in log})
        sums = read({name: sum(log.get(name, 0) for log in logging_outputs) for name in names})
        CtcCriterion.reduce_metrics([{**sums, "loss": sums["loss"] * math.log(2)}])
        for name in TERMS:
            if name in sums:
                metrics.log_scalar(name, sums[name] / max(sums["ntokens"], 1), sums["ntokens"], round=4)
        for name in PARTS:
            if sums.get(f"{name}_frames", 0) > 0:
                count = sums[f"{name}_frames"]
                metrics.log_scalar(name, sums[name] / count, count, round=4, priority=20)
        if "labelled" in sums:
            metrics.log_scalar("labelled", sums["labelled"] / max(sums["ntokens"], 1), sums["ntokens"], round=3)
        if "empty" in sums:
            metrics.log_scalar_sum("empty", sums["empty"], priority=20)
