"""Scheduler `staged_polynomial_decay`: fairseq's `polynomial_decay`, which may begin anew in the second stage."""

from dataclasses import dataclass, field
from typing import Any, Optional

from fairseq.optim.lr_scheduler import FairseqLRScheduler, register_lr_scheduler
from fairseq.optim.lr_scheduler.polynomial_decay_schedule import (
    PolynomialDecayLRSchedule,
    PolynomialDecayLRScheduleConfig,
)
from omegaconf import II, OmegaConf

from distill_user_dir.stages import in_frontend_stage


@dataclass
class StagedPolynomialDecayConfig(PolynomialDecayLRScheduleConfig):
    frontend_updates: int = II("criterion.frontend_updates")
    restart: bool = field(
        default=True,
        metadata={
            "help": "warm up and decay once for each stage of a front-end distillation, each with its share of "
            "warmup_updates; false: once over both"
        },
    )


@register_lr_scheduler("staged_polynomial_decay", dataclass=StagedPolynomialDecayConfig)
class StagedPolynomialDecay(FairseqLRScheduler):
    """A pure function of the update count; without a first stage, or without a restart, it is `polynomial_decay`."""

    def __init__(self, cfg: StagedPolynomialDecayConfig, optimizer: Any):
        super().__init__(cfg, optimizer)
        total = cfg.total_num_update
        self.boundary = min(cfg.frontend_updates, total) if cfg.restart else 0
        lengths = [self.boundary, total - self.boundary]
        self.stages = [PolynomialDecayLRSchedule(part(cfg, n), optimizer) if n > 0 else None for n in lengths]
        self.step_update(0)

    def step_begin_epoch(self, epoch: int) -> float:
        for stage in self.stages:
            if stage is not None:
                stage.step_begin_epoch(epoch)
        return self.optimizer.get_lr()  # the trainer calls `step_update` next

    def step(self, epoch: int, val_loss: Optional[float] = None) -> float:
        super().step(epoch, val_loss)
        return self.optimizer.get_lr()

    def step_update(self, num_updates: int) -> float:
        """Sets the rate of update number `num_updates`, counted from 0."""
        first, second = self.stages
        if second is None or in_frontend_stage(num_updates, self.boundary):
            return first.step_update(num_updates)
        return second.step_update(num_updates - self.boundary)


def part(cfg: StagedPolynomialDecayConfig, updates: float) -> Any:
    """The schedule of one stage: warm-up in proportion."""
    warmup = round(cfg.warmup_updates * updates / cfg.total_num_update)
    return OmegaConf.merge(cfg, {"total_num_update": updates, "warmup_updates": warmup})
