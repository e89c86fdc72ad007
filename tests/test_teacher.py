"""The HuBERT of this repository: the file is its card's, fairseq loads it, and its making runs from speech to table."""

import re
import subprocess
import sys

import pytest
import run as demo_run
import teacher
from fairseq import checkpoint_utils

from distill_user_dir.checkpoints.hubert import hubert_in
from tests.commands import environment
from tests.helpers import ROOT


def loaded_by_fairseq(path):
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], arg_overrides={"data": str(ROOT)})
    return models[0], task


def test_the_shipped_teacher_is_the_one_of_its_card_and_loads_in_fairseq():
    demo_run.check_shipped()
    model, task = loaded_by_fairseq(demo_run.TEACHER)
    assert 3.0e6 <= sum(parameter.numel() for parameter in model.parameters()) <= 3.9e6
    assert len(task.dictionaries[0]) == teacher.CLUSTERS[2] + 4
    found = hubert_in(demo_run.TEACHER)
    assert {str(weight.dtype) for weight in found.state.values()} == {"torch.float16"}
    content = open(demo_run.TEACHER, "rb").read()
    assert len(content) <= 8e6 and not re.search(rb"\W/(work|data|root|home)/", content)


@pytest.mark.slow
def test_a_small_teacher_from_speech_to_its_table(tmp_path):
    command = [sys.executable, str(ROOT / "recipes" / "demo" / "teacher.py"), "--out", str(tmp_path)]
    command += ["--train", "20", "--updates", "2", "2", "2"]
    printed = [
        subprocess.run(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    assert all(done.returncode == 0 for done in printed), printed[0].stdout[-4000:]
    first, second = (done.stdout for done in printed)
    assert " took " in first and " took " not in second
    rows = [line for line in second.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [row.split()[1] for row in rows] == ["20", "2"]
    assert all(len(re.findall(r"\d \(\d+\.\d to \d+\.\d\)", row)) == len(teacher.TESTS) for row in rows)
    model, _ = loaded_by_fairseq(tmp_path / "hubert_demo.pt")
    assert model.label_embs_concat.shape[0] == teacher.CLUSTERS[2] + 4
    assert str(tmp_path).encode() not in (tmp_path / "hubert_demo.pt").read_bytes()
    judged = ["--judge", str(tmp_path / "hubert_demo.pt"), "--out", str(tmp_path / "judged"), *command[4:]]
    done = subprocess.run([*command[:2], *judged], env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    assert "iteration1" not in done.stdout and [row for row in done.stdout.splitlines() if row in rows] == rows


def test_a_teacher_to_judge_has_to_be_there(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["teacher.py", "--judge", "nothing.pt"])
    with pytest.raises(SystemExit):
        teacher.main()
    assert "nothing.pt: no such file" in capsys.readouterr().err
