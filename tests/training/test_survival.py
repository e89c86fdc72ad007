"""What `python -m distill_user_dir.train` adds: preemption, damaged checkpoints, full disks."""

import logging
import os
import re
import shutil
import signal

import pytest
import torch

from distill_user_dir.checkpoints.loading import CheckpointError, damage, load
from distill_user_dir.training.resuming import use_newest_whole
from tests.commands import Process, failure, kill_at, run, train_command
from tests.helpers import distill_overrides, write_hubert

pytestmark = pytest.mark.slow

OPTIONS = {
    "dataset.num_workers": 2,
    "dataset.batch_size": 2,  # six updates an epoch
    "dataset.validate_interval_updates": 4,
    "checkpoint.save_interval_updates": 4,
    "checkpoint.keep_interval_updates": 2,
    "optimization.max_update": 15,
    "lr_scheduler.warmup_updates": 5,
}


@pytest.fixture(scope="module")
def command(checkpoints, corpus):
    def made(folder, surviving=True, **more):
        overrides = distill_overrides(checkpoints("tiny"), corpus, folder, **{**OPTIONS, **more})
        return train_command("distill", "laptop", overrides, surviving)

    return made


@pytest.fixture(scope="module")
def through(tmp_path_factory, command):
    """The weights of a run by fairseq-hydra-train that nothing disturbed."""
    folder = tmp_path_factory.mktemp("through")
    run(command(folder, surviving=False), folder)
    return load(str(folder / "checkpoint_last.pt"))["model"]


def end_of(folder):
    return load(str(folder / "checkpoint_last.pt"))["model"]


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def signal_at(command, folder, line, whom):
    """Runs a training until it prints `line`, sends SIGTERM by `whom(pid)`, and returns status and output."""
    process = Process(command, folder, session=True)
    lines = []
    for text in process.output:
        lines.append(text)
        if re.search(line, text) and whom is not None:
            whom(process.pid)
            whom = None
    return process.wait(), "".join(lines)


def terminate(pid):
    os.kill(pid, signal.SIGTERM)


def terminate_all(pid):
    os.killpg(pid, signal.SIGTERM)


@pytest.mark.parametrize("whom", [terminate, terminate_all])
def test_sigterm_saves_and_the_same_command_ends_as_if_undisturbed(tmp_path, command, through, whom):
    status, output = signal_at(command(tmp_path), tmp_path, r"num_updates=6\b|\"num_updates\": \"6\"", whom)
    assert status == 143, output[-3000:]
    saved = re.search(r"SIGTERM: saved at update (\d+)", output)
    state = load(str(tmp_path / "checkpoint_last.pt"))
    assert 6 <= int(saved.group(1)) == state["optimizer_history"][-1]["num_updates"] < 15
    assert f"@ {saved.group(1)} updates" in run(command(tmp_path), tmp_path)
    assert same(end_of(tmp_path), through)


def test_sigterm_before_the_first_update_just_ends_it(tmp_path, command):
    status, _ = signal_at(command(tmp_path), tmp_path, "task: HubertDistillationTask", terminate)
    assert status == -signal.SIGTERM and not list(tmp_path.glob("checkpoint*"))


def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(tmp_path, command, through):
    kill_at(command(tmp_path), tmp_path, 8)
    last = tmp_path / "checkpoint_last.pt"
    last.write_bytes(last.read_bytes()[:5000])  # as fairseq's own copying leaves it
    shutil.copy(str(last), str(tmp_path / "checkpoint_2_8.pt"))
    (tmp_path / "checkpoint_2_12.pt.tmp").write_bytes(b"half")
    output = run(command(tmp_path), tmp_path)
    assert re.search(r"checkpoint_last.pt: refused, truncated.*; going on from .*checkpoint_1_4.pt", output)
    assert "@ 4 updates" in output and same(end_of(tmp_path), through)
    assert (tmp_path / "checkpoint_last.pt.damaged").exists() and not list(tmp_path.glob("*.tmp"))


