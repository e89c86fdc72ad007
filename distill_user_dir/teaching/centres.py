"""The centres of k-means clusters of the teacher's layers, which say how likely each cluster is for a frame."""

from typing import Any

import torch

from distill_user_dir.data.arrays import read_centres
from distill_user_dir.modules.cluster_heads import CentresHead
from distill_user_dir.modules.hubert import LengthAwareHubert


def check_layers(centres: Any, layers: Any) -> None:
    """ValueError unless a layer is named for each file of `task.centres`."""
    if not centres:
        raise ValueError(
            "criterion.discriminative_target=distances, but task.centres is empty: name what manifests/kmeans.py "
            "wrote, e.g. task.centres=[DATA/kmeans.npy]"
        )
    if len(layers) != len(centres):
        raise ValueError(
            f"criterion.discriminative_teacher_layers={list(layers)} has {len(layers)} entries, and task.centres names "
            f"{len(centres)} files: give the teacher layer that each is of"
        )


def centres_head(task_cfg: Any, cfg: Any, teacher: LengthAwareHubert, path: str) -> CentresHead:
    """From the files in `task_cfg.centres`. path: the teacher's. ValueError where they are not of its layers."""
    check_layers(task_cfg.centres, cfg.discriminative_teacher_layers)
    depth, found = len(teacher.encoder.layers), []
    for file, layer in zip(task_cfg.centres, cfg.discriminative_teacher_layers):
        if not 1 <= layer <= depth:
            raise ValueError(
                f"criterion.discriminative_teacher_layers asks for layer {layer}, but {path} has layers 1 to {depth}"
            )
        centres = torch.from_numpy(read_centres(file))
        if centres.size(1) != teacher.embed_dim:
            raise ValueError(
                f"{file}: centres of {centres.size(1)} features, but layer {layer} of {path} has {teacher.embed_dim}; "
                f"make them with manifests/features.py --feature hubert --layer {layer}"
            )
        if bool((centres == centres[0]).all()):
            raise ValueError(f"{file}: {len(centres)} centres, all the same; learn more clusters")
        found.append(centres)
    return CentresHead(found)
