"""Cells of the study: kept under version control, made again where their commands change; means and differences."""

import json
import math
import os
import statistics

import numpy as np
import pytest
import study_cells
import trial
from steps import Step
from study_statistics import Mean, difference, mean_of, of_rows, residual

from distill_user_dir.student import load_student
from tests.helpers import ROOT


@pytest.fixture
def teacher(tmp_path):
    (tmp_path / "teacher.pt").write_bytes(b"one")
    return str(tmp_path / "teacher.pt")


def test_a_cell_is_made_again_where_its_commands_or_its_teacher_have_changed(tmp_path, teacher):
    out = str(tmp_path / "out")
    steps = [Step("a", [f"train {out}/a {ROOT}/recipes/x.yaml"], None), Step("b", [f"decode {out}/a"], None, ("a",))]
    commands = study_cells.commands_of(study_cells.histories(steps)["b"], out)
    assert commands == ["train OUT/a recipes/x.yaml", "decode OUT/a"]
    target = study_cells.target_of(str(tmp_path), "row", 1, 100, "b")
    assert study_cells.missing([target], steps, out, teacher) == [target]
    study_cells.write(target.path, {"commands": commands, "teacher": study_cells.sha256(teacher)})
    assert study_cells.missing([target], steps, out, teacher) == []
    assert list(study_cells.there([target], steps, out, teacher)) == [("row", 1, 100)]
    moved = [step._replace(commands=[command.replace(out, "/other") for command in step.commands]) for step in steps]
    assert study_cells.missing([target], moved, "/other", teacher) == []  # a study goes on in another folder
    longer = [steps[0]._replace(commands=[f"{steps[0].commands[0]} --more"]), steps[1]]
    assert study_cells.missing([target], longer, out, teacher) == [target]
    (tmp_path / "teacher.pt").write_bytes(b"another")
    assert study_cells.missing([target], steps, out, teacher) == [target]
    assert study_cells.there([target], steps, out, teacher) == {}


def test_what_is_no_cell_is_named(tmp_path, teacher):
    target = study_cells.target_of(str(tmp_path), "row", 1, 100, "a")
    os.makedirs(tmp_path / "row")
    for content in ("<<<<<<< HEAD", "[]"):
        (tmp_path / "row" / "1-100.json").write_text(content)
        with pytest.raises(SystemExit, match="^.*/row/1-100.json: no cell of the study"):
            study_cells.missing([target], [Step("a", ["true"], None)], str(tmp_path), teacher)


def test_a_cell_holds_all_that_led_to_it_and_is_written_as_soon_as_it_is_decoded(
    tmp_path, distilled, teacher, monkeypatch
):
    out, results = tmp_path / "out", tmp_path / "out" / "model" / "test"
    scored = {"wer": 12.5, "wer_interval": [10, 15], "cer": 5.0, "utterances": 2, "rtf": 0.01}
    lines = ["word_errors\twords\tref", "1\t5\tONE", '0\t3\t"TWO']
    script = tmp_path / "decode.py"
    script.write_text(
        f"import os\nos.makedirs({str(results)!r}, exist_ok=True)\nos.symlink({distilled!r}, {str(results)!r} + "
        f"'/../checkpoint_best.pt')\nopen({str(results)!r} + '/wer.json', 'w').write({json.dumps(scored)!r})\n"
        f"open({str(results)!r} + '/utterances.tsv', 'w').write({chr(10).join(lines)!r})\n"
    )
    steps = [Step("decode", [f"python {script}"], str(results)), Step("other", ["false"], None)]
    target = study_cells.target_of(str(tmp_path / "cells"), "row", 1, 100, "decode")
    monkeypatch.setattr(study_cells, "version", lambda: "first")
    study_cells.run([target], steps, str(out), teacher, jobs=1)  # what no cell needs is not run
    cell = study_cells.read(target.path)
    assert cell["wer"] == 12.5 and cell["words"] == 8
    assert cell["parameters"] == sum(p.numel() for p in load_student(distilled, folded=False).parameters())
    assert cell["teacher"] == study_cells.sha256(teacher) and set(cell["seconds"]) == {"decode"}
    os.remove(target.path)
    script.unlink()
    monkeypatch.setattr(study_cells, "version", lambda: "second")
    study_cells.run([target], steps, str(out), teacher, jobs=1)  # decoded before: the cell is written anew
    cell = study_cells.read(target.path)
    assert cell["wer"] == 12.5 and cell["code"] == "first"


