"""Every head and target, trained from the recipes by fairseq's own loop on clusters that can be learned: tones."""

import json

import numpy as np
import pytest
import soundfile

from distill_user_dir.checkpoints.building import build_hubert
from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.checkpoints.loading import load
from tests.helpers import SIZES, distill_overrides, train

TONES = (200, 500, 1200, 3000)  # Hz
UPDATES = 40


def write_tones(folder, splits, seed=0):
    """Utterances of fifths of a second, a tone each; {split}.tsv, and {split}.km with the tone of every 20 ms."""
    random = np.random.RandomState(seed)
    (folder / "wav").mkdir(parents=True)
    for split, utterances in splits.items():
        tsv, km = [str(folder / "wav")], []
        for i in range(utterances):
            tones = np.repeat(random.choice(4, 5, p=[0.4, 0.2, 0.2, 0.2]), 3200)
            time = np.arange(len(tones)) / 16000
            audio = 0.3 * np.sin(2 * np.pi * np.array(TONES)[tones] * time) + random.normal(0, 0.01, len(tones))
            soundfile.write(str(folder / "wav" / f"{split}{i}.wav"), audio, 16000, "PCM_16")
            tsv.append(f"{split}{i}.wav\t{len(tones)}")
            km.append(" ".join(str(tones[320 * t + 200]) for t in range((len(tones) - 400) // 320 + 1)))
        (folder / f"{split}.tsv").write_text("\n".join(tsv) + "\n")
        (folder / f"{split}.km").write_text("\n".join(km) + "\n")
    (folder / "dict.km.txt").write_text("".join(f"{tone} 1\n" for tone in range(4)))
    return folder


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    return write_tones(tmp_path_factory.mktemp("tones"), {"train": 24, "valid": 6})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, tones):
    """A tiny HuBERT, pre-trained on the tones by fairseq's own task, model and criterion."""
    folder = tmp_path_factory.mktemp("teacher")
    sizes = {f"model.{key}": f"'{value}'" if isinstance(value, str) else value for key, value in SIZES["tiny"].items()}
    sizes.update({"task.data": tones, "task.label_rate": 50, "checkpoint.save_dir": folder})
    sizes.update({"optimization.max_update": 60, "lr_scheduler.warmup_updates": 6, "optimization.lr": "[0.003]"})
    train(
        "demo",
        "teacher",
        {**sizes, "hydra.run.dir": folder, "criterion.pred_nomask_weight": 1.0, "model.skip_nomask": "false"},
    )
    return str(folder / "checkpoint_last.pt")


def validations(folder, teacher, tones, caplog, **overrides):
    """What the validations of a distillation logged, first to last."""
    every = {
        "dataset.validate_interval_updates": 5,
        "checkpoint.save_interval_updates": 0,
        "optimization.max_update": UPDATES,
    }
    every.update({"lr_scheduler.warmup_updates": 3, "common.log_format": "json", "common.log_interval": 1000})
    caplog.clear()
    with caplog.at_level("INFO"):
        train("distill", "laptop", distill_overrides(teacher, tones, folder, **{**every, **overrides}))
    lines = [record.getMessage() for record in caplog.records if record.name == "valid"]
    found = [json.loads(line) for line in lines]
    return [
        {key[len("valid_") :]: float(value) for key, value in one.items() if key.startswith("valid_")} for one in found
    ]


@pytest.mark.slow
@pytest.mark.parametrize("head", ["codebook", "linear"])
@pytest.mark.parametrize("target", ["soft", "hard", "kmeans"])
def test_every_head_learns_every_target(tmp_path, teacher, tones, caplog, head, target):
    overrides = {"loss": "reg_disc", "criterion.discriminative_head": head, "criterion.discriminative_target": target}
    overrides.update({"data": "km50"} if target == "kmeans" else {})
    overrides.update({"criterion.student_temperature": 1.0} if head == "linear" else {})
    logged = validations(tmp_path, teacher, tones, caplog, **overrides)
    assert len(logged) == UPDATES // 5 and logged[-1]["loss"] < logged[0]["loss"]
    assert logged[-1]["discriminative"] < logged[0]["discriminative"]
    assert logged[-1]["agreement"] > logged[-1]["commonest"] + 0.1
    assert logged[-1]["loss"] == pytest.approx(logged[-1]["regression"] + logged[-1]["discriminative"], abs=1e-3)
    state = load(str(tmp_path / "checkpoint_last.pt"))
    assert ("cluster_head.codebook" in state["model"]) == (head == "codebook")
    sets = load(teacher)["task_state"]["dictionaries"]
    assert list(state["cfg"]["model"]["cluster_sizes"]) == [len(sets[0])] == [8]


def test_masked_objective_and_a_checkpoint_by_agreement(tmp_path, teacher, tones, caplog):
    """HuBERT's own objective; the recipe names the metric that picks the best checkpoint."""
    by = {"checkpoint.best_checkpoint_metric": "agreement", "checkpoint.maximize_best_checkpoint_metric": "true"}
    by.update({"model.mask_length": 4, "checkpoint.save_interval_updates": 5})  # a validation is saved, each time
    logged = validations(tmp_path, teacher, tones, caplog, loss="kmeans", data="km50", **by)
    assert logged[-1]["loss"] < logged[0]["loss"] and logged[-1]["agreement"] > logged[-1]["commonest"]
    best = load(str(tmp_path / "checkpoint_best.pt"))["extra_state"]
    assert best["val_loss"] == pytest.approx(max(one["agreement"] for one in logged), abs=1e-3)
    assert not any(key.startswith("heads.") for key in load(str(tmp_path / "checkpoint_best.pt"))["model"])
    build_hubert(
        hubert_in(str(tmp_path / "checkpoint_best.pt")), {"mask_prob": 0.0}
    )  # fine-tuning may be without masks
