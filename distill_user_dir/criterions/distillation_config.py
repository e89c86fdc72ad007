"""What a recipe says under `criterion`."""

from dataclasses import dataclass, field
from typing import List

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import II

from distill_user_dir.losses.discriminative import TARGETS
from distill_user_dir.losses.regression import DISTANCES
from distill_user_dir.modules.hubert import LAYER_INPUT, PROJECTED

FRONTS = {"projected": PROJECTED, "layer_input": LAYER_INPUT}


@dataclass
class DistillationCriterionConfig(FairseqDataclass):
    regression_weight: float = field(
        default=1.0, metadata={"help": "weight of the regression loss (Wang et al.: 1); 0: no heads for it either"}
    )
    regression_distance: ChoiceEnum(list(DISTANCES)) = field(
        default="l1", metadata={"help": "distance of student and teacher, averaged over the feature dimension"}
    )
    cosine_weight: float = field(
        default=1.0, metadata={"help": "lambda, the weight of -log sigmoid(cosine) (Wang et al.: 1)"}
    )
    discriminative_weight: float = field(
        default=0.0, metadata={"help": "weight of the discriminative loss (Wang et al.: 1); 0: no head for it either"}
    )
    discriminative_head: ChoiceEnum(["codebook", "linear"]) = field(
        default="codebook",
        metadata={
            "help": "codebook: cosines with the teacher's frozen cluster embeddings; linear: a Linear to the clusters"
        },
    )
    discriminative_target: ChoiceEnum(list(TARGETS)) = field(
        default="soft",
        metadata={
            "help": "soft: KL from the teacher's posterior; hard: cross-entropy to its likeliest cluster; "
            "kmeans: cross-entropy to the frame labels in task.labels; distances: KL from the teacher's posterior over "
            "the cluster centres in task.centres"
        },
    )
    discriminative_frames: ChoiceEnum(["all", "masked", "unmasked"]) = field(
        default="all", metadata={"help": "which frames the discriminative loss counts (HuBERT: masked)"}
    )
    discriminative_layers: List[int] = field(
        default_factory=list,
        metadata={
            "help": "the student layer, counted from 1, that predicts each label set (those of task.labels, of "
            "task.centres, or the teacher's own); empty: the last layer predicts all"
        },
    )
    discriminative_teacher_layers: List[int] = field(
        default_factory=list,
        metadata={"help": "for distances: the teacher layer, counted from 1, that each file of task.centres is of"},
    )
    student_temperature: float = field(
        default=0.1, metadata={"help": "divides the student's logits (HuBERT: 0.1 for cosines; 1 suits a linear head)"}
    )
    teacher_temperature: float = field(
        default=0.1,
        metadata={
            "help": "divides the teacher's cosines (HuBERT: 0.1), or its squared distances from the centres, in units "
            "of their mean squared distance from their mean"
        },
    )
    frontend_updates: int = field(
        default=0, metadata={"help": "updates of the first stage, in which only the front-end learns; 0: no such stage"}
    )
    frontend_target: ChoiceEnum(list(FRONTS)) = field(
        default="projected",
        metadata={
            "help": "of the teacher: projected: its projected CNN features, no Transformer is run; layer_input: the "
            "input of its first layer"
        },
    )
    frontend_distance: ChoiceEnum(list(DISTANCES)) = field(
        default="l1", metadata={"help": "distance of the front-ends, averaged over the feature dimension"}
    )
    frontend_weight: float = field(
        default=0.0, metadata={"help": "weight of the front-end's loss in the second stage (Wang et al.: 0)"}
    )
    feature_penalty: float = field(
        default=0.0,
        metadata={
            "help": "weight of the mean square of the CNN's output (HuBERT: 10 in pre-training); an Fbank has no CNN "
            "and pays nothing"
        },
    )
    max_update: int = II("optimization.max_update")
