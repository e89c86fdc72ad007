"""What a recipe says under `task`."""

from dataclasses import dataclass, field
from typing import List, Optional

from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
from omegaconf import II


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
    teacher_dict: Optional[str] = field(
        default=None,
        metadata={"help": "dictionary of a fine-tuned teacher's units, where its checkpoint holds none"},
    )
    centres: List[str] = field(
        default_factory=list,
        metadata={
            "help": "for criterion.discriminative_target=distances: files of cluster centres, as manifests/kmeans.py "
            "writes them, one for each label set"
        },
    )
    unlabelled: List[str] = field(
        default_factory=list,
        metadata={"help": "splits of a fine-tuning without label files, from which criterion ctc_distillation learns"},
    )
    pseudo_labelled: List[str] = field(
        default_factory=list,
        metadata={"help": "splits of a fine-tuning whose label files hold a teacher's words"},
    )
    labelled_share: Optional[float] = field(
        default=None,
        metadata={"help": "share of the training audio that has transcripts; null: as much as there is"},
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
