"""The study: its plan, its estimate and its report; the steps themselves are the demo's."""

import json

import pytest
import study
import study_report
from study_report import Result, Summary

from distill_user_dir.profiling.rows import load_row, parameters
from distill_user_dir.student import load_student
from tests.helpers import RECIPES, recipe
from tests.test_recipes import merged


def plan(out, rows=study.ROWS, seeds=(1, 2, 3), shares=(1, 0.1, 0.01)):
    return study.Plan(str(out), 1200, list(rows), list(seeds), list(shares), 600, 100, 50)


def test_each_step_is_planned_once_and_after_what_it_needs(tmp_path):
    steps = study.study_steps(plan(tmp_path))
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    for i, step in enumerate(steps):
        assert set(step.needs) <= set(names[:i])
    kinds = [name.split("-")[0] for name in names]
    assert kinds.count("teacher") == kinds.count("kmeans") == kinds.count("fbank") == 1
    assert kinds.count("distil") == 12 * 3  # the teacher and the undistilled have none of their own
    assert kinds.count("ctc") == kinds.count("decode") == 14 * 3 * 3
    seeds = [int(name.rsplit("-", 1)[1]) for name in names if name.startswith("decode")]
    assert seeds == sorted(seeds)  # whole seeds first, so that a part of the study can be read


def test_data_and_teacher_are_the_demos(tmp_path):
    demo = study.data_steps(str(tmp_path), 1200) + study.teacher_steps(str(tmp_path), 600)
    steps = study.study_steps(plan(tmp_path))
    assert all(step in steps for step in demo)


def test_budgets_of_a_seed_are_nested_and_the_whole_needs_no_subset(tmp_path):
    steps = {step.name: step for step in study.study_steps(plan(tmp_path))}
    assert steps["subset-1200-2"].commands == []
    assert "train_120_2 --utterances 120 --seed 2" in steps["subset-120-2"].commands[0]
    assert "dataset.train_subset=train_12_3 " in steps["ctc-teacher-12-3"].commands[0]
    assert "dataset.train_subset=train " in steps["ctc-teacher-1200-1"].commands[0]


@pytest.mark.parametrize("row", study.STUDENTS)
def test_every_row_composes(row):
    cfg = recipe("distill", "laptop", *study.STUDENTS[row].split(), defaults=False)
    sections = merged(cfg)
    criterion = sections["criterion"]
    assert (cfg.model.frontend == "fbank") == ("fbank" in row)
    loss = "reg" if "fbank" in row else row.split("-", 1)[1]
    assert (criterion.regression_weight > 0) == (loss != "kmeans")
    assert (criterion.discriminative_weight > 0) == (loss != "reg")
    if "-" in loss:
        assert loss == f"{criterion.discriminative_head}-{criterion.discriminative_target}"
    assert list(cfg.task.labels) == (["km"] if "kmeans" in loss else [])


def test_students_of_the_study_are_of_equal_size():
    sizes = []
    for name in ("demo_deep_thin", "demo_shallow_wide"):
        sizes.append(sum(parameters(load_row(str(RECIPES / "distill" / "student" / f"{name}.yaml"), 192)).values()))
    assert abs(sizes[0] / sizes[1] - 1) < 0.01


def test_fbank_students_have_a_first_stage_or_none(tmp_path):
    steps = {step.name: step for step in study.study_steps(plan(tmp_path))}
    staged, direct = (steps[f"distil-deep_thin-fbank{kind}-1"] for kind in ("", "-direct"))
    assert staged.needs == direct.needs == ("teacher", "fbank")
    assert "criterion.frontend_updates=25" in staged.commands[0]  # a fourth of 100
    assert "criterion.frontend_updates=0" in direct.commands[0]
    waveform = [step.name for step in study.study_steps(plan(tmp_path, rows=["deep_thin-reg"]))]
    assert "fbank" not in waveform


def test_the_reference_comes_first_and_equal_budgets_are_one(tmp_path):
    p = plan(tmp_path, shares=(1, 0.003, 0.002))
    assert p.budgets() == [1200, 4]
    names = [step.name for step in study.study_steps(p)]
    assert [name for name in names if name.startswith("distil")][0] == "distil-deep_thin-reg-1"
    assert len(set(names)) == len(names)


