"""The two stages of front-end distillation (Wang et al., section 3.3), as functions of the update count."""

FRONTEND = ("feature_extractor.", "layer_norm.", "post_extract_proj.", "frontend_head.")


def in_frontend_stage(update: int, frontend_updates: int) -> bool:
    """Whether update number `update`, counted from 0, is of the first stage: the front-end learns alone."""
    return update < frontend_updates


def learns(name: str, frontend_stage: bool, frontend_weight: float) -> bool:
    """Whether a student's parameter of this name is trained: in the first stage those of the front-end; in the second
    all, but the head of the front-end's loss only where that loss goes on."""
    if frontend_stage:
        return name.startswith(FRONTEND)
    return frontend_weight > 0 or not name.startswith("frontend_head.")
