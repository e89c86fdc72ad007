"""What `python -m distill_user_dir.train` shows: its progress, its result, and fairseq's log where it is asked for."""

import re
import subprocess
import sys

import pytest

from distill_user_dir.checkpoints.loading import load
from tests.commands import environment, failure, listed, run, train_command
from tests.helpers import ROOT, distill_overrides, finetune_overrides

PEOPLE = {"common.log_format": "null"}


@pytest.fixture(scope="module")
def distillation(tmp_path_factory, checkpoints, corpus):
    """The folder of a run and what it printed."""
    folder = tmp_path_factory.mktemp("progress")
    more = {**PEOPLE, "loss": "reg_disc", "optimization.max_update": 4, "common.log_interval": 2}
    more.update({"dataset.validate_interval_updates": 4, "common.tensorboard_logdir": folder / "board"})
    overrides = distill_overrides(checkpoints("tiny"), corpus, folder, **more)
    return folder, run(train_command("distill", "laptop", overrides, surviving=True), folder)


def logged(folder, tag, name):
    """The values of a number in fairseq's lines with this tag, in their order."""
    lines = [line for line in (folder / "train.log").read_text().splitlines() if f"[{tag}]" in line]
    return [float(re.search(rf"\b{name}[ =]([\d.]+)", line).group(1)) for line in lines]


def test_lines_say_what_the_log_says(distillation):
    folder, output = distillation
    lines = [line for line in output.splitlines() if not line.startswith("teacher ")]
    shape = r"loss (\S+), agreement (\S+), \S+ updates/s, \d\d:\d\d left"
    found = [re.fullmatch(rf"update (\d) of 4: {shape}", line) for line in lines[:2]]
    assert [int(match.group(1)) for match in found] == [2, 4]
    for number, name in ((2, "loss"), (3, "agreement")):
        shown = [float(match.group(number)) for match in found]
        assert shown == pytest.approx(logged(folder, "train_inner", name), abs=6e-4)
    valid = re.fullmatch(r"update 4, validation on valid: loss (\S+), agreement (\S+)", lines[2])
    assert float(valid.group(1)) == pytest.approx(logged(folder, "valid", "loss")[0], abs=6e-4)
    assert lines[3].startswith("done in ") and lines[3].endswith(f": {folder}/checkpoint_best.pt") and len(lines) == 4


def test_tensorboard_has_the_same_numbers(distillation):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder, _ = distillation
    for tag in ("train_inner", "valid"):
        found = events.EventAccumulator(str(folder / "board" / tag)).Reload().Scalars("loss")
        assert [one.value for one in found] == pytest.approx(logged(folder, tag, "loss"), abs=6e-4)


def test_a_fine_tuning_shows_the_word_error_rate(tmp_path, distilled, corpus):
    overrides = finetune_overrides(distilled, corpus, tmp_path, **PEOPLE)
    output = run(train_command("finetune", "laptop", overrides, surviving=True), tmp_path)
    shown = re.search(r"update 2, validation on valid: loss \S+, WER (\S+)%", output)
    assert float(shown.group(1)) == pytest.approx(logged(tmp_path, "valid", "wer")[-1], abs=6e-3)


def test_without_a_recipe_the_way_out_is_told(tmp_path):
    told = failure(["python", "-m", "distill_user_dir.train"], tmp_path, errors_alone=True)
    assert told.strip().startswith("no recipe: name one, e.g. --config-dir") and "Traceback" not in told


@pytest.mark.parametrize("module", ["train", "infer", "tune", "results", "profile", "slim"])
def test_help_is_the_usage_text(tmp_path, module):
    command = [sys.executable, "-m", f"distill_user_dir.{module}", "--help"]
    if module == "infer":  # in a process of its own, with the warnings of all its imports
        told = subprocess.check_output(command, env=environment(), stderr=subprocess.STDOUT).decode()
    else:
        told = run(command, tmp_path)
    assert f"python -m distill_user_dir.{module} " in told and "Hydra" not in told and "Warning" not in told


@pytest.mark.slow
def test_neither_a_full_terminal_nor_another_log_ends_a_training(tmp_path, checkpoints, corpus):
    def command(name, **more):
        given = {**PEOPLE, "optimization.max_update": 2, **more}
        given = distill_overrides(checkpoints("tiny"), corpus, tmp_path / name, **given)
        return train_command("distill", "laptop", given, surviving=True)

    with open("/dev/full", "w") as full:
        subprocess.check_call(command("full"), cwd=str(tmp_path), env=environment(), stdout=full)
    run(command("disabled", **{"hydra/job_logging": "disabled"}), tmp_path)
    for name in ("full", "disabled"):
        assert load(str(tmp_path / name / "checkpoint_last.pt"))["optimizer_history"][-1]["num_updates"] == 2


def test_a_decode_shows_its_result_and_its_log_is_a_file(tmp_path, corpus):
    model = ROOT / "tests" / "checkpoints" / "written" / "student_ctc.pt"
    given = {"task.data": corpus, "common_eval.path": model, "dataset.gen_subset": "valid", "common.cpu": "true"}
    given["decoding.results_path"] = tmp_path / "out"
    start = [sys.executable, "-m", "distill_user_dir.infer", "--config-dir", str(ROOT / "recipes" / "decode")]
    told = run([*start, "--config-name", "viterbi", *listed(given)], tmp_path)
    assert len(told.strip().splitlines()) <= 3 and "5 of 5 utterances" in told
    assert "fairseq" in (tmp_path / "out" / "fairseq_infer.log").read_text()
