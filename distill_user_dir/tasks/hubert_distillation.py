"""Task `hubert_distillation`: fairseq's `hubert_pretraining` with a teacher; with fine_tuning=true, its CTC sibling."""

import logging
from dataclasses import dataclass, field
from typing import Any, List, Optional

import torch
from fairseq.tasks import register_task
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig, HubertPretrainingTask, LabelEncoder
from omegaconf import II, OmegaConf, open_dict

from distill_user_dir.dataset import DistillationDataset
from distill_user_dir.initialisation import initialise
from distill_user_dir.manifest import check_audio, check_kept, check_labels, check_sizes, read_manifest
from distill_user_dir.models.student_ctc import StudentCtc
from distill_user_dir.models.student_hubert import StudentHubert
from distill_user_dir.modules.hubert import LengthAwareHubert
from distill_user_dir.teacher import Teacher, load_whole

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
    persistent_workers: bool = field(
        default=False,
        metadata={"help": "keep data workers over epochs; they would go on with the crops of the first epoch"},
    )
    reuse_dataloader: bool = field(
        default=False, metadata={"help": "as persistent_workers, which fairseq 0.12.2 always sets where this is true"}
    )
    seed: int = II("common.seed")
    train_subset: str = II("dataset.train_subset")


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

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> torch.nn.Module:
        distilling = cfg._name == "student_hubert" and not from_checkpoint
        whole = None
        if distilling:
            if OmegaConf.is_missing(self.cfg, "teacher_path") or not self.cfg.teacher_path:
                raise ValueError("task.teacher_path is not set: name the checkpoint of the HuBERT to distil")
            whole = load_whole(self.cfg.teacher_path, self.cfg.teacher_valid_statistics)
            if cfg.teacher_embed_dim not in (0, whole.embed_dim):
                raise ValueError(
                    f"model.teacher_embed_dim={cfg.teacher_embed_dim}, but {self.cfg.teacher_path} has "
                    f"{whole.embed_dim}; leave it at 0"
                )
            cfg.teacher_embed_dim = whole.embed_dim
        model = super().build_model(cfg, from_checkpoint)
        if isinstance(model, StudentCtc) and not from_checkpoint:
            with open_dict(cfg):  # fairseq builds models from a copy of cfg, and saves the original
                cfg.w2v_args = model.cfg.w2v_args
        if isinstance(model, StudentHubert) and distilling:
            self.teacher = self.prepare_teacher(model, whole, cfg)
        return model

    def prepare_teacher(self, student: StudentHubert, whole: LengthAwareHubert, cfg: Any) -> Teacher:
        """The teacher for this student: depth, rate and frames checked, the student initialised from it, cut off."""
        path = self.cfg.teacher_path
        teacher = Teacher(whole, student.targets, path)
        if whole.sample_rate != student.sample_rate:
            raise ValueError(f"{path} wants {whole.sample_rate} Hz audio, task.sample_rate is {student.sample_rate}")
        lengths = torch.arange(0, 3 * student.sample_rate)
        ours, theirs = student.num_frames(lengths), whole.num_frames(lengths)
        if not torch.equal(ours, theirs):
            at = int((ours != theirs).nonzero()[0])
            raise ValueError(
                f"model.conv_feature_layers: {at} samples give {int(ours[at])} frames of the student and "
                f"{int(theirs[at])} of {path}; kernels and strides must give the same frames"
            )
        initialise(student, whole, cfg, path)
        logger.info(f"teacher {path}: {teacher.depth} layers, run up to layer {max(teacher.layers)}")
        return teacher.truncate()

    def load_dataset(self, split: str, **kwargs: Any) -> None:
        """`{data}/{split}.tsv` and its label files, checked; ValueError names the file, the line and the way out."""
        cfg = self.cfg
        dicts = [self.target_dictionary] if cfg.fine_tuning else self.dictionaries
        manifest = read_manifest(f"{cfg.data}/{split}.tsv")
        labels = [f"{self.get_label_dir()}/{split}.{label}" for label in cfg.labels]
        for path in labels:
            check_labels(manifest, path)
        check_kept(manifest, cfg.min_sample_size or 0, cfg.max_keep_size)
        check_sizes(manifest, SHORTEST, cfg.min_sample_size or 0)
        if cfg.check_audio:
            check_audio(manifest, cfg.sample_rate)
        crop = not cfg.fine_tuning and split in cfg.train_subset.split(",")
        self.datasets[split] = DistillationDataset(
            manifest.path,
            seed=cfg.seed,
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
