"""The task with several label sets and with cluster centres: what it refuses, trains, saves and resumes."""

import numpy as np
import pytest
import torch

from distill_user_dir.checkpoints.building import build_hubert
from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.checkpoints.loading import load
from distill_user_dir.student import load_student
from tests.helpers import distill_overrides, noise, train, write_corpus, write_labels
from tests.tasks.test_hubert_distillation import refused

LAYERS, TEACHER_LAYERS = "criterion.discriminative_layers", "criterion.discriminative_teacher_layers"
LINEAR = {"criterion.discriminative_head": "linear", "criterion.student_temperature": 1.0}
KM = {"loss": "kmeans", "data": "km50", "task.labels": "[km2,km4]", **LINEAR}
DISC = {"loss": "reg_disc"}
DISTANCES = {**DISC, "criterion.discriminative_target": "distances", **LINEAR}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_corpus(tmp_path_factory.mktemp("sets"), {"train": [9000, 12000, 16000], "valid": [9000, 10000]})
    for seed, (name, clusters) in enumerate({"km2": 9, "km4": 20}.items()):
        write_labels(folder, ["train", "valid"], clusters, name=name, seed=seed)
        centres = np.random.RandomState(seed).normal(0, 1, (clusters, 48)).astype(np.float32)
        np.save(str(folder / f"{name}.npy"), centres)
    np.save(str(folder / "mfcc.npy"), np.ones((5, 39), dtype=np.float32))
    np.save(str(folder / "same.npy"), np.ones((5, 48), dtype=np.float32))
    return folder


def centres(*names):
    """With DATA for the folder of the data, which is known later."""
    return {"task.centres": f"[{','.join(f'DATA/{name}.npy' for name in names)}]"}


def placed(overrides, folder):
    return {key: str(value).replace("DATA", str(folder)) for key, value in overrides.items()}


BAD = [
    ({**KM, LAYERS: "[2]"}, ["criterion.discriminative_layers=[2] has 1 entries, expected 2: a student layer"]),
    ({**KM, LAYERS: "[1,2,3]"}, ["criterion.discriminative_layers=[1, 2, 3] has 3 entries, expected 2"]),
    ({**KM, LAYERS: "[1,4]"}, ["criterion.discriminative_layers=[1, 4]", "no layer 4", "1 to 3"]),
    ({**KM, LAYERS: "[0,1]"}, ["criterion.discriminative_layers=[0, 1]", "no layer 0"]),
    ({**DISC, LAYERS: "[1,2]"}, ["criterion.discriminative_layers=[1, 2] has 2 entries, expected 1"]),
    ({**KM, "criterion.discriminative_head": "codebook"}, ["task.labels names 2 label sets", "was trained on 1"]),
    (DISTANCES, ["task.centres is empty", "manifests/kmeans.py"]),
    ({**DISTANCES, **centres("km2")}, ["discriminative_teacher_layers=[] has 0 entries", "task.centres names 1"]),
    ({**DISTANCES, **centres("km2"), TEACHER_LAYERS: "[1,2]"}, ["[1, 2] has 2 entries", "task.centres names 1"]),
    ({**DISTANCES, **centres("km2"), TEACHER_LAYERS: "[4]"}, ["asks for layer 4", "tiny", "layers 1 to 3"]),
    ({**DISTANCES, **centres("km2"), TEACHER_LAYERS: "[0]"}, ["asks for layer 0", "layers 1 to 3"]),
    ({**DISTANCES, **centres("mfcc"), TEACHER_LAYERS: "[2]"}, ["mfcc.npy: centres of 39", "has 48", "--layer 2"]),
    ({**DISTANCES, **centres("same"), TEACHER_LAYERS: "[2]"}, ["same.npy: 5 centres, all the same"]),
    ({**DISTANCES, **centres("none"), TEACHER_LAYERS: "[2]"}, ["none.npy: no cluster centres"]),
    ({**DISTANCES, **centres("km2"), TEACHER_LAYERS: "[2]", LAYERS: "[1,2]"}, ["[1, 2] has 2 entries, expected 1"]),
    (
        {**DISTANCES, **centres("km2"), TEACHER_LAYERS: "[2]", "criterion.discriminative_head": "codebook"},
        ["discriminative_head=codebook", "the teacher's own clusters", "discriminative_head=linear"],
    ),
    ({LAYERS: "[2]"}, ["discriminative_layers=[2] with criterion.discriminative_weight=0", "loss=reg_disc"]),
    ({**DISC, TEACHER_LAYERS: "[2]"}, ["discriminative_teacher_layers=[2] is for", "distances", "not for soft"]),
    ({**DISC, **centres("km2")}, ["task.centres=[", "is for criterion.discriminative_target=distances"]),
]


@pytest.mark.parametrize("overrides, told", BAD, ids=range(len(BAD)))
def test_stops_before_training(data, tmp_path, checkpoints, overrides, told):
    overrides = distill_overrides(checkpoints("tiny"), data, tmp_path / "out", **placed(overrides, data))
    refused(lambda: train("distill", "laptop", overrides), told)
    assert not list(tmp_path.glob("out/*.pt"))


TRAINED = {
    "kmeans": {**KM, LAYERS: "[1,3]", "criterion.discriminative_frames": "masked"},
    "distances": {**DISTANCES, **centres("km2", "km4"), TEACHER_LAYERS: "[3,2]", LAYERS: "[1,3]"},
}


@pytest.mark.parametrize("target", TRAINED)
def test_trains_saves_and_resumes(data, tmp_path, checkpoints, target):
    """Three updates in one run are two and one more; nothing of the teacher is in the checkpoint."""
    saved = []
    for name, runs in (("whole", [3]), ("parts", [2, 3])):
        for updates in runs:
            out = tmp_path / name
            overrides = distill_overrides(checkpoints("tiny"), data, out, **placed(TRAINED[target], data))
            train("distill", "laptop", {**overrides, "optimization.max_update": updates, "hydra.run.dir": out})
        saved.append(load(str(out / "checkpoint_last.pt")))
    assert all(state["optimizer_history"][-1]["num_updates"] == 3 for state in saved)
    whole, parts = (state["model"] for state in saved)
    assert whole.keys() == parts.keys()
    assert all(float((whole[key] - parts[key]).abs().max()) < 1e-5 for key in whole)
    config, sizes = saved[0]["cfg"]["model"], {"kmeans": [13, 24], "distances": [9, 20]}[target]
    assert list(config["cluster_sizes"]) == sizes and list(config["discriminative_layers"]) == [1, 3]
    assert whole["cluster_head.projection.weight"].shape == (sum(sizes), 32)
    own = [key for key in whole if key.startswith("cluster_head")]
    assert own == ["cluster_head.projection.weight", "cluster_head.projection.bias"]
    path = str(tmp_path / "whole" / "checkpoint_last.pt")
    assert len(build_hubert(hubert_in(path)).encoder.layers) == 3
    assert load_student(path) is not None


def test_a_checkpoint_of_before_the_layers_is_read(distilled, tmp_path):
    """Without the keys in its config, as earlier versions wrote it: it is a student to fine-tune, and a teacher."""
    state = load(distilled)
    for key in ("discriminative_layers", "discriminative_teacher_layers"):
        del state["cfg"]["model"][key]
    torch.save(state, str(tmp_path / "old.pt"))
    old, new = (build_hubert(hubert_in(path)).eval() for path in (str(tmp_path / "old.pt"), distilled))
    audio = noise(9000).unsqueeze(0)
    assert torch.equal(old.extract_features(audio)[0], new.extract_features(audio)[0])
