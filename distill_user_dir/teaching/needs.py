"""What the losses of a student need of its teacher and of the data, before either is loaded."""

from typing import Any, NamedTuple


class Needs(NamedTuple):
    """labels: frame labels of a k-means label file; posteriors: the teacher's clusters of each frame; clusters: the
    teacher's label embeddings; centres: cluster centres of its layers; frontend: the teacher's front-end; forward: the
    teacher is run; checkpoint: the teacher's file is read."""

    labels: bool
    posteriors: bool
    clusters: bool
    centres: bool
    frontend: bool
    forward: bool
    checkpoint: bool

    @classmethod
    def of(cls, cfg: Any) -> "Needs":
        """From the config of a `student_hubert` to be trained. ValueError where there is nothing to learn."""
        for name in ("regression_weight", "discriminative_weight", "frontend_weight", "frontend_updates"):
            if cfg[name] < 0:
                raise ValueError(f"criterion.{name}={cfg[name]:g}: it has to be 0 or more")
        regression, discriminative = cfg.regression_weight > 0, cfg.discriminative_weight > 0
        if not regression and not discriminative:
            raise ValueError("criterion.regression_weight=0 and criterion.discriminative_weight=0: there is no loss")
        if discriminative and cfg.discriminative_frames == "masked" and cfg.mask_prob <= 0:
            raise ValueError(
                f"criterion.discriminative_frames=masked with model.mask_prob={cfg.mask_prob:g}: no frame would count; "
                "mask (HuBERT: model.mask_prob=0.65), or count unmasked or all frames"
            )
        labels = discriminative and cfg.discriminative_target == "kmeans"
        centres = discriminative and cfg.discriminative_target == "distances"
        check_label_sets(cfg, centres)
        posteriors = discriminative and not labels and not centres
        clusters = posteriors or discriminative and cfg.discriminative_head == "codebook"
        frontend = cfg.frontend_updates > 0 or cfg.frontend_weight > 0
        forward = regression or posteriors or centres or frontend
        starts = bool(cfg.init_layers) or cfg.init_feature_extractor or cfg.init_pos_conv
        return cls(labels, posteriors, clusters, centres, frontend, forward, forward or clusters or starts)


def check_label_sets(cfg: Any, wanted: bool) -> None:
    """ValueError where settings of label sets contradict each other, or stand without what they are for."""
    if wanted and cfg.discriminative_head == "codebook":
        raise ValueError(
            "criterion.discriminative_target=distances with discriminative_head=codebook: the codebook holds the "
            "teacher's own clusters; use criterion.discriminative_head=linear criterion.student_temperature=1.0"
        )
    predicting = list(cfg.discriminative_layers)
    if predicting and not cfg.discriminative_weight > 0:
        raise ValueError(
            f"criterion.discriminative_layers={predicting} with criterion.discriminative_weight=0: "
            "there is no discriminative loss; leave it out, or use loss=reg_disc"
        )
    layers = list(cfg.discriminative_teacher_layers)
    if layers and not wanted:
        raise ValueError(
            f"criterion.discriminative_teacher_layers={layers} is for criterion.discriminative_target=distances, and "
            f"not for {cfg.discriminative_target} with criterion.discriminative_weight={cfg.discriminative_weight:g}; "
            "leave it out"
        )


def settle(cfg: Any, field: str, value: Any, source: str) -> None:
    """Writes a size read from `source` into `cfg`; ValueError where the recipe gave another one."""
    given = cfg[field]
    given = list(given) if isinstance(value, list) else given
    if given and given != value:
        raise ValueError(f"model.{field}={given}, but {source} has {value}; leave it out")
    cfg[field] = value
