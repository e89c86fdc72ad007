"""Files that go bad in mid-run, and losses that are no numbers."""

import re
import shutil

import numpy as np
import pytest
import soundfile
import torch

from distill_user_dir.checkpoints.loading import load
from distill_user_dir.data.audio import AudioError
from distill_user_dir.data.dataset import DistillationDataset
from tests.commands import Process, run, train_command
from tests.helpers import distill_overrides, finetune_overrides, write_corpus

LENGTHS = [16000, 12000, 9000, 14000, 11000]


def write(path, samples, subtype="FLOAT", rate=16000):
    soundfile.write(str(path), samples, rate, subtype)


def cut(path):
    audio, rate = soundfile.read(str(path))
    write(path, audio[: len(audio) // 2], "PCM_16")


def not_a_number(path):
    audio, rate = soundfile.read(str(path), dtype="float32")
    audio[100] = np.nan
    write(path, audio)


def other_rate(path):
    audio, _ = soundfile.read(str(path))
    write(path, audio, "PCM_16", 8000)


SPOILING = {
    "missing": (lambda path: path.unlink(), "no such file"),
    "no audio": (lambda path: path.write_bytes(b"no audio at all"), "not readable .*Format not recognised"),
    "cut": (cut, "8000 samples read, 16000 in the manifest"),
    "not finite": (not_a_number, "1 samples are not finite, the first is number 100"),
    "other rate": (other_rate, "8000 Hz, expected 16000"),
}


@pytest.fixture
def folder(tmp_path):
    return write_corpus(tmp_path / "corpus", {"train": LENGTHS, "valid": [9000]})


def dataset(folder, share):
    return DistillationDataset(
        str(folder / "train.tsv"), seed=1, max_bad_share=share, sample_rate=16000, label_paths=[], label_rates=-1.0,
        pad_list=[], eos_list=[], label_processors=[], pad_audio=True, store_labels=False,
    )  # fmt: skip


@pytest.mark.parametrize("kind", SPOILING)
def test_a_bad_file_is_named_and_left_out_if_allowed(folder, caplog, kind):
    spoil, told = SPOILING[kind]
    path = folder / "wav" / "train" / "000.wav"
    whole = dataset(folder, 0.2)
    expected = whole.collater([whole[1], whole[2]])
    spoil(path)
    with pytest.raises(AudioError, match=f"train/000.wav: .*(?:{told}).*task.max_bad_share"):
        dataset(folder, 0)[0]
    with caplog.at_level("WARNING"):
        lenient = dataset(folder, 0.2)
        batch = lenient.collater([lenient[0], lenient[1], lenient[2]])
        lenient[0]
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1 and re.search(f"left out: .*000.wav: .*(?:{told})", warned[0])
    assert lenient.bad.tolist() == [True, False, False, False, False]
    assert batch["id"].tolist() == [1, 2]
    assert torch.equal(batch["net_input"]["source"], expected["net_input"]["source"])


def test_a_batch_of_nothing_else_has_the_next_utterance(folder):
    for name in ("000.wav", "001.wav"):
        (folder / "wav" / "train" / name).unlink()
    lenient = dataset(folder, 0.5)
    assert lenient.collater([lenient[0], lenient[1]])["id"].tolist() == [2]
    shutil.rmtree(str(folder / "wav" / "train"))
    lenient = dataset(folder, 0.5)
    with pytest.raises(AudioError, match="neither this nor any other"):
        lenient.collater([lenient[0]])


def attempt(command, folder):
    return Process(command, folder, HYDRA_FULL_ERROR="").end(300)


@pytest.fixture
def command(checkpoints, folder, tmp_path):
    def made(**more):
        options = {"dataset.batch_size": 2, "optimization.max_update": 6, "task.check_audio": "false", **more}
        overrides = distill_overrides(checkpoints("tiny"), folder, tmp_path / "out", **options)
        return train_command("distill", "laptop", overrides, surviving=True)

    return made


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_counts_them_and_goes_on(command, folder, tmp_path, workers):
    cut(folder / "wav" / "train" / "000.wav")
    cut(folder / "wav" / "valid" / "000.wav")  # all there is: found by the search for another one, too
    write(folder / "wav" / "valid" / "001.wav", np.random.RandomState(0).uniform(-0.3, 0.3, 9000), "PCM_16")
    (folder / "valid.tsv").write_text((folder / "valid.tsv").read_text() + "valid/001.wav\t9000\n")
    output = run(command(**{"task.max_bad_share": 0.3, "dataset.num_workers": workers}), tmp_path)
    assert re.search(r"left out: .*train/000.wav: 8000 samples read, 16000 in the manifest", output)
    assert re.search(r"left_out[= ]2\b", output) and load(str(tmp_path / "out" / "checkpoint_last.pt"))


def test_a_training_ends_at_the_first_or_where_they_are_too_many(command, folder, tmp_path):
    cut(folder / "wav" / "train" / "000.wav")
    status, output = attempt(command(), tmp_path)
    last = output.strip().splitlines()[-1]
    assert status == 1 and re.match(r"\S*train/000.wav: 8000 samples read.*task.max_bad_share$", last)
    cut(folder / "wav" / "train" / "001.wav")
    status, output = attempt(command(**{"task.max_bad_share": 0.2}), tmp_path)
    assert status == 1 and "2 of 6 utterances are bad, more than task.max_bad_share=0.2" in output.splitlines()[-1]


def test_files_that_are_bad_before_the_training_are_allowed_for_too(command, folder, tmp_path):
    cut(folder / "wav" / "train" / "000.wav")
    status, output = attempt(command(**{"task.check_audio": "true"}), tmp_path)
    assert status == 1 and "the manifest says 16000" in output.splitlines()[-1]
    output = run(command(**{"task.check_audio": "true", "task.max_bad_share": 0.2}), tmp_path)
    assert re.search(r"will be left out: .*000.wav has 8000 samples", output)


def test_a_loss_that_is_no_number_names_its_utterances(command, folder, tmp_path):
    options = {"optimization.lr": "[1e30]", "optimization.clip_norm": 0, "lr_scheduler.warmup_updates": 0}
    status, output = attempt(command(**options), tmp_path)
    last = output.strip().splitlines()[-1]
    found = re.match(r"update \d: the loss of a batch is nan; its (\d) utterances are in (\S+): look", last)
    assert status == 1 and found, last
    lines = [line.split("\t") for line in open(found.group(2)).read().splitlines()]
    assert len(lines) == int(found.group(1))
    assert all(path == str(folder / "wav" / "train" / f"{int(index):03d}.wav") for index, path in lines)


def test_fine_tuning_leaves_them_out_too(folder, distilled, tmp_path):
    cut(folder / "wav" / "train" / "000.wav")
    options = {"task.max_bad_share": 0.2, "task.check_audio": "false", "dataset.batch_size": 1}
    overrides = finetune_overrides(distilled, folder, tmp_path / "ctc", **options, **{"optimization.max_update": 10})
    output = run(train_command("finetune", "laptop", overrides, surviving=True), tmp_path)
    assert re.search(r"left_out[= ]1\b", output)
