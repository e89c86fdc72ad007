"""A student to be trained, and the teacher to run beside it."""

import logging
from typing import Any, Callable, Optional, Tuple

import torch
from omegaconf import OmegaConf

from distill_user_dir.checkpoints.building import build_hubert
from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.criterions.distillation_config import FRONTS
from distill_user_dir.data.fbank_stats import read_stats
from distill_user_dir.data.frame_labels import check_dictionaries
from distill_user_dir.models.student_hubert import StudentHubert
from distill_user_dir.modules.fbank_frontend import GlobalNorm
from distill_user_dir.modules.hubert import LengthAwareHubert
from distill_user_dir.teaching.centres import centres_head
from distill_user_dir.teaching.clusters import Clusters, clusters_in
from distill_user_dir.teaching.initialisation import initialise, initialise_from_student
from distill_user_dir.teaching.needs import Needs, settle
from distill_user_dir.teaching.teacher import Teacher

logger = logging.getLogger(__name__)

Build = Callable[[Any], StudentHubert]  # from the model's config: fairseq's, of a registered model


def build_student(task: Any, cfg: Any, build: Build) -> Tuple[StudentHubert, Optional[Teacher]]:
    """A student and, where its losses need one, its teacher. task: `hubert_distillation`; cfg: the model's config.

    What the student takes over from the teacher's sizes is written into `cfg`, and so into its checkpoints.
    """
    needs, teacher = Needs.of(cfg), None
    if needs.labels and not task.cfg.labels:
        raise ValueError(
            "criterion.discriminative_target=kmeans, but task.labels is empty: name the label files, "
            "e.g. task.labels=[km] task.label_rate=50 (data=km50 in the recipes)"
        )
    if task.cfg.centres and not needs.centres:
        raise ValueError(
            f"task.centres={list(task.cfg.centres)} is for criterion.discriminative_target=distances with a "
            "discriminative_weight above 0; leave it out, or set them"
        )
    if needs.checkpoint:
        student, teacher = build_beside_teacher(task, cfg, build, needs)
    else:
        settle_label_sets(task, cfg)
        student = build(cfg)
    if cfg.init_from_student:
        initialise_from_student(student, cfg.init_from_student)
    if isinstance(getattr(student.feature_extractor, "norm", None), GlobalNorm):
        read_normalisation(student, cfg)
    return student, teacher


def build_beside_teacher(task: Any, cfg: Any, build: Build, needs: Needs) -> Tuple[StudentHubert, Optional[Teacher]]:
    """A student whose sizes, clusters or first weights are its teacher's; None where the teacher is not run."""
    if OmegaConf.is_missing(task.cfg, "teacher_path") or not task.cfg.teacher_path:
        raise ValueError("task.teacher_path is not set: name the checkpoint of the HuBERT to distil")
    path = task.cfg.teacher_path
    checkpoint = hubert_in(path)
    whole = build_hubert(checkpoint, valid_statistics=task.cfg.teacher_valid_statistics)
    if needs.frontend and not whole.has_cnn:
        raise ValueError(
            f"{path}: criterion.frontend_updates={cfg.frontend_updates} needs a teacher on waveforms, and this "
            "one is a student on Fbank; take another, or frontend_updates=0 frontend_weight=0"
        )
    settle(cfg, "teacher_embed_dim", whole.embed_dim, path)
    clusters = clusters_in(checkpoint) if needs.clusters else None
    head = clusters.head if needs.posteriors else None
    if needs.centres:
        head = centres_head(task.cfg, cfg, whole, path)
        settle(cfg, "cluster_sizes", head.sizes, "task.centres")
    elif clusters is not None:
        settle_clusters(task, cfg, clusters, path)
    elif needs.labels:
        settle_label_sets(task, cfg)
    student = build(cfg)
    if clusters is not None and cfg.discriminative_head == "codebook":
        student.cluster_head.codebook.copy_(clusters.head.codebook)
    check_alignment(student, whole, path)
    initialise(student, whole, cfg, path)
    if not needs.forward:
        logger.info(f"teacher {path}: not run, the losses do not need it")
        return student, None
    front = FRONTS[cfg.frontend_target] if needs.frontend else None
    teacher = Teacher(whole, student.targets, path, head, front, cfg.discriminative_teacher_layers)
    reach = f"layer {teacher.last}" if teacher.last > 0 else "its front-end"
    logger.info(f"teacher {path}: {teacher.depth} layers, run up to {reach}")
    return student, teacher.truncate()


def settle_label_sets(task: Any, cfg: Any) -> None:
    """The clusters of each label set, by its dictionary, into `cfg`."""
    settle(cfg, "cluster_sizes", [len(dictionary) for dictionary in task.dictionaries], task.get_label_dir())


def settle_clusters(task: Any, cfg: Any, clusters: Clusters, path: str) -> None:
    """Sizes of the teacher's clusters into `cfg`; labels that are to be looked up in its codebook are its own."""
    settle(cfg, "cluster_sizes", clusters.head.sizes, path)
    settle(cfg, "codebook_dim", clusters.head.codebook.size(1), path)
    if cfg.discriminative_target == "kmeans":
        if clusters.symbols is None:
            raise ValueError(
                f"{path} does not keep the dictionary of its labels, so that {task.get_label_dir()}'s cannot be "
                "compared with it; use criterion.discriminative_head=linear"
            )
        check_dictionaries(task.dictionaries, clusters.symbols, task.get_label_dir(), path)


def read_normalisation(student: StudentHubert, cfg: Any) -> None:
    """The statistics in `fbank_stats` into the student's front-end."""
    if not cfg.fbank_stats:
        raise ValueError(
            "model.fbank_stats is not set: make it with manifests/fbank_stats.py, or take model.fbank_norm=utterance"
        )
    options = student.feature_extractor.fbank.options
    student.feature_extractor.norm.set(*read_stats(cfg.fbank_stats, options, cfg.fbank_bins))


def check_alignment(student: StudentHubert, teacher: LengthAwareHubert, path: str) -> None:
    """ValueError unless student and teacher make the same frames of the same audio, for every length."""
    if teacher.sample_rate != student.sample_rate:
        raise ValueError(f"{path} wants {teacher.sample_rate} Hz audio, task.sample_rate is {student.sample_rate}")
    lengths = torch.arange(0, 3 * student.sample_rate)
    ours, theirs = student.num_frames(lengths), teacher.num_frames(lengths)
    if not torch.equal(ours, theirs):
        at = int((ours != theirs).nonzero()[0])
        fields = "conv_feature_layers" if student.has_cnn else "fbank_length, fbank_shift and fbank_stride"
        raise ValueError(
            f"model.{fields}: {at} samples give {int(ours[at])} frames of the student and "
            f"{int(theirs[at])} of {path}; kernels and strides must give the same frames"
        )