def test_recipes_are_told_by_their_hashes():
    history = "a --config-dir x # configs 12\nb\nc # configs 34\nd # configs 12\n"
    assert study_cells.recipes_of(history) == ["12", "34"]


def test_means_by_hand():
    found = mean_of([1.0, 2.0, 3.0])  # t of 2 degrees of freedom, 97.5%: 4.3027; deviation 1
    assert found == Mean(2.0, 1.0, pytest.approx(4.3027 / 3**0.5, abs=1e-4), 3)
    assert mean_of([]) is None and mean_of([5.0]) == Mean(5.0, None, None, 1)


def test_a_difference_of_two_rows_is_the_paired_t_test():
    own, base = {1: 22.0, 2: 31.0, 3: 19.0}, {1: 25.0, 2: 33.0, 3: 24.0}
    wer = {**{("own", seed): rate for seed, rate in own.items()}, **{("base", seed): base[seed] for seed in base}}
    wer.update({("own", 4): 90.0, ("base", 5): 1.0})  # seeds of one row alone: neither mean nor scatter
    found = difference(wer, "own", "base", residual(wer))
    logs = [math.log(own[seed] / base[seed]) for seed in own]
    half = 4.3027 * statistics.stdev(logs) / 3**0.5
    expected = [100 * (math.exp(statistics.mean(logs) + side) - 1) for side in (0, -half, half)]
    assert found == (*(pytest.approx(value, abs=0.01) for value in expected), 3)
    assert difference(wer, "own", "absent", residual(wer)) is None and residual({}) == (0.0, 0)
    alone = {("own", 1): 10.0, ("base", 1): 20.0}
    found = difference(alone, "own", "base", residual(alone))
    assert found == (pytest.approx(-50.0), None, None, 1) and found.verdict == "undecided"


def test_all_rows_of_a_pool_tell_the_scatter():
    noise = np.random.default_rng(0).normal(0, 0.1, (8, 5))
    logs = np.log(30) + np.linspace(0, 1, 8)[:, None] + np.linspace(0, 0.5, 5)[None] + noise
    wer = {(f"row{row}", seed): math.exp(logs[row, seed]) for row in range(8) for seed in range(5)}
    centred = logs - logs.mean(0) - logs.mean(1, keepdims=True) + logs.mean()  # of randomised blocks, by hand
    deviation = ((centred**2).sum() / 28) ** 0.5
    assert residual(wer) == (pytest.approx(deviation), 28)
    assert residual(of_rows({**wer, ("other", 1): 50.0}, [f"row{row}" for row in range(8)])) == residual(wer)
    found = difference(wer, "row7", "row0", residual(wer))
    assert found.verdict == "worse" and difference(wer, "row0", "row7", residual(wer)).verdict == "better"
    mean, half = (logs[7] - logs[0]).mean(), 2.0484 * deviation * (2 / 5) ** 0.5  # t of 28 degrees of freedom
    assert found.low == pytest.approx(100 * math.expm1(mean - half), abs=0.01)


def test_the_trials_cells_are_those_of_its_rows():
    targets = trial.targets("cells", [100], [1, 2])
    assert len(targets) == 2 * (1 + len(trial.ROWS))
    steps = {step.name for seed in (1, 2) for step in trial.budget_steps("OUT", seed, 100, 6, 6)}
    assert {target.step for target in targets} <= steps
