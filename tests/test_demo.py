"""The demo: the whole chain runs once, small, by its own commands, and is not repeated."""

import json
import re
import subprocess
import sys

import pytest
import run as demo_run
import steps
import trial
from steps import histories

from tests.commands import environment, kill_at, run, train_command
from tests.helpers import ROOT, USER_DIR, write_corpus, write_labels


def test_progress_shows_updates_and_validation():
    line = "[x][train_inner][INFO] - epoch 001:     50 / 130 loss=1.297, cosine=0.3, ups=0.71, num_updates=50, lr=0.001"
    assert steps.progress(line) == "  update 50: loss 1.297"
    line = "[x][valid][INFO] - epoch 001 | valid on 'valid' subset | loss 21.9 | uer 25.6 | wer 79.9 | num_updates 100"
    assert steps.progress(line) == "  update 100: validation loss 21.9, WER 79.9"
    assert steps.progress("a warning") == ""


def test_a_teacher_of_ones_own_comes_before_all_that_needs_it(tmp_path):
    out = str(tmp_path)
    steps = demo_run.data_steps(out, 24) + demo_run.teacher_steps(out, 5)
    steps += demo_run.model_steps(out, demo_run.own_teacher(out), 3, 2, ("teacher",))
    history = histories(steps)
    for row in demo_run.ROWS:
        assert "--config-name teacher" in history[f"decode-{row}"]


def test_students_without_transcripts_learn_from_the_fine_tuned_teacher(tmp_path):
    out = str(tmp_path)
    steps = demo_run.data_steps(out, 24) + demo_run.model_steps(out, demo_run.TEACHER, 3, 2, transcripts=False)
    history = histories(steps)
    for row in demo_run.STUDENTS:
        (step,) = (step for step in steps if step.name == f"ctc-{row}")
        (command,) = step.commands
        assert f"task.teacher_path={out}/ctc-teacher/checkpoint_best.pt" in command and "=labelled" not in command
        assert "loss=ctc_distillation" in command and "task.unlabelled=[train]" in command
        assert f"checkpoint.save_dir={out}/ctc-teacher " in history[step.name]


@pytest.mark.slow
def test_a_small_trial_ends_in_a_table(tmp_path):
    command = [sys.executable, str(ROOT / "recipes" / "demo" / "trial.py"), "--out", str(tmp_path), "--train", "24"]
    command += ["--labels", "8", "--seeds", "3", "--updates", "2", "2"]  # into OUT/cells
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows] == [f"| {name}" for name in ("row", "teacher", *trial.ROWS)]
    assert rows[0][1] == "8 transcripts" and all(float(row[1]) >= 0 for row in rows[1:])
    for name in ("teacher", *trial.ROWS):
        cell = json.loads((tmp_path / "cells" / name / "3-8.json").read_text())
        assert cell["parameters"] > 0 and str(tmp_path) not in "".join(cell["commands"])
    again = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert "7 of 7 cells are there" in again.stdout and "$ " not in again.stdout


def test_another_file_in_the_teachers_place_is_refused(tmp_path, monkeypatch):
    other = tmp_path / "hubert.pt"
    for content in (None, b"another"):
        if content:
            other.write_bytes(content)
        monkeypatch.setattr(demo_run, "TEACHER", str(other))
        with pytest.raises(SystemExit, match=f"^{other}: not the file of its card .*--teacher train$"):
            demo_run.check_shipped()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of a small demo, and what the second call of it printed."""
    out = tmp_path_factory.mktemp("demo")
    command = [sys.executable, str(ROOT / "recipes" / "demo" / "run.py"), "--out", str(out)]
    command += ["--train", "24", "--updates", "2"]
    printed = []
    for _ in range(2):
        done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout[-4000:]
        printed.append(done.stdout)
    return out, printed


@pytest.mark.slow
def test_demo_gives_four_rows_of_all_utterances(demo):
    out, printed = demo
    rows = json.loads((out / "results.json").read_text())
    assert [row["name"] for row in rows] == ["teacher", "distilled", "distilled-fbank", "undistilled"]
    lines = len((out / "data" / "test.tsv").read_text().splitlines()) - 1
    for row in rows:
        assert row["utterances"] == row["utterances_scored"] == lines == 10
        assert row["wer"] >= 0 and row["rtf"] > 0
        assert row["name"] in printed[0]
    assert rows[1]["parameters"] == rows[3]["parameters"] < rows[0]["parameters"] / 4
    first, *_, last = printed[0].strip().splitlines()
    assert re.fullmatch("About 1 minute on two cores;.*", first) and last.startswith("Next: ")
    assert (out / "wer_vs_size.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_killed_teacher_goes_on(tmp_path):
    data = write_corpus(tmp_path / "data", {"train": [9000, 12000, 16000, 20000], "valid": [9000]})
    write_labels(data, ["train", "valid"], rate=100)
    overrides = {
        "common.user_dir": USER_DIR,
        "common.log_interval": 1,
        "task.data": data,
        "checkpoint.save_dir": tmp_path,
        "checkpoint.save_interval_updates": 2,
        "optimization.max_update": 4,
        "model.encoder_layers": 1,
    }
    command = train_command("demo", "teacher", overrides)
    kill_at(command, tmp_path, 2)
    output = run(command, tmp_path)
    assert re.search(r"Loaded checkpoint .*checkpoint_last.pt \(epoch \d @ 2 updates\)", output)
    assert "num_updates: 4 >= max_update: 4" in output


@pytest.mark.slow
def test_demo_is_not_done_twice(demo):
    _, printed = demo
    assert printed[0].count("$ ") == 16 and printed[1].count("$ ") == 0
    assert printed[1].count("done before") == printed[0].count(" took ") == 16


@pytest.mark.slow
def test_undistilled_gets_the_updates_of_both_phases(demo):
    out, _ = demo
    log = (out / "logs" / "ctc-undistilled.log").read_text()
    assert "num_updates: 4 >= max_update: 4" in log
