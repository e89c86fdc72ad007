"""What a whole run of each recipe does: saves, validations, stages and bytes by fairseq's own rules, and its masks."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.data.data_utils import compute_mask_indices
from fairseq_cli import train
from omegaconf import OmegaConf

from distill_user_dir.modules.span_mask import span_mask
from tests.helpers import RECIPES, recipe

UPDATES_AN_EPOCH = {  # seconds of speech by those of an update, or utterances by utterances; on the paper's data
    "distill/laptop": 120,
    "distill/librispeech_100h": 1190,
    "distill/librispeech_960h": 11719,
    "finetune/laptop": 20,
    "finetune/librispeech_10m": 1,
    "finetune/librispeech_1h": 3,
    "finetune/librispeech_10h": 23,
    "finetune/librispeech_100h": 226,
    "finetune/librispeech_960h": 2163,
}
BYTES = 12 * 24e6  # of a checkpoint of the largest student: weights and two moments in float32
UTTERANCES, FRAMES, WIDTH = 14, 714, 768  # of the sources: 200 s of LibriSpeech a GPU, and HuBERT Base's width


def plain(values):
    """Nested attributes, which are read much faster than omegaconf's."""
    return SimpleNamespace(**{key: plain(value) if isinstance(value, dict) else value for key, value in values.items()})


class Run:
    """A run of which nothing is trained: fairseq decides, at each update, whether to validate and to save; each
    validation is better than the one before."""

    def __init__(self, path, folder, monkeypatch, *overrides):
        cfg = recipe(*path.split("/"), f"checkpoint.save_dir={folder}", *overrides)
        self.cfg = SimpleNamespace(
            **{name: plain(OmegaConf.to_container(cfg[name])) for name in ("checkpoint", "dataset", "optimization")}
        )
        self.stage_1 = 0 if path.startswith("finetune") else cfg.criterion.frontend_updates
        self.update, self.files = 0, 0
        self.validated, self.saved, self.best = [], [], []
        self.data_parallel_rank, self.checkpoint_suffix, self.task = 0, "", SimpleNamespace()
        self.should_save_checkpoint_on_current_rank = self.always_call_state_dict_during_save_checkpoint = True
        self.higher = cfg.checkpoint.maximize_best_checkpoint_metric
        vars(checkpoint_utils.save_checkpoint).clear()
        monkeypatch.setattr(train, "validate", self.validate)
        monkeypatch.setattr(checkpoint_utils.PathManager, "copy", self.copy)
        epoch = SimpleNamespace(epoch=1, end_of_epoch=lambda: self.ends, state_dict=lambda: {})
        length = UPDATES_AN_EPOCH[path]
        for update in range(1, self.cfg.optimization.max_update + 1):
            epoch.epoch, self.update, self.ends = 1 + (update - 1) // length, update, update % length == 0
            train.validate_and_save(self.cfg, self, SimpleNamespace(), epoch, ["valid"], self.ends)
        vars(checkpoint_utils.save_checkpoint).clear()

    def validate(self, *_):
        self.validated.append(self.update)
        return [self.update if self.higher else -self.update]

    def save_checkpoint(self, path, _):
        self.saved.append(self.update)
        open(path, "w").close()
        self.copy(path, path)

    def copy(self, source, path, overwrite=False):
        self.files += 1
        if "best" in path:
            self.best.append(self.update)
        return True

    def get_num_updates(self):
        return self.update

    def cumulative_training_time(self):
        return 0.0

    def consolidate_optimizer(self):
        return None


CASES = [(path, ()) for path in UPDATES_AN_EPOCH]
CASES += [(path, ("frontend=fbank",)) for path in UPDATES_AN_EPOCH if path.startswith("distill")]


def test_all_recipes_are_looked_at():
    found = {path for folder in ("distill", "finetune") for path in (RECIPES / folder).glob("*.yaml")}
    names = {f"{path.parent.name}/{path.stem}" for path in found if path.stem != "_self_"}
    assert names == set(UPDATES_AN_EPOCH)


@pytest.mark.parametrize("path, overrides", CASES, ids=str)
def test_a_whole_run(path, overrides, tmp_path, monkeypatch):
    run = Run(path, tmp_path, monkeypatch, *overrides)
    most = run.cfg.optimization.max_update
    print(
        f"{path} {' '.join(overrides)}: {len(run.saved)} saves, {len(run.validated)} validations, first save at "
        f"{run.saved[0]}, {run.files * BYTES / 1e9:.0f} GB written, stage 1: {run.stage_1} of {most} updates"
    )
    assert run.validated == sorted(set(run.saved)) == sorted(set(run.best))  # each can be the best
    assert len(run.validated) <= 80 and run.validated[-1] == most
    assert np.diff([0, *run.validated]).max() <= max(100, most / 10)  # what a kill can cost
    assert run.files * BYTES < 80e9
    assert run.stage_1 < most / 3 and (run.stage_1 > 0) == bool(overrides)


def mask_settings():
    """{(kind, the source's setting): our probability} of all fine-tunings."""
    with open(RECIPES / "settings.csv", encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["at_source"]]
    return sorted({(row["setting"], row["at_source"], row["value"]) for row in rows})


@pytest.mark.parametrize("kind, theirs, ours", mask_settings())
def test_masks_cover_what_those_of_the_sources_do(kind, theirs, ours):
    """fairseq thins each row to the least masked of its batch; the sources' batches hold 14 utterances."""
    torch.manual_seed(0)
    size, span, least = (FRAMES, 10, 2) if kind == "mask_prob" else (WIDTH, 64, 0)
    theirs, ours = (float(value.split(" ")[0]) for value in (theirs, ours))
    draw = (compute_mask_indices((UTTERANCES, size), None, theirs, span, min_masks=least) for _ in range(200))
    expected = np.mean([mask.mean() for mask in draw])
    lengths = torch.full((4000,), size)
    found, unchanged = (float(span_mask(lengths, size, prob, span, least).float().mean()) for prob in (ours, theirs))
    print(f"{kind} {theirs}: fairseq {expected:.3f}, ours {found:.3f} at {ours}, {unchanged:.3f} at the same setting")
    assert found == pytest.approx(expected, abs=0.012)
    assert unchanged > expected or theirs == 0.1
