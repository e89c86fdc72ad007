"""Task `hubert_distillation`: fairseq's `hubert_pretraining` with a teacher; with fine_tuning=true, its CTC sibling."""

import logging
import os
from functools import partial
from typing import Any, List, Optional

import torch
from fairseq.logging import metrics
from fairseq.optim.fp16_optimizer import FP16Optimizer
from fairseq.tasks import register_task
from fairseq.tasks.hubert_pretraining import HubertPretrainingTask
from omegaconf import open_dict

from distill_user_dir import compat
from distill_user_dir.criterions.ctc_distillation import CtcDistillationCriterion
from distill_user_dir.criterions.distillation import UNJUDGED, DistillationCriterion
from distill_user_dir.data.bad_data import BadFiles, LossWatch, without_fillers
from distill_user_dir.data.manifest import read_dictionary
from distill_user_dir.models.student_ctc import StudentCtc
from distill_user_dir.stages import in_frontend_stage
from distill_user_dir.tasks.hubert_distillation_config import HubertDistillationConfig
from distill_user_dir.tasks.splits import load_splits
from distill_user_dir.teaching.building import build_student
from distill_user_dir.teaching.ctc_teacher import dictionary_in, load_ctc_teacher
from distill_user_dir.teaching.teacher import Teacher

logger = logging.getLogger(__name__)


