"""Task `hubert_distillation`: fairseq's `hubert_pretraining` with a teacher; with fine_tuning=true, its CTC sibling."""

import logging
from dataclasses import dataclass, field
from typing import Any, List, Optional

import torch
from fairseq.data.dictionary import Dictionary
from fairseq.logging import metrics
from fairseq.optim.fp16_optimizer import FP16Optimizer
from fairseq.tasks import register_task
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig, HubertPretrainingTask, LabelEncoder
from omegaconf import II, OmegaConf, open_dict

from distill_user_dir import compat
from distill_user_dir.bad_data import BadFiles, LossWatch, without_fillers
from distill_user_dir.checkpoints.building import build_hubert
from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.clusters import Clusters, clusters_in
from distill_user_dir.criterions.distillation import FRONTS, UNJUDGED, DistillationCriterion
from distill_user_dir.dataset import DistillationDataset
from distill_user_dir.frame_labels import check_dictionaries, check_frame_labels
from distill_user_dir.initialisation import initialise, initialise_from_student
from distill_user_dir.manifest import check_audio, check_kept, check_labels, check_sizes, read_dictionary, read_manifest
from distill_user_dir.models.student_ctc import StudentCtc
from distill_user_dir.models.student_hubert import StudentHubert
from distill_user_dir.modules.hubert import LengthAwareHubert
from distill_user_dir.needs import Needs, settle
from distill_user_dir.stages import in_frontend_stage
from distill_user_dir.teacher import Teacher

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
        if cfg._name == "student_hubert" and not from_checkpoint:
            return self.build_student(cfg)
        model = super().build_model(cfg, from_checkpoint)
        if isinstance(model, StudentCtc) and not from_checkpoint:
            with open_dict(cfg):  # fairseq builds models from a copy of cfg, and saves the original
                cfg.w2v_args = model.cfg.w2v_args
        return model

    def build_student(self, cfg: Any) -> torch.nn.Module:
        """A student and, where its losses need one, the teacher to run beside it (`self.teacher`).

        What the student takes over from the teacher's sizes is written into `cfg`, and so into its checkpoints.
        """
        needs = Needs.of(cfg)
        if needs.labels and not self.cfg.labels:
            raise ValueError(
                "criterion.discriminative_target=kmeans, but task.labels is empty: name the label files, "
                "e.g. task.labels=[km] task.label_rate=50 (data=km50 in the recipes)"
            )
        if needs.checkpoint:
            student = self.build_beside_teacher(cfg, needs)
        else:
            settle(cfg, "cluster_sizes", [len(dictionary) for dictionary in self.dictionaries], self.get_label_dir())
            student = super().build_model(cfg)
        self.prepare(student, cfg)
        return student

    def build_beside_teacher(self, cfg: Any, needs: Needs) -> StudentHubert:
        if OmegaConf.is_missing(self.cfg, "teacher_path") or not self.cfg.teacher_path:
            raise ValueError("task.teacher_path is not set: name the checkpoint of the HuBERT to distil")
        path = self.cfg.teacher_path
        checkpoint = hubert_in(path)
        whole = build_hubert(checkpoint, valid_statistics=self.cfg.teacher_valid_statistics)
        if needs.frontend and whole.is_fbank:
            raise ValueError(
                f"{path}: criterion.frontend_updates={cfg.frontend_updates} needs a teacher on waveforms, and this "
                "one is a student on Fbank; take another, or frontend_updates=0 frontend_weight=0"
            )
        settle(cfg, "teacher_embed_dim", whole.embed_dim, path)
        clusters = clusters_in(checkpoint) if needs.clusters else None
        if clusters is not None:
            self.settle_clusters(cfg, clusters, path)
        elif needs.labels:
            settle(cfg, "cluster_sizes", [len(dictionary) for dictionary in self.dictionaries], self.get_label_dir())
        student = super().build_model(cfg)
        if clusters is not None and cfg.discriminative_head == "codebook":
            student.cluster_head.codebook.copy_(clusters.head.codebook)
        self.check_alignment(student, whole)
        initialise(student, whole, cfg, path)
        if needs.forward:
            head = clusters.head if needs.posteriors else None
            front = FRONTS[cfg.frontend_target] if needs.frontend else None
            self.teacher = Teacher(whole, student.targets, path, head, front)
            reach = f"layer {self.teacher.last}" if self.teacher.last > 0 else "its front-end"
            logger.info(f"teacher {path}: {self.teacher.depth} layers, run up to {reach}")
            self.teacher.truncate()
        else:
            logger.info(f"teacher {path}: not run, the losses do not need it")
        return student

    def prepare(self, student: StudentHubert, cfg: Any) -> None:
        """What a student takes from other files than its teacher's before it is trained."""
        if cfg.init_from_student:
            initialise_from_student(student, cfg.init_from_student)
        if student.is_fbank and str(cfg.fbank_norm) == "global":
            if not cfg.fbank_stats:
                raise ValueError(
                    "model.fbank_stats is not set: make it with manifests/fbank_stats.py, or take "
                    "model.fbank_norm=utterance"
                )
            student.feature_extractor.norm.read(cfg.fbank_stats, student.feature_extractor.fbank)

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

    def settle_clusters(self, cfg: Any, clusters: Clusters, path: str) -> None:
        """Sizes of the teacher's clusters into `cfg`; labels that are to be looked up in its codebook are its own."""
        settle(cfg, "cluster_sizes", clusters.head.sizes, path)
        settle(cfg, "codebook_dim", clusters.head.codebook.size(1), path)
        if cfg.discriminative_target == "kmeans":
            if clusters.symbols is None:
                raise ValueError(
                    f"{path} does not keep the dictionary of its labels, so that {self.get_label_dir()}'s cannot be "
                    "compared with it; use criterion.discriminative_head=linear"
                )
            check_dictionaries(self.dictionaries, clusters.symbols, self.get_label_dir(), path)

    def check_alignment(self, student: StudentHubert, whole: LengthAwareHubert) -> None:
        """ValueError unless student and teacher make the same frames of the same audio, for every length."""
        path = self.cfg.teacher_path
        if whole.sample_rate != student.sample_rate:
            raise ValueError(f"{path} wants {whole.sample_rate} Hz audio, task.sample_rate is {student.sample_rate}")
        lengths = torch.arange(0, 3 * student.sample_rate)
        ours, theirs = student.num_frames(lengths), whole.num_frames(lengths)
        if not torch.equal(ours, theirs):
            at = int((ours != theirs).nonzero()[0])
            fields = "fbank_length, fbank_shift and fbank_stride" if student.is_fbank else "conv_feature_layers"
            raise ValueError(
                f"model.{fields}: {at} samples give {int(ours[at])} frames of the student and "
                f"{int(theirs[at])} of {path}; kernels and strides must give the same frames"
            )

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
