"""The task with k-means labels and with the teacher's clusters: what it refuses, and what crops do to labels."""

import shutil

import pytest
import torch

from distill_user_dir.modules.conv_layers import num_frames, parse_conv_layers
from tests.helpers import CNN, distill_overrides, train, write_corpus, write_labels
from tests.tasks.test_hubert_distillation import dataset, edit, recorded, refused


@pytest.fixture
def data(tmp_path):
    folder = write_corpus(tmp_path / "data", {"train": [9000, 12000, 16000], "valid": [9000, 10000]})
    write_labels(folder, ["train", "valid"])
    return folder


def nothing(data):
    pass


def label_outside(data):
    edit(data / "valid.km", (data / "valid.km").read_text().split()[3], "20")


def labels_cut(data):
    lines = (data / "train.km").read_text().splitlines()
    (data / "train.km").write_text("\n".join([lines[0], " ".join(lines[1].split()[:-5]), lines[2]]) + "\n")


def line_missing(data):
    lines = (data / "train.km").read_text().splitlines(True)
    (data / "train.km").write_text("".join(lines[:2]))


def labels_at_100(data):
    write_labels(data, ["train", "valid"], rate=100)


def other_dictionary(data):
    write_labels(data, ["train", "valid"], clusters=19)


def other_order(data):
    lines = (data / "dict.km.txt").read_text().splitlines(True)
    (data / "dict.km.txt").write_text("".join(lines[:7] + lines[8:9] + lines[7:8] + lines[9:]))


def no_dictionary(data):
    (data / "dict.km.txt").unlink()


KM, DISC = {"loss": "kmeans", "data": "km50"}, {"loss": "reg_disc"}
LINEAR = {**KM, "criterion.discriminative_head": "linear"}
BAD = [
    (label_outside, KM, ["valid.km:1", "valid/000.wav", "'20'", "20 in the dictionary"]),
    (labels_cut, KM, ["train.km:2", "train/001.wav", "32 labels", "12000 samples", "37 frames"]),
    (line_missing, KM, ["train.km", "2 lines", "3 utterances"]),
    (labels_at_100, KM, ["task.label_rate=50", "about 99.1 a second"]),
    (nothing, {**KM, "data": "km100"}, ["task.label_rate=100", "about 5"]),
    (nothing, {**KM, "task.label_rate": -1}, ["task.label_rate=-1", "50 or 100"]),
    (other_dictionary, KM, ["dictionary 1", "19 labels and 20", "line 20", "linear"]),
    (other_order, KM, ["dictionary 1", "line 8"]),
    (no_dictionary, KM, ["dict.km.txt", "no such dictionary"]),
    (nothing, {**KM, "data": "audio"}, ["discriminative_target=kmeans", "task.labels", "data=km50"]),
    (nothing, {**KM, "model.mask_prob": 0}, ["discriminative_frames=masked", "model.mask_prob=0", "0.65"]),
    (nothing, {**DISC, "criterion.student_temperature": 0}, ["criterion.student_temperature=0", "more than 0"]),
    (nothing, {**DISC, "criterion.teacher_temperature": -1}, ["criterion.teacher_temperature=-1"]),
    (nothing, {**DISC, "criterion.discriminative_weight": -1}, ["discriminative_weight=-1", "0 or more"]),
    (nothing, {"criterion.regression_weight": 0}, ["regression_weight=0", "discriminative_weight=0", "no loss"]),
    (nothing, {**DISC, "+model.cluster_sizes": "[500]"}, ["model.cluster_sizes=[500]", "[24]"]),
    (nothing, {**LINEAR, "+model.cluster_sizes": "[500]"}, ["model.cluster_sizes=[500]", "[24]"]),
    (nothing, {**KM, "task.teacher_path": "null"}, ["task.teacher_path"]),
]


@pytest.mark.parametrize("spoil, overrides, told", BAD, ids=range(len(BAD)))
def test_stops_before_training(data, tmp_path, checkpoints, spoil, overrides, told):
    spoil(data)
    overrides = distill_overrides(checkpoints("tiny"), data, tmp_path / "out", **overrides)
    refused(lambda: train("distill", "laptop", overrides), told)
    assert not list(tmp_path.glob("out/*.pt"))


@pytest.mark.parametrize("target", ["soft", "hard"])
@pytest.mark.parametrize("head", ["codebook", "linear"])
def test_a_teacher_without_clusters_is_refused(data, tmp_path, distilled, head, target):
    overrides = {**DISC, "criterion.discriminative_head": head, "criterion.discriminative_target": target}
    overrides = distill_overrides(distilled, data, tmp_path / "out", **overrides)
    refused(lambda: train("distill", "laptop", overrides), [distilled, "no clusters", "pre-trained HuBERT"])


def test_own_clusters_need_neither_teacher_nor_its_dictionary(data, tmp_path):
    write_labels(data, ["train", "valid"], clusters=7)
    overrides = distill_overrides("null", data, tmp_path / "out", **LINEAR, **{"optimization.max_update": 1})
    train("distill", "laptop", overrides)
    state = torch.load(str(tmp_path / "out" / "checkpoint_last.pt"), weights_only=True)
    assert state["model"]["cluster_head.projection.weight"].shape == (11, 32)


def test_labels_are_not_asked_of_an_audio_recipe(data, tmp_path, checkpoints):
    for path in data.glob("*.km"):
        path.unlink()
    overrides = distill_overrides(checkpoints("tiny"), data, tmp_path / "out", **{"optimization.max_update": 1})
    train("distill", "laptop", overrides)
    shutil.rmtree(str(tmp_path / "out"))


@pytest.mark.parametrize("rate", [50, 100])
def test_crops_take_their_labels_along(tmp_path, rate):
    """A crop's labels begin where its audio does, to half a label, as fairseq's data set has it."""
    folder = write_corpus(tmp_path / "data", {"train": [24000, 16000, 30000], "valid": [9000]})
    write_labels(folder, ["train", "valid"], clusters=500, rate=rate)
    crop = {"task.max_sample_size": 12345, "task.random_crop": "true", "data": f"km{rate}", "loss": "kmeans"}
    found = dataset("distill", "laptop", distill_overrides("/none", folder, "/none", **crop), "train")
    km = [line.split() for line in (folder / "train.km").read_text().splitlines()]
    cropped = found.collater([found[i] for i in range(3)])
    hop = 16000 // rate
    for row, i in enumerate(range(3)):
        audio, source = recorded(folder, "train", i), cropped["net_input"]["source"][row]
        starts = [s for s in range(len(audio) - 12345 + 1) if torch.equal(audio[s : s + 12345], source)]
        assert len(starts) == 1 and starts[0] > 0
        first = round(starts[0] / hop)
        count = int(cropped["target_lengths_list"][0][row])
        labels = [int(label) - 4 for label in cropped["target_list"][0][row, :count]]
        assert labels == [int(label) for label in km[i][first : first + count]]
        frames = int(num_frames(torch.tensor([12345]), parse_conv_layers(CNN.format(1))))
        assert abs(count - frames * rate / 50) <= rate / 50
