import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from fairseq import tasks

from distill_user_dir.tasks.hubert_distillation import HubertDistillationTask
from tests.commands import listed
from tests.helpers import distill_overrides, finetune_overrides, recipe, train, write_corpus


@pytest.fixture
def data(tmp_path):
    return write_corpus(tmp_path / "data", {"train": [9000, 12000, 16000], "valid": [9000, 10000]})


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def missing_audio(data):
    (data / "wav" / "valid" / "001.wav").unlink()


def unreadable(data):
    (data / "wav" / "train" / "001.wav").write_text("no audio " * 100)


def wrong_rate(data):
    soundfile.write(str(data / "wav" / "train" / "002.wav"), np.zeros(16000), 8000)


def stereo(data):
    soundfile.write(str(data / "wav" / "train" / "002.wav"), np.zeros((16000, 2)), 16000)


def empty_file(data):
    soundfile.write(str(data / "wav" / "train" / "000.wav"), np.zeros(0), 16000)


def other_length(data):
    soundfile.write(str(data / "wav" / "train" / "000.wav"), np.zeros(8999), 16000)


def two_wrong(data):
    missing_audio(data)
    (data / "wav" / "valid" / "000.wav").unlink()


def malformed(data):
    edit(data / "train.tsv", "\t12000", " 12000")


def no_number(data):
    edit(data / "valid.tsv", "\t10000", "\t-1")


def no_utterance(data):
    (data / "train.tsv").write_text((data / "train.tsv").read_text().split("\n")[0] + "\n")


def no_root(data):
    edit(data / "train.tsv", str(data / "wav"), str(data / "nowhere"))


def no_manifest(data):
    (data / "valid.tsv").unlink()


def too_short(data):
    edit(data / "train.tsv", "\t12000", "\t399")


def nothing(data):
    pass


BAD_DATA = [
    (missing_audio, {}, ["valid/001.wav", "no such file"]),
    (two_wrong, {}, ["valid/000.wav", "1 more file"]),
    (unreadable, {}, ["train/001.wav", "not readable"]),
    (wrong_rate, {}, ["train/002.wav", "8000 Hz", "16000"]),
    (stereo, {}, ["train/002.wav", "2 channels"]),
    (empty_file, {}, ["train/000.wav", "0 samples"]),
    (other_length, {}, ["train.tsv:2", "000.wav", "8999", "9000"]),
    (malformed, {}, ["train.tsv:3", "name<TAB>samples", "train/001.wav 12000"]),
    (no_number, {}, ["valid.tsv:3", "name<TAB>samples"]),
    (no_utterance, {}, ["train.tsv", "no utterance"]),
    (no_root, {}, ["train.tsv:1", "nowhere"]),
    (no_manifest, {}, ["valid.tsv", "no such manifest"]),
    (
        too_short,
        {"task.min_sample_size": 0},
        ["train.tsv:3", "train/001.wav", "399", "400", "task.min_sample_size=400"],
    ),
    (nothing, {"task.min_sample_size": 20000}, ["valid.tsv", "9000 to 10000", "task.min_sample_size=20000"]),
    (nothing, {"task.teacher_path": "/none/teacher.pt"}, ["/none/teacher.pt", "no such file"]),
    (nothing, {"task.teacher_path": "null"}, ["task.teacher_path"]),
    (nothing, {"model.layer_map": "[1,2,9]"}, ["model.layer_map", "9", "1 to 3"]),
    (nothing, {"task.sample_rate": 8000}, ["16000 Hz", "task.sample_rate is 8000"]),
    (
        nothing,
        {"model.conv_feature_layers": "'[(24,10,5)] + [(24,3,2)] * 4 + [(24,2,2)]'"},
        ["model.conv_feature_layers", "frames of the student", "must give the same frames"],
    ),
    (nothing, {"model.conv_feature_layers": "'[(24,10,5)] + [(24,3,2)] * 4 + [(24,2,1), (24,2,2)]'"}, ["samples give"]),
]


