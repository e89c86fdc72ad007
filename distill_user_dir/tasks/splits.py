"""The splits that a recipe names, checked: manifests, audio, label files."""

import os
from typing import Any, Optional, Sequence

from fairseq.data.dictionary import Dictionary
from fairseq.tasks.hubert_pretraining import LabelEncoder

from distill_user_dir.data.dataset import NOTHING, PSEUDO, TRANSCRIPT, DistillationDataset
from distill_user_dir.data.frame_labels import check_frame_labels
from distill_user_dir.data.manifest import Manifest, check_audio, check_kept, check_labels, check_sizes, read_manifest

SHORTEST = 400  # samples of one frame of HuBERT's CNN and of a 25 ms window alike


def load_splits(cfg: Any, splits: str, label_dir: str, dicts: Sequence[Dictionary]) -> DistillationDataset:
    """One data set of the splits that `splits` names, with commas between them. cfg: the task's; dicts: of its label
    sets. ValueError names the file, the line and the way out."""
    training = splits == cfg.train_subset
    check_kinds(cfg)
    first, *others = [load_split(cfg, split, label_dir, dicts, training) for split in splits.split(",")]
    for other in others:
        first.join(other)
    if training and cfg.labelled_share is not None:
        first.transcribed_share = checked_share(cfg.labelled_share, first, splits)
    return first


def checked_share(share: float, dataset: DistillationDataset, splits: str) -> float:
    """ValueError where such a share of the data cannot have transcripts."""
    with_words = dataset.sources == TRANSCRIPT
    if not 0 < share < 1 or with_words.all() or not with_words.any():
        told = f"{with_words.sum()} of {len(dataset)} utterances of {splits} have a transcript"
        raise ValueError(f"task.labelled_share={share:g}: between 0 and 1, for data of both kinds, and {told}")
    return share


def check_kinds(cfg: Any) -> None:
    """ValueError for a split that is of two kinds, or not there."""
    twice = set(cfg.unlabelled) & set(cfg.pseudo_labelled)
    if twice:
        raise ValueError(f"task.unlabelled and task.pseudo_labelled both name {min(twice)}: it is one or the other")
    for name in ("unlabelled", "pseudo_labelled"):
        for split in cfg[name]:
            if not os.path.isfile(f"{cfg.data}/{split}.tsv"):
                raise ValueError(f"task.{name} names {split}, but there is no {cfg.data}/{split}.tsv")


def words_of(cfg: Any, split: str, training: bool) -> int:
    """Where the words of a split come from. ValueError where it is to be judged by words that nobody wrote."""
    if not cfg.fine_tuning:
        return TRANSCRIPT
    for name, words in (("unlabelled", NOTHING), ("pseudo_labelled", PSEUDO)):
        if split in cfg[name] and not training and cfg.best_checkpoint_metric == "wer":
            raise ValueError(
                f"task.{name} names {split}, so that it has no word error rate: take another dataset.valid_subset, or "
                "checkpoint.best_checkpoint_metric=loss"
            )
        if split in cfg[name]:
            return words
    return TRANSCRIPT


def check_split(cfg: Any, manifest: Manifest, labels: Sequence[str], dicts: Sequence[Dictionary]) -> None:
    """ValueError where the manifest's audio or its label files cannot be used."""
    for path, dictionary in zip(labels, dicts):
        check_labels(manifest, path)
        if not cfg.fine_tuning:
            check_frame_labels(manifest, path, dictionary, cfg.sample_rate, cfg.label_rate)
    check_kept(manifest, cfg.min_sample_size or 0, cfg.max_keep_size)
    check_sizes(manifest, SHORTEST, cfg.min_sample_size or 0)
    if cfg.check_audio:
        check_audio(manifest, cfg.sample_rate, cfg.max_bad_share)


def load_split(
    cfg: Any, split: str, label_dir: str, dicts: Sequence[Dictionary], training: bool
) -> DistillationDataset:
    """`{data}/{split}.tsv` and its label files."""
    manifest, words = read_manifest(f"{cfg.data}/{split}.tsv"), words_of(cfg, split, training)
    labels = [f"{label_dir}/{split}.{label}" for label in cfg.labels]
    check_split(cfg, manifest, [] if words == NOTHING else labels, dicts)
    crop: Optional[int] = cfg.max_sample_size if training and not cfg.fine_tuning else None
    return DistillationDataset(
        manifest.path,
        seed=cfg.seed,
        max_bad_share=cfg.max_bad_share,
        words=words,
        sample_rate=cfg.sample_rate,
        label_paths=labels,
        label_rates=cfg.label_rate,
        pad_list=[dictionary.pad() for dictionary in dicts],
        eos_list=[dictionary.eos() for dictionary in dicts],
        label_processors=[LabelEncoder(dictionary) for dictionary in dicts],
        max_keep_sample_size=cfg.max_keep_size,
        min_keep_sample_size=cfg.min_sample_size,
        max_sample_size=crop,
        pad_audio=bool(cfg.pad_audio) or crop is None,
        normalize=False,
        store_labels=False,
        random_crop=bool(cfg.random_crop) and crop is not None,
        single_target=cfg.fine_tuning or cfg.single_target,
    )