@register_task("hubert_distillation", dataclass=HubertDistillationConfig)
class HubertDistillationTask(HubertPretrainingTask):
    """Data sets deliver raw audio, whatever `normalize` says: each model normalises as its own config demands.

    Only the training split of a distillation is cropped; validation, fine-tuning and decoding always see the whole
    utterance. The teacher is loaded when a student is built for training, and by nothing else.
    """

    cfg: HubertDistillationConfig

    def __init__(self, cfg: HubertDistillationConfig) -> None:
        super().__init__(cfg)
        self.teacher: Optional[Teacher] = None
        self.stage: Optional[int] = None  # of the last update of this process
        self.bad_files = BadFiles(cfg.max_bad_share, self.datasets)
        self.losses = LossWatch(cfg.save_dir)
        self.iterator: Any = None  # over the training split, in the latest epoch

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> torch.nn.Module:
        build = partial(super().build_model, from_checkpoint=from_checkpoint)
        if cfg._name == "student_hubert" and not from_checkpoint:
            model, self.teacher = build_student(self, cfg, build)
            return model
        model = build(cfg)
        if isinstance(model, StudentCtc) and not from_checkpoint:
            with open_dict(cfg):  # fairseq builds models from a copy of cfg, and saves the original
                cfg.w2v_args = model.cfg.w2v_args
            if self.cfg.teacher_path:
                self.teacher = load_ctc_teacher(self, model)
        return model

    def build_criterion(self, cfg: Any, *arguments: Any) -> Any:
        """fairseq's; ValueError for one that would take speech without transcripts for silence."""
        criterion = super().build_criterion(cfg, *arguments)
        if self.cfg.fine_tuning and not isinstance(criterion, CtcDistillationCriterion):
            for name in ("unlabelled", "pseudo_labelled", "labelled_share"):
                if self.cfg[name]:
                    raise ValueError(f"task.{name}={self.cfg[name]} is for loss=ctc_distillation; leave it out")
        if self.cfg.fine_tuning and not getattr(criterion, "needs_teacher", False):
            self.teacher = None
        return criterion

    def train_step(
        self, sample: Any, model: Any, criterion: Any, optimizer: Any, update_num: int, ignore_grad: bool = False
    ) -> Any:
        """fairseq's, in the stage of this update."""
        self.losses.check()
        if isinstance(criterion, DistillationCriterion):
            self.enter_stage(model, criterion.cfg.frontend_updates, optimizer, update_num)
        sample, nothing = without_needless_mask(sample), ignore_grad or sample.get("filler", False)
        loss, size, log = super().train_step(sample, model, criterion, optimizer, update_num, nothing)
        self.losses.watch(loss, sample["id"], update_num, self.datasets.get(self.cfg.train_subset))
        return (loss, *without_fillers(sample, size, self.bad_files.note(log)))

    def valid_step(self, sample: Any, model: Any, criterion: Any) -> Any:
        loss, size, log = super().valid_step(without_needless_mask(sample), model, criterion)
        return (loss, *without_fillers(sample, size, self.bad_files.note(log)))

    def get_batch_iterator(self, dataset: Any, *arguments: Any, **options: Any) -> Any:
        """fairseq's. It begins anew with each epoch; the data workers of a training go on, and a validation, which may
        be of the same split, leaves its epoch alone."""
        training = "grouped_shuffling" in options  # which fairseq gives in training alone
        if not training:
            options["epoch"] = int(dataset.shared_epoch)
        dataset.check_batches(options.get("max_tokens"), "max_tokens" if training else "max_tokens_valid")
        iterator = super().get_batch_iterator(dataset, *arguments, **options)
        if not training:
            iterator.reuse_dataloader = iterator.persistent_workers = False
        else:
            if self.iterator is not None and self.cfg.persistent_workers:
                compat.keep_workers(self.iterator, iterator)
            self.iterator = iterator
        return iterator

    def enter_stage(self, model: Any, frontend_updates: int, optimizer: Any, update_num: int) -> None:
        """What learns follows from the update's number alone, so that a resumed run does as it would have done."""
        if frontend_updates <= 0:
            return
        stage = 1 if in_frontend_stage(update_num, frontend_updates) else 2
        if getattr(optimizer, "has_flat_params", False):
            raise ValueError(
                "criterion.frontend_updates with common.fp16 needs common.fp16_no_flatten_grads=true: in one "
                "flat tensor the optimizer would change what does not learn yet"
            )
        if stage != self.stage:
            learning = "the front-end alone" if stage == 1 else "the whole student"
            logger.info(f"update {update_num}: stage {stage} of the front-end distillation, {learning} learns")
            self.stage = stage
            model.set_num_updates(update_num)
            model.choose_what_learns()
            without_gradients(optimizer)

    def reduce_metrics(self, logging_outputs: List[Any], criterion: Any) -> None:
        """fairseq's; a validation of the first stage has no value of the metric that picks checkpoints."""
        super().reduce_metrics(self.bad_files.count(logging_outputs), criterion)
        if any(log.get(UNJUDGED) for log in logging_outputs):
            metrics.log_scalar(self.cfg.best_checkpoint_metric, None, 0)

    def load_dictionaries(self) -> Any:
        """`{label_dir}/dict.{label}.txt` of every label set, or, where a fine-tuning has none, its teacher's units;
        ValueError where one is missing or malformed."""
        if self.cfg.fine_tuning and not self.cfg.labels:
            raise ValueError("task.labels is empty: name the units, units=letters or units=sentencepiece")
        paths = [f"{self.get_label_dir()}/dict.{label}.txt" for label in self.cfg.labels]
        if self.cfg.fine_tuning and self.cfg.teacher_path and not os.path.exists(paths[0]):
            return dictionary_in(self.cfg.teacher_path, self.cfg.teacher_dict)
        for path in paths:
            read_dictionary(path)
        return super().load_dictionaries()

    def load_dataset(self, split: str, **kwargs: Any) -> None:
        """The data set of a split, or of several with commas between them as one; ValueError names what is wrong."""
        dicts = [self.target_dictionary] if self.cfg.fine_tuning else self.dictionaries
        self.datasets[split] = load_splits(self.cfg, split, self.get_label_dir(), dicts)


def without_needless_mask(sample: Any) -> Any:
    """A batch in which nothing is padded has no padding mask: the model need not ask the device."""
    net_input = sample["net_input"]
    if "lengths" not in sample or min(sample["lengths"]) < net_input["source"].size(1):
        return sample
    return {**sample, "net_input": {**net_input, "padding_mask": None}}


def without_gradients(optimizer: Any) -> None:
    """Takes the gradients away from the float32 copies of what does not learn: fairseq's FP16Optimizer begins with
    zeros, by which Adam would make moments and decay weights."""
    if isinstance(optimizer, FP16Optimizer):
        for half, whole in zip(optimizer.fp16_params, optimizer.fp32_params):
            if not half.requires_grad:
                whole.grad = None