def refused(call, told):
    with pytest.raises(ValueError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    for part in told:
        assert part in message
    return message


@pytest.mark.parametrize("spoil, overrides, told", BAD_DATA, ids=lambda value: getattr(value, "__name__", None))
def test_stops_before_training(data, tmp_path, checkpoints, spoil, overrides, told):
    spoil(data)
    overrides = distill_overrides(checkpoints("tiny"), data, tmp_path / "out", **overrides)
    overrides["task.min_sample_size"] = overrides.get("task.min_sample_size", 8000)
    refused(lambda: train("distill", "laptop", overrides), told)
    assert not list(tmp_path.glob("out/*.pt"))


def test_teacher_path_of_the_recipe_is_mandatory(data, tmp_path, checkpoints):
    overrides = distill_overrides(checkpoints("tiny"), data, tmp_path / "out")
    del overrides["task.teacher_path"]
    refused(lambda: train("distill", "laptop", overrides), ["teacher_path"])


@pytest.mark.parametrize("wrong", ["short", "long", "missing"])
def test_label_file_of_wrong_length(data, tmp_path, checkpoints, wrong):
    labels = data / "train.ltr"
    lines = labels.read_text().splitlines(True)
    labels.write_text("".join({"short": lines[:2], "long": lines + lines[:1], "missing": []}[wrong]))
    told = ["train.ltr", f"{2 if wrong == 'short' else 4} lines", "3 utterances"]
    if wrong == "missing":
        labels.unlink()
        told = ["train.ltr", "no such label file"]
    overrides = finetune_overrides(checkpoints("tiny"), data, tmp_path / "out")
    refused(lambda: train("finetune", "laptop", overrides), told)


def loaded(folder, name, overrides, split):
    """A recipe's task with one split loaded."""
    cfg = recipe(folder, name, *listed(overrides))
    task = tasks.setup_task(cfg.task)
    task.load_dataset(split)
    return task


def dataset(*args):
    return loaded(*args).datasets[args[-1]]


def recorded(corpus, split, index):
    return torch.from_numpy(soundfile.read(str(corpus / "wav" / split / f"{index:03d}.wav"), dtype="float32")[0])


CROPPING = {"task.max_sample_size": 8000, "task.pad_audio": "false", "task.random_crop": "true"}


@pytest.mark.parametrize("normalize", ["false", "true"])
@pytest.mark.parametrize("kind, split", [("distill", "valid"), ("finetune", "train"), ("finetune", "valid")])
def test_fine_tuning_and_validation_see_whole_raw_utterances(corpus, kind, split, normalize):
    if kind == "distill":
        overrides = distill_overrides("/none", corpus, "/none", **CROPPING)
    else:
        overrides = finetune_overrides("/none", corpus, "/none", **{f"+{key}": v for key, v in CROPPING.items()})
    found = dataset(kind, "laptop", dict(overrides, **{"task.normalize": normalize}), split)
    ids = [0, 3, 1, 2]
    collated = found.collater([found[i] for i in ids])
    source, padded = (collated["net_input"][key] for key in ("source", "padding_mask"))
    for row, i in enumerate(ids):
        audio = recorded(corpus, split, i)
        assert torch.equal(source[row, : len(audio)], audio) and not source[row, len(audio) :].any()
        assert padded[row].tolist() == [n >= len(audio) for n in range(source.size(1))]
    if kind == "finetune":
        text = [line.split() for line in (corpus / f"{split}.ltr").read_text().splitlines()]
        assert collated["target_lengths"].tolist() == [len(text[i]) for i in ids]


def epochs(task, workers):
    """Batches of two epochs, (ids, audio) each, as the trainer gets them."""
    iterator = task.get_batch_iterator(task.datasets["train"], max_sentences=3, seed=7, num_workers=workers)
    found = [list(iterator.next_epoch_itr(shuffle=False)) for _ in range(2)]
    return [[(b["id"].tolist(), b["net_input"]["source"]) for b in epoch] for epoch in found]


def test_crops_depend_on_seed_epoch_and_utterances_alone(corpus):
    overrides = distill_overrides("/none", corpus, "/none", **CROPPING)
    np.random.seed(1)
    first, second = epochs(loaded("distill", "laptop", overrides, "train"), workers=0)
    np.random.seed(2)
    for here, there in zip((first, second), epochs(loaded("distill", "laptop", overrides, "train"), workers=2)):
        assert [ids for ids, _ in here] == [ids for ids, _ in there]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(here, there))
    for ids, source in first:
        assert source.size(1) == 8000
        for i, row in zip(ids, source):
            windows = recorded(corpus, "train", i).unfold(0, 8000, 1)
            start = (windows[:, :4] == row[:4]).all(1).int().argmax()
            assert torch.equal(windows[start], row)
    other_seed = epochs(loaded("distill", "laptop", dict(overrides, **{"common.seed": 2}), "train"), workers=0)[0]
    for different in (second, other_seed):
        assert not any(torch.equal(a, b) for (_, a), (_, b) in zip(first, different))


def test_crops_of_padded_batches_are_bounded(corpus):
    overrides = distill_overrides("/none", corpus, "/none", **dict(CROPPING, **{"task.pad_audio": "true"}))
    overrides["task.max_sample_size"] = 12000
    found = dataset("distill", "laptop", overrides, "train")
    lengths = [min(size, 12000) for size in found.sizes]
    collated = found.collater([found[i] for i in range(12)])["net_input"]
    assert collated["source"].size(1) == 12000
    assert (~collated["padding_mask"]).sum(1).tolist() == lengths


def test_labels_are_optional_and_teacher_is_for_building_only(data, tmp_path, checkpoints):
    shutil.rmtree(str(tmp_path / "data" / "wav" / "valid"))
    overrides = dict(distill_overrides("/none", data, "/none"), **{"task.check_audio": "false"})
    found = dataset("distill", "laptop", overrides, "valid")
    assert list(found.sizes) == [9000, 10000] and found.num_labels == 0


def test_stages_with_flat_gradients_are_refused():
    """One tensor of all parameters has moments, and a weight decay, for those too that do not learn yet."""
    optimizer = SimpleNamespace(has_flat_params=True)
    with pytest.raises(ValueError, match="needs common.fp16_no_flatten_grads=true"):
        HubertDistillationTask.enter_stage(SimpleNamespace(stage=None), None, 5, optimizer, 4)


def test_labels_are_read_in_any_script(data):
    """Sentencepiece's units and most of the world's letters are more than a byte each."""
    lines = ["\u2581\u00c9T\u00c9 S", "S \u65e5\u672c \u2581\u00c9T\u00c9", "S"]
    (data / "train.spm").write_text("\n".join(lines) + "\n", encoding="utf-8")
    units = ["\u2581\u00c9T\u00c9", "S", "\u65e5\u672c"]
    (data / "dict.spm.txt").write_text("".join(f"{unit} 1\n" for unit in units), encoding="utf-8")
    cfg = recipe("finetune", "laptop", "units=sentencepiece", f"task.data={data}", "model.w2v_path=x")
    task = HubertDistillationTask(cfg.task)
    task.load_dataset("train")
    found = [task.target_dictionary.string(task.dataset("train").get_label(i, 0)) for i in range(3)]
    by_name = dict(zip(task.dataset("train").audio_names, found))
    assert [by_name[f"train/{i:03d}.wav"] for i in range(3)] == lines