def test_estimate_is_a_guess_by_updates_times_what_others_of_the_kind_took_of_theirs(tmp_path):
    p = plan(tmp_path, rows=["deep_thin-reg", "deep_thin-undistilled"], seeds=[1, 2])  # distil 100, ctc 50 updates
    left = [study.distil_step(p, "deep_thin-reg", 2)] + study.ctc_steps(p, "deep_thin-undistilled", 2, 12)
    distil, ctc, undistilled, decode = 12 + 0.5 * 100, 12 + 0.25 * 50, 12 + 0.25 * 150, 14
    assert study.predicted(p, left, {}) == distil + undistilled + decode
    measured = {"distil-deep_thin-reg-1": 2 * distil, "ctc-deep_thin-reg-12-1": ctc, "ctc-deep_thin-reg-120-1": 2 * ctc}
    assert study.predicted(p, left, measured) == pytest.approx(2 * distil + 1.5 * undistilled + decode)


RESULTS = [
    Result("deep_thin-reg", 1, 12, 50.0, (45.0, 55.0), 20.0, 150, 0.01),
    Result("deep_thin-reg", 2, 12, 60.0, (55.0, 65.0), 25.0, 150, 0.01),
    Result("deep_thin-kmeans", 1, 12, 47.0, (42.0, 52.0), 19.0, 150, 0.01),
    Result("deep_thin-kmeans", 2, 12, 55.0, (50.0, 60.0), 22.0, 150, 0.01),
    Result("deep_thin-kmeans", 3, 12, 90.0, (85.0, 95.0), 50.0, 150, 0.01),
    Result("deep_thin-reg", 1, 120, 30.0, (25.0, 35.0), 10.0, 150, 0.01),
]


def test_means_deviations_and_paired_differences_by_hand():
    assert study_report.summarise([50.0, 60.0]) == Summary(55.0, pytest.approx(50**0.5), 2)
    assert study_report.summarise([5.0]) == Summary(5.0, None, 1) and study_report.summarise([]) is None
    found = study_report.differences(RESULTS, "deep_thin-kmeans", 12)  # -3 and -5; seed 3 has no reference
    assert found == Summary(-4.0, pytest.approx(2**0.5), 2)
    assert study_report.differences(RESULTS, "deep_thin-kmeans", 120) is None


def test_table_says_what_is_missing(tmp_path):
    p = plan(tmp_path, rows=["deep_thin-reg", "deep_thin-kmeans", "teacher"], shares=[0.1, 0.01])
    lines = study_report.table(p, RESULTS, {"deep_thin-reg": 1420000})
    assert lines[1] == ["deep_thin-reg", "1.42 M", "100", "30.0 (1 of 3)", "55.0 ± 7.1 (2 of 3)", "", ""]
    assert lines[2] == ["deep_thin-kmeans", "", "100", "not run", "64.0 ± 22.9", "", "-4.0 ± 1.4 (2 of 3)"]
    assert lines[3][2:5] == ["", "not run", "not run"]


def test_report_stands_on_its_own(tmp_path, distilled, capsys):
    p = plan(tmp_path, rows=["deep_thin-reg", "deep_thin-kmeans"], seeds=[1, 2], shares=[0.01])
    for row, seed, wer in (("deep_thin-reg", 1, 50.0), ("deep_thin-reg", 2, 60.0), ("deep_thin-kmeans", 1, 47.0)):
        folder = tmp_path / "study" / f"{row}-{seed}" / "ctc-12"
        (folder / "test").mkdir(parents=True)
        scored = {"wer": wer, "wer_interval": [wer - 5, wer + 5], "cer": 20.0, "utterances": 150, "rtf": 0.01}
        (folder / "test" / "wer.json").write_text(json.dumps(scored))
        (folder / "checkpoint_best.pt").symlink_to(distilled)
    study_report.write(p, study.study_steps(p))
    page = (tmp_path / "study" / "report.html").read_text()
    assert "3 of 4 results" in page and "data:image/png;base64,iVBOR" in page and "http" not in page
    assert "55.0 ± 7.1" in page and "-3.0" in page and "600 updates" in page
    assert "--config-name laptop" in page  # the commands
    content = json.loads((tmp_path / "study" / "results.json").read_text())
    assert [result["wer"] for result in content["results"]] == [50.0, 47.0, 60.0]
    size = sum(parameter.numel() for parameter in load_student(distilled, folded=False).parameters())
    assert f"{size / 1e6:.2f} M" in capsys.readouterr().out
    assert (tmp_path / "study" / "wer_vs_labels.png").read_bytes().startswith(b"\x89PNG")


def test_unknown_rows_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["study.py", "--rows", "wide", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="--rows wide: no such row; there are deep_thin-reg"):
        study.main()


def test_dry_run_tells_the_time_and_runs_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        "sys.argv", ["study.py", "--rows", "*-reg", "--seeds", "1", "--out", str(tmp_path), "--dry-run"]
    )
    study.main()
    printed = capsys.readouterr().out
    assert "0 of 24 steps done" in printed and "minutes left" in printed and "distil-shallow_wide-reg-1: " in printed
    assert not list((tmp_path / "logs").iterdir())
