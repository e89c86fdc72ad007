"""Task `hubert_distillation`: fairseq's `hubert_pretraining` with a teacher; with fine_tuning=true, its CTC sibling."""

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import Any, List, Optional

import torch
from fairseq.data.dictionary import Dictionary
from fairseq.logging import metrics
from fairseq.optim.fp16_optimizer import FP16Optimizer
from fairseq.tasks import register_task
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig, HubertPretrainingTask, LabelEncoder
from omegaconf import II, open_dict

from distill_user_dir import compat
from distill_user_dir.criterions.distillation import UNJUDGED, DistillationCriterion
from distill_user_dir.data.bad_data import BadFiles, LossWatch, without_fillers
from distill_user_dir.data.dataset import DistillationDataset
from distill_user_dir.data.frame_labels import check_frame_labels
from distill_user_dir.data.manifest import (
    check_audio,
    check_kept,
    check_labels,
    check_sizes,
    read_dictionary,
    read_manifest,
)
from distill_user_dir.models.student_ctc import StudentCtc
from distill_user_dir.stages import in_frontend_stage
from distill_user_dir.teaching.building import build_student
from distill_user_dir.teaching.teacher import Teacher

logger = logging.getLogger(__name__)

SHORTEST = 400  # samples of one frame of HuBERT's CNN and of a 25 ms window alike


@dataclass
class HubertDistillationConfig(HubertPretrainingConfig):
    labels: List[str] = field(
        default_factory=list,
        metadata={"help": "label files to load: none for regression, [km] for frame labels, [ltr] for fine-tuning"},
    )
    teacher_path: Optional[str] = field(
        default=None, metadata={"help": "the teacher's checkpoint: a HuBERT as fairseq wrote it, or a student of ours"}
    )
    teacher_valid_statistics: bool = field(
        default=True,
        metadata={"help": "the teacher's group norm counts valid samples only; false is fairseq's plain behaviour"},
    )
    check_audio: bool = field(
        default=True,
        metadata={"help": "open every audio file of the manifests before training starts"},
    )
    max_bad_share: float = field(
        default=0.0,
        metadata={
            "help": "share of the utterances whose files may be missing, cut or not finite; they are left out, named "
            "and counted. 0: the first one ends the run"
        },
    )
    persistent_workers: bool = field(
        default=True,
        metadata={
            "help": "keep the data workers of the training split over epochs, which may be as short as an update"
        },
    )
    reuse_dataloader: bool = field(default=True, metadata={"help": "has to be as persistent_workers"})
    frontend_updates: int = field(
        default=0,
        metadata={"help": "what frontend=fbank gives to criterion.frontend_updates: a recipe's, of its length"},
    )
    seed: int = II("common.seed")
    train_subset: str = II("dataset.train_subset")
    best_checkpoint_metric: str = II("checkpoint.best_checkpoint_metric")
    save_dir: str = II("checkpoint.save_dir")


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
        return model

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

    def load_dictionaries(self) -> List[Dictionary]:
        """`{label_dir}/dict.{label}.txt` of every label set; ValueError where one is missing or malformed."""
        for label in self.cfg.labels:
            read_dictionary(f"{self.get_label_dir()}/dict.{label}.txt")
        return super().load_dictionaries()

    def load_dataset(self, split: str, **kwargs: Any) -> None:
        """`{data}/{split}.tsv` and its label files, checked; ValueError names the file, the line and the way out."""
        cfg = self.cfg
        dicts = [self.target_dictionary] if cfg.fine_tuning else self.dictionaries
        manifest = read_manifest(f"{cfg.data}/{split}.tsv")
        labels = [f"{self.get_label_dir()}/{split}.{label}" for label in cfg.labels]
        for path, dictionary in zip(labels, dicts):
            check_labels(manifest, path)
            if not cfg.fine_tuning:
                check_frame_labels(manifest, path, dictionary, cfg.sample_rate, cfg.label_rate)
        check_kept(manifest, cfg.min_sample_size or 0, cfg.max_keep_size)
        check_sizes(manifest, SHORTEST, cfg.min_sample_size or 0)
        if cfg.check_audio:
            check_audio(manifest, cfg.sample_rate, cfg.max_bad_share)
        crop = not cfg.fine_tuning and split in cfg.train_subset.split(",")
        self.datasets[split] = DistillationDataset(
            manifest.path,
            seed=cfg.seed,
            max_bad_share=cfg.max_bad_share,
            sample_rate=cfg.sample_rate,
            label_paths=labels,
            label_rates=cfg.label_rate,
            pad_list=[dictionary.pad() for dictionary in dicts],
            eos_list=[dictionary.eos() for dictionary in dicts],
            label_processors=[LabelEncoder(dictionary) for dictionary in dicts],
            max_keep_sample_size=cfg.max_keep_size,
            min_keep_sample_size=cfg.min_sample_size,
            max_sample_size=cfg.max_sample_size if crop else None,
            pad_audio=bool(cfg.pad_audio) or not crop,
            normalize=False,
            store_labels=False,
            random_crop=bool(cfg.random_crop) and crop,
            single_target=cfg.fine_tuning or cfg.single_target,
        )


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
