"""The two stages of front-end distillation (Wang et al., section 3.3), as functions of the update count."""

from typing import Any

FRONTEND = ("feature_extractor.", "layer_norm.", "post_extract_proj.", "frontend_head.")


def in_frontend_stage(update: int, frontend_updates: int) -> bool:
    """Whether update number `update`, counted from 0, is of the first stage: the front-end learns alone."""
    return update < frontend_updates


def check_stages(cfg: Any) -> None:
    """ValueError where the first stage leaves no update to the second. cfg: of the criterion."""
    if cfg.frontend_updates > 0 and 0 < cfg.max_update <= cfg.frontend_updates:
        raise ValueError(
            f"criterion.frontend_updates={cfg.frontend_updates} of optimization.max_update={cfg.max_update}: the first "
            "stage would train the front-end alone to the end; give fewer (a fourth or less), or more updates in all"
        )


def learns(name: str, frontend_stage: bool, frontend_weight: float) -> bool:
    """Whether a student's parameter of this name is trained: in the first stage those of the front-end; in the second
    all, but the head of the front-end's loss only where that loss goes on."""
    if frontend_stage:
        return name.startswith(FRONTEND)
    return frontend_weight > 0 or not name.startswith("frontend_head.")
