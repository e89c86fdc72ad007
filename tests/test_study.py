"""The study: its plan and its report; the steps themselves are the demo's."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import run as demo_run
import spread
import study
import study_cells
import study_report
from study_plan import LAYERS, ROWS, STUDENTS, Plan
from study_questions import QUESTIONS, STAGES, cells

from distill_user_dir.profiling.rows import load_row, parameters
from tests.commands import environment
from tests.helpers import RECIPES, ROOT, recipe
from tests.test_recipes import merged


@pytest.fixture
def plan(tmp_path):
    return Plan(str(tmp_path), distil=90, ctc=(150, 50, 30))


def steps_of(plan, rows=ROWS, seeds=(1, 2, 3, 4, 5), chosen=None):
    wanted = cells(rows, seeds, plan.budgets)
    targets, steps = study.study(plan, "cells", wanted, {**dict.fromkeys(ROWS, 0.002), **(chosen or {})})
    return targets, {step.name: step for step in steps}, [step.name for step in steps]


def test_each_step_is_planned_once_and_after_what_it_needs(plan):
    targets, steps, names = steps_of(plan)
    assert len(set(names)) == len(names)
    for i, name in enumerate(names):
        assert set(steps[name].needs) <= set(names[:i])
        (read,) = re.findall(r"dataset.train_subset=(\w+)", " ".join(steps[name].commands)) or [""]
        if read.startswith("train_"):  # what reads a split comes after the step that writes it
            labelled, seed = read.split("_")[1:]
            assert f"subset-{labelled}-{seed}" in steps[name].needs
        for layer in re.findall(r"km[246]\b", " ".join(steps[name].commands)) if name.startswith("distil-") else []:
            assert layer in steps[name].needs
    assert len(targets) == len({target.path for target in targets}) and {target.step for target in targets} <= set(
        names
    )
    assert len(targets) == sum((2 + stage.all_budgets) * len(stage.rows) * len(stage.seeds) for stage in STAGES)


def test_every_row_of_a_question_is_run_with_the_seeds_of_its_reference():
    known = {}
    for stage in STAGES:
        for row in stage.rows:
            known.setdefault(row, set()).update(stage.seeds)
    assert set(known) == set(ROWS)
    for question in QUESTIONS.values():
        for row, reference in question.pairs:
            assert {1, 2, 3} <= known[row] & known[reference]
    for row, reference in (("shallow_wide-reg", "deep_thin-reg"), ("deep_thin-fbank", "deep_thin-reg")):
        assert known[row] == known[reference] == {1, 2, 3, 4, 5}


def test_rows_of_a_seed_share_their_labels_and_their_seed(plan):
    _, steps, _ = steps_of(plan, seeds=[2])
    tuned = [step.commands[0] for name, step in steps.items() if name.startswith("ctc-") and name.endswith("-100")]
    assert len(tuned) == len(ROWS)
    assert all("dataset.train_subset=train_100_2 " in command and "common.seed=2 " in command for command in tuned)
    assert steps["subset-1200-2"].commands == []
    assert "train_100_2 --utterances 100 --seed 2" in steps["subset-100-2"].commands[0]
    assert "dataset.train_subset=train " in steps["ctc-teacher-2-1200"].commands[0]


def test_lengths_rates_and_stages(plan):
    chosen = {"deep_thin-reg": 0.004, "shallow_wide-reg": 0.001, "deep_thin-undistilled": 0.005}
    _, steps, _ = steps_of(plan, seeds=[1], chosen=chosen)
    for kind, updates in (("", 90), ("-short", 30), ("-long", 270)):
        for structure, rate in (("deep_thin", 0.004), ("shallow_wide", 0.001)):
            command = steps[f"distil-{structure}-reg{kind}-1"].commands[0]
            assert f"optimization.max_update={updates} " in command and f"optimization.lr=[{rate}]" in command
    assert "optimization.lr=[0.002]" in steps["distil-shallow_wide-codebook-soft-1"].commands[0]  # its own
    staged, direct = (steps[f"distil-deep_thin-fbank{kind}-1"] for kind in ("", "-direct"))
    assert "fbank" in staged.needs and "fbank" in direct.needs and "fbank" not in steps["distil-deep_thin-reg-1"].needs
    assert "criterion.frontend_updates=22" in staged.commands[0]  # a fourth of 90
    assert "criterion.frontend_updates=0" in direct.commands[0]
    undistilled = steps["ctc-deep_thin-undistilled-1-100"].commands[0]
    assert "optimization.max_update=120 " in undistilled  # 90 and 30
    assert "optimization.max_update=300 " in steps["ctc-teacher-1-1200"].commands[0]
    assert "optimization.max_update=50 " in steps["ctc-deep_thin-reg-1-400"].commands[0]
    assert "common.seed=1" in undistilled and "no_pretrained_weights=true" in undistilled
    assert "feature_grad_mult=0.0" not in undistilled  # its CNN has learned nothing yet
    assert "optimization.lr=[0.005]" in undistilled and "students/untrained-1/" in undistilled


def test_deep_and_thin_students_of_a_seed_begin_with_the_same_transformer(plan):
    _, steps, _ = steps_of(plan, seeds=[2])
    for row in STUDENTS:
        step = steps[f"distil-{row}-2"]
        shared = "init_from_student=" + steps["distil-untrained-2"].folder + "/checkpoint_last.pt " in step.commands[0]
        assert shared == ("distil-untrained-2" in step.needs) == row.startswith("deep_thin")
    assert "model.init_layers=[]" in steps["distil-shallow_wide-reg-random-2"].commands[0]


@pytest.mark.parametrize("row", STUDENTS)
def test_every_row_composes(row):
    cfg = recipe("distill", "laptop", *STUDENTS[row].options.replace("{}", "a.npy,b.npy").split(), defaults=False)
    criterion = merged(cfg)["criterion"]
    loss = re.sub("^(deep_thin|shallow_wide)-|-(short|long|direct|random)$", "", row).replace("fbank", "reg")
    assert (cfg.model.frontend == "fbank") == ("fbank" in row)
    assert (criterion.regression_weight > 0) == (loss != "hubert" and not loss.endswith("alone"))
    assert (criterion.discriminative_weight > 0) == (loss != "reg")
    if loss.startswith(("codebook", "linear")) and "alone" not in loss:
        assert loss == f"{criterion.discriminative_head}-{criterion.discriminative_target}"
    assert (criterion.student_temperature == 1.0) == (str(criterion.discriminative_head) == "linear")
    sets = len(LAYERS) if loss.startswith(("layers", "last")) else 1
    if sets > 1 and "alone" not in loss:  # together they weigh as one
        assert criterion.discriminative_weight * sets == pytest.approx(1, rel=1e-3)
    if str(criterion.discriminative_target) == "kmeans":
        assert len(cfg.task.labels) == sets and cfg.task.label_rate == 50
    assert list(criterion.discriminative_layers) == (list(LAYERS) if loss.startswith("layers") else [])


def test_students_of_the_study_are_of_equal_size():
    sizes = []
    for name in ("demo_deep_thin", "demo_shallow_wide"):
        sizes.append(sum(parameters(load_row(str(RECIPES / "distill" / "student" / f"{name}.yaml"), 192)).values()))
    assert abs(sizes[0] / sizes[1] - 1) < 0.01


def tuning_cells(plan, folder, rows, wers):
    """Cells of these word error rates, as if they had been made."""
    targets, steps = study.tuning(plan, folder, rows)
    led, teacher = study_cells.histories(steps), study_cells.sha256(demo_run.TEACHER)
    for target, wer in zip(targets, wers):
        commands = study_cells.commands_of(led[target.step], plan.out)
        study_cells.write(target.path, {"wer": wer, "commands": commands, "teacher": teacher})
    return targets, {step.name: step for step in steps}


def test_each_row_is_tuned_by_itself_on_the_validation_set_with_a_seed_of_its_own(tmp_path, plan):
    rows = ["deep_thin-reg-long", "deep_thin-reg", "deep_thin-undistilled", "teacher"]
    targets, steps = tuning_cells(plan, str(tmp_path), rows, [])
    assert [target.key for target in targets] == [
        (f"{row}@{rate}", 0, 400) for row in ("deep_thin-reg", "deep_thin-undistilled") for rate in study.RATES
    ]
    for rate in study.RATES:
        student, tuned = (steps[f"{kind}-deep_thin-reg@{rate}"] for kind in ("distil", "ctc"))
        assert f"optimization.lr=[{rate}]" in student.commands[0] and "max_update=30 " in student.commands[0]
        assert "common.seed=0" in student.commands[0] and "common.seed=0" in tuned.commands[0]
        assert "dataset.train_subset=train_400_0 " in tuned.commands[0] and "subset-400-0" in tuned.needs
        assert "optimization.max_update=50 " in tuned.commands[0]
        assert "dataset.gen_subset=valid" in steps[f"decode-deep_thin-reg@{rate}"].commands[0]
        undistilled = steps[f"ctc-deep_thin-undistilled@{rate}"].commands[0]
        assert f"optimization.lr=[{rate}]" in undistilled and "max_update=80 " in undistilled
    assert {row for row in STUDENTS if STUDENTS[row].like == "deep_thin-linear-kmeans"} == {
        f"deep_thin-{loss}"
        for loss in ("linear-soft", "linear-hard", "linear-kmeans", "last-kmeans", "layers-kmeans", "layers-distances")
    }
    assert all(STUDENTS[STUDENTS[row].like].like == STUDENTS[row].like for row in STUDENTS)


def test_learning_rates_are_the_recipes_unless_another_is_clearly_better(tmp_path, plan):
    folder, rows = str(tmp_path), ["deep_thin-reg", "deep_thin-fbank", "deep_thin-hubert"]
    targets, _ = tuning_cells(plan, folder, rows, (30.0, 40.0, 35.0, 20.0, 25.0))  # two of three of the second row
    assert study.rates(plan, folder, rows) == {"deep_thin-reg": 0.001}
    stray = targets[0].path.replace("@0.001", "@0.1")
    study_cells.write(stray, {"wer": 1.0, "commands": [], "teacher": ""})
    assert study.rates(plan, folder, rows) == {"deep_thin-reg": 0.001}
    tuning_cells(plan, folder, rows, (36.1, 40.0, 45.0))  # less than a tenth: the recipes' stays
    assert study.rates(plan, folder, rows) == {"deep_thin-reg": 0.002}
    assert study.rates(plan._replace(distil=120), folder, rows) == {}  # cells of other commands
    wanted, _ = study.study(plan, folder, cells(rows, [1], [100]), study.rates(plan, folder, rows))
    assert [target.key[0] for target in wanted] == ["deep_thin-reg"]  # the others wait for their rates


def cell(wer, **others):
    shared = {"wer_interval": [wer - 1, wer + 1], "words": 10000, "parameters": 1420000, "rtf": 0.01, "code": "abc"}
    return {"wer": wer, **shared, "machine": "x86_64, 2 cores", "commands": ["fairseq-hydra-train <x>"], **others}


def test_report_stands_on_its_own(tmp_path, capsys):
    wers = {"deep_thin-reg": (30, 32, 31, 60), "deep_thin-fbank": (25, 27.5, 26), "shallow_wide-reg": (31, 31.5)}
    found = {(row, seed, 100): cell(wer) for row, values in wers.items() for seed, wer in enumerate(values, 1)}
    transcripts = {(row, 1, 100): cell(wer) for row, wer in (("ctc", 48.0), ("words", 36.0))}
    study_report.write(str(tmp_path), Plan(str(tmp_path)), {}, found, transcripts)
    page, printed = (tmp_path / "report.html").read_text(), capsys.readouterr().out
    assert "11 results are there" in page and "http" not in page and "&lt;x&gt;" in page
    assert page.count("data:image/png;base64,iVBOR") == 4
    assert {path.stem for path in tmp_path.glob("*.png")} == {"curve", "Q1", "Q3", "Q5"}
    verdicts = {
        "deep_thin-fbank": "-16% (-21 to -10), 3 seeds  better",  # 25 to 30, 27.5 to 32, 26 to 31
        "shallow_wide-reg": "+1% (-6 to +9), 2 seeds  undecided",  # by the scatter of all three rows
        "words": "-25%, 1 seed  undecided",
    }
    for row, verdict in verdicts.items():
        line = next(line for line in printed.splitlines() if re.match(f"{row} +(deep_thin-reg|ctc) ", line))
        assert re.sub("   +", "  ", line).endswith(verdict), line
        assert verdict.split("  ")[0] in page


def test_a_source_of_the_spread_changes_one_thing_alone():
    plan = Plan("OUT", budgets=(1200, 400), distil=6, ctc=(6, 6))
    assert spread.seeds_of("ctc", 3) == {"initialisation": 1, "batches": 1, "ctc": 3, "labelled": 1}
    base, names = spread.tuned_name(plan, "ctc", 1, 400), set()
    for source in spread.SOURCES:
        assert spread.tuned_name(plan, source, 1, 400) == base
        names.add(spread.tuned_name(plan, source, 2, 400))
    assert len(names) == len(spread.SOURCES) and spread.tuned_name(plan, "labelled", 2, 1200) == base[:-3] + "1200"
    steps = {step.name: step for step in spread.plan_steps(plan, [1, 2])}
    begun, other = steps["distil-2-1"].commands[0], steps["distil-1-2"].commands[0]
    assert "common.seed=1 " in begun and "finetune_from_model=OUT/students/init-2/" in begun
    assert "common.seed=2 " in other and "finetune_from_model=OUT/students/init-1/" in other
    assert "OUT/ctc/2-2-2-2-400/checkpoint_last.pt" in steps["last-2-2-2-2-400"].commands[0]


def test_the_deviation_over_test_sets_is_that_of_a_binomial():
    counts = np.array([[1, 1]] * 300 + [[0, 1]] * 700)  # words of which 30% are wrong
    assert spread.of_test_sets(counts, 400) == pytest.approx(100 * (0.3 * 0.7 / 400) ** 0.5, rel=0.05)


def test_an_unknown_row_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["study.py", "--rows", "wide", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        study.main()
    assert "--rows wide: no such row; there are deep_thin-reg," in capsys.readouterr().err


def test_speech_and_teacher_are_the_repositorys(plan):
    _, steps, _ = steps_of(plan, rows=["deep_thin-reg", "teacher"], seeds=[1])
    assert "--train 1200 --valid 200 --test 2300" in steps["speech"].commands[0]
    assert f"task.teacher_path={demo_run.TEACHER} " in steps["distil-deep_thin-reg-1"].commands[0]
    assert f"model.w2v_path={demo_run.TEACHER} " in steps["ctc-teacher-1-100"].commands[0]


@pytest.mark.slow
def test_a_small_study_chooses_its_rates_keeps_its_cells_and_ends_in_a_report(tmp_path):
    command = [sys.executable, str(ROOT / "recipes" / "demo" / "study.py"), "--out", str(tmp_path), "--seeds", "1"]
    command += ["--sizes", "24", "8", "8", "--labels", "24", "12", "--updates", "3", "3", "2"]
    command += ["--rows", "deep_thin-layers-distances"]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    chosen = {}
    for path in tmp_path.glob("cells/rates/*/0-24.json"):
        chosen[path.parent.name.split("@")[1]] = json.loads(path.read_text())["wer"]
    assert len(chosen) == len(study.RATES)
    for labelled in (24, 12):
        made = json.loads(
            (tmp_path / "cells" / "study" / "deep_thin-layers-distances" / f"1-{labelled}.json").read_text()
        )
        (rate,) = re.findall(r"optimization.lr=\[(\S+)\]", next(c for c in made["commands"] if "task.centres" in c))
        assert chosen[rate] == min(chosen.values())
    assert "2 results are there" in (tmp_path / "report.html").read_text()
    again = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert again.stdout.count("$ ") == 0 and "2 of 2 cells are there" in again.stdout