def write_checkpoints(folder, names):
    """{name: number of updates}"""
    for name, updates in names.items():
        write_hubert(folder / name)
        state = load(str(folder / name))
        state["optimizer_history"] = [{"num_updates": updates}]
        torch.save(state, str(folder / name))


def updates(path):
    return load(str(path))["optimizer_history"][-1]["num_updates"]


def test_killed_between_a_checkpoint_and_its_copy(tmp_path, caplog):
    write_checkpoints(tmp_path, {"checkpoint_1_8.pt": 8, "checkpoint_last.pt": 4, "checkpoint_best.pt": 4})
    with caplog.at_level(logging.WARNING):
        use_newest_whole(str(tmp_path))
    assert updates(tmp_path / "checkpoint_last.pt") == 8 and "checkpoint_1_8.pt" in caplog.text


def test_bits_that_were_changed_are_found(tmp_path):
    write_checkpoints(tmp_path, {"checkpoint_last.pt": 4})
    assert damage(str(tmp_path / "checkpoint_last.pt")) == ""
    use_newest_whole(str(tmp_path))
    content = bytearray((tmp_path / "checkpoint_last.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "checkpoint_last.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="checkpoint_last.pt: .* is damaged; no other checkpoint"):
        use_newest_whole(str(tmp_path))


def test_an_empty_folder_is_a_beginning(tmp_path):
    use_newest_whole(str(tmp_path))
    write_checkpoints(tmp_path, {"checkpoint_best.pt": 4})  # of another run, put there to be started from
    use_newest_whole(str(tmp_path))
    assert not (tmp_path / "checkpoint_last.pt").exists()


def test_a_full_disk_is_told_and_leaves_the_old_checkpoint_whole(tmp_path, command, through):
    kill_at(command(tmp_path), tmp_path, 4)
    size = (tmp_path / "checkpoint_last.pt").stat().st_size
    limited = command(tmp_path, **{"dataset.num_workers": 0})  # a limit on files is one on the memory they share
    last = failure(limited, tmp_path, largest_file=size // 2).strip().splitlines()[-1]
    assert re.search(r"^\S*checkpoint_2_8.pt: cannot be written \(.*make room", last)
    assert updates(tmp_path / "checkpoint_last.pt") == 4 and not list(tmp_path.glob("*.tmp"))
    run(command(tmp_path), tmp_path)
    assert same(end_of(tmp_path), through)


def last_line(command, folder):
    """Of a training that has to fail without a traceback."""
    told = failure(command, folder, errors_alone=True)
    assert "Traceback" not in told
    return told.strip().split("\n")[-1]


def test_errors_before_the_training_are_one_line(tmp_path, command):
    told = last_line(command(tmp_path, **{"task.teacher_path": "/no/such.pt"}), tmp_path)
    assert told == "/no/such.pt: no such file"
    told = last_line(command(tmp_path, **{"checkpoint.restore_file": "/none.pt"}), tmp_path)
    assert told == "checkpoint.restore_file=/none.pt: no such file; correct it, or leave it out"


def test_going_on_from_another_training_is_one_line(tmp_path, command):
    """Of another structure, another criterion, or with no optimizer's state where one belongs."""
    path = tmp_path / "checkpoint_last.pt"
    run(command(tmp_path, **{"optimization.max_update": 2}), tmp_path)
    told = f"{path}: of another model or training than this recipe's"
    assert last_line(command(tmp_path, **{"model.encoder_ffn_embed_dim": 64}), tmp_path).startswith(told)
    state = load(str(path))
    torch.save(dict(state, last_optimizer_state=5), str(path))
    assert last_line(command(tmp_path), tmp_path).startswith(told)
    state["optimizer_history"][-1]["criterion_name"] = "HubertCriterion"
    torch.save(state, str(path))
    assert last_line(command(tmp_path), tmp_path).startswith(told)
