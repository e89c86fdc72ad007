import pytest
from fairseq.optim.lr_scheduler.polynomial_decay_schedule import (
    PolynomialDecayLRSchedule,
    PolynomialDecayLRScheduleConfig,
)
from omegaconf import OmegaConf

from distill_user_dir.lr_schedulers.staged_polynomial_decay import StagedPolynomialDecay, StagedPolynomialDecayConfig
from tests.helpers import struct


class Optimizer:
    def set_lr(self, lr):
        self.lr = lr

    def get_lr(self):
        return self.lr


def schedule(kind, config, **values):
    from fairseq.optim import FairseqOptimizer

    optimizer = type("Fake", (Optimizer, FairseqOptimizer), {"__init__": lambda self: None})()
    cfg = OmegaConf.to_container(OmegaConf.create({**config.__dict__, **values}))
    scheduler = kind(struct(cfg), optimizer)
    return lambda update: scheduler.step_update(update)


def staged(frontend_updates, restart):
    config = StagedPolynomialDecayConfig(frontend_updates=frontend_updates, restart=restart)
    return schedule(StagedPolynomialDecay, config, warmup_updates=20, total_num_update=200, lr=[0.5])


def plain(total, warmup):
    config = PolynomialDecayLRScheduleConfig()
    return schedule(PolynomialDecayLRSchedule, config, warmup_updates=warmup, total_num_update=total, lr=[0.5])


@pytest.mark.parametrize("frontend_updates, restart", [(0, True), (0, False), (80, False)])
def test_one_stage_is_fairseqs(frontend_updates, restart):
    ours, theirs = staged(frontend_updates, restart), plain(200, 20)
    assert [ours(n) for n in range(210)] == [theirs(n) for n in range(210)]


def test_a_restart_is_one_schedule_after_the_other():
    ours, first, second = staged(80, True), plain(80, 8), plain(120, 12)
    assert [ours(n) for n in range(80)] == [first(n) for n in range(80)]
    assert [ours(n) for n in range(80, 210)] == [second(n - 80) for n in range(80, 210)]
    assert ours(0) == 0 and ours(8) == 0.5 and ours(80) == 0 and ours(92) == 0.5 and ours(200) == 0


def test_a_resumed_run_has_the_same_rates():
    ours = staged(80, True)
    through = [ours(n) for n in range(200)]
    for start in (30, 80, 150):
        resumed = staged(80, True)
        assert [resumed(n) for n in range(start, 200)] == through[start:]


@pytest.mark.parametrize("frontend_updates", [200, 300])
def test_all_of_it_may_be_the_first_stage(frontend_updates):
    ours, theirs = staged(frontend_updates, True), plain(200, 20)
    assert [ours(n) for n in range(210)] == [theirs(n) for n in range(210)]
