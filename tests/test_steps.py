"""Steps of the demo and the study: resumed, not repeated, shared, and run side by side."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
from steps import Runner, Step, histories

from tests.helpers import RECIPES


def appending(path, *words):
    """A command that adds a line to a file."""
    code = f"open({str(path)!r}, 'a').write({' '.join(words)!r} + chr(10))"
    return f'"{sys.executable}" -c "{code}"'


def run(steps, folder, jobs=1, after=lambda step: None):
    Runner(steps, str(folder), str(folder), jobs).run(after)


def test_done_steps_are_skipped_and_changed_ones_begin_anew(tmp_path):
    log, folder = tmp_path / "log", tmp_path / "made"

    def chain(second):
        first = Step("first", [appending(log, "first")], None)
        return [first, Step("second", [appending(log, second)], str(folder), ("first",))]

    run(chain("old"), tmp_path)
    run(chain("old"), tmp_path)
    assert log.read_text().split() == ["first", "old"]
    folder.mkdir()
    run(chain("new"), tmp_path)
    assert log.read_text().split() == ["first", "old", "new"]
    assert not folder.exists()  # what the old command had made


def test_what_a_killed_change_of_plan_has_replaced_is_not_done(tmp_path):
    log = tmp_path / "log"
    run([Step("one", [appending(log, "old")], None)], tmp_path)
    with pytest.raises(SystemExit):
        run([Step("one", [f'"{sys.executable}" -c "raise SystemExit(1)"'], None)], tmp_path)
    run([Step("one", [appending(log, "old")], None)], tmp_path)
    assert log.read_text().split() == ["old", "old"]


def test_only_what_needs_a_changed_step_is_done_again(tmp_path):
    log = tmp_path / "log"

    def tree(left):
        return [
            Step("root", [appending(log, "root")], None),
            Step("left", [appending(log, left)], None, ("root",)),
            Step("right", [appending(log, "right")], None, ("root",)),
            Step("leaf", [appending(log, "leaf")], None, ("left",)),
        ]

    run(tree("left"), tmp_path)
    run(tree("other"), tmp_path)
    assert log.read_text().split() == ["root", "left", "right", "leaf", "other", "leaf"]
    assert "right" not in histories(tree("left"))["leaf"] and "root" in histories(tree("left"))["leaf"]


def test_commands_have_the_code_of_their_root_before_any_other(tmp_path, monkeypatch):
    """Beside a checkout that an editable install names."""
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(f"import os\nopen({str(log)!r}, 'w').write(os.environ['PYTHONPATH'])\n")
    run([Step("one", [f'"{sys.executable}" {script}'], None)], tmp_path)
    assert log.read_text() == f"{tmp_path}{os.pathsep}elsewhere"


def test_a_step_that_wants_all_cores_runs_by_itself(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    log, script = tmp_path / "log", tmp_path / "script.py"
    script.write_text(
        "import os, sys, time\n"
        f"def say(*words): print(*words, file=open({str(log)!r}, 'a'))\n"
        "say(sys.argv[1], 'begins'); time.sleep(0.3)\n"
        "say(sys.argv[1], 'ends', os.environ.get('OMP_NUM_THREADS'))\n"
    )
    commands = {name: [f'"{sys.executable}" {script} {name}'] for name in "abc"}
    run([Step(name, commands[name], None, (), alone=name == "b") for name in "abc"], tmp_path, jobs=2)
    lines = log.read_text().splitlines()
    assert "b begins" in lines and lines[lines.index("b begins") + 1] == "b ends None"
    assert "a begins" in lines[:2] and "c begins" in lines[:2]
    assert f"a ends {max(1, os.cpu_count() // 2)}" in lines


def test_two_sets_of_steps_share_what_they_have_in_common(tmp_path):
    log = tmp_path / "log"
    shared = Step("shared", [appending(log, "shared")], None)
    run([shared, Step("one", [appending(log, "one")], None, ("shared",))], tmp_path)
    run([Step("new", [], None), shared, Step("two", [appending(log, "two")], None, ("shared", "new"))], tmp_path)
    assert log.read_text().split() == ["shared", "one", "two"]


def test_a_failed_step_ends_the_run_and_goes_on_in_what_it_has(tmp_path):
    folder, ready = tmp_path / "made", tmp_path / "ready"
    code = f"import os, sys; os.makedirs({str(folder)!r}, exist_ok=True); print('half way')"
    code += f"; sys.exit(0 if os.path.exists({str(ready)!r}) else 3)"
    chain = [Step("only", [f'"{sys.executable}" -c "{code}"'], str(folder))]
    with pytest.raises(SystemExit, match="(?s)half way.*only: .*status 3.*only.log"):
        run(chain, tmp_path)
    (folder / "checkpoint").write_text("kept")
    ready.write_text("")
    run(chain, tmp_path)
    assert (folder / "checkpoint").read_text() == "kept"


def test_jobs_run_side_by_side_in_the_order_of_their_needs(tmp_path, capsys):
    """Two steps that wait for each other's file can only end together."""

    def meeting(own, other):
        code = f"import os, time; open({str(tmp_path / own)!r}, 'w'); "
        code += f"[time.sleep(0.02) for _ in range(500) if not os.path.exists({str(tmp_path / other)!r})]; "
        code += f"assert os.path.exists({str(tmp_path / other)!r})"
        return f'"{sys.executable}" -c "{code}"'

    left = Step("left", [meeting("l", "r")], None)
    right = Step("right", [meeting("r", "l")], None)
    last = Step("last", [appending(tmp_path / "log", "last")], None, ("left", "right"))
    told = []
    run([left, right, last], tmp_path, 2, lambda step: told.append(step.name))
    assert set(told[:2]) == {"left", "right"} and told[2:] == ["last"]
    assert capsys.readouterr().out.count(" took ") == 3


def test_a_failure_ends_what_runs_beside_it(tmp_path):
    slow = Step("slow", [f'"{sys.executable}" -c "import time; time.sleep(60)"'], None)
    bad = Step("bad", [f'"{sys.executable}" -c "import time; time.sleep(0.5); raise SystemExit(5)"'], None)
    start = time.time()
    with pytest.raises(SystemExit, match="bad: .*status 5"):
        run([slow, bad], tmp_path, 2)
    assert time.time() - start < 30
    assert not (tmp_path / "logs" / "slow.done").exists()


def slow_call(folder):
    """A process that runs a step of a minute, once that has begun, and the file with the pid of its command."""
    pid = folder / "pid"
    code = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    script = folder / "run.py"
    script.write_text(
        f"from steps import Runner, Step\nslow = {shlex.join([sys.executable, '-c', code])!r}\n"
        f"Runner([Step('slow', [slow, slow], None)], {str(folder)!r}, '.').run()\n"
    )
    environment = dict(os.environ, PYTHONPATH=f"{RECIPES}/demo")
    process = subprocess.Popen([sys.executable, str(script)], env=environment, start_new_session=True)
    while not (pid.exists() and pid.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    return process, pid


def test_a_terminated_run_ends_its_commands(tmp_path):
    """SIGTERM, as from a scheduler: the child is gone, and its step is not done."""
    process, pid = slow_call(tmp_path)
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert not (tmp_path / "logs" / "slow.done").exists()


def test_jobs_share_the_cores_unless_told(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    code = f"import os; open({str(tmp_path / 'threads')!r}, 'a').write(os.environ.get('OMP_NUM_THREADS', 'none') + ' ')"
    for jobs, told in ((1, None), (3, None), (3, "5")):
        if told:
            monkeypatch.setenv("OMP_NUM_THREADS", told)
        run([Step(f"{jobs}-{told}", [f'"{sys.executable}" -c "{code}"'], None)], tmp_path, jobs)
    assert (tmp_path / "threads").read_text().split() == ["none", "2", "5"]


def test_seconds_are_kept_of_what_is_done(tmp_path):
    steps = [Step("one", [appending(tmp_path / "log", "one")], None), Step("two", [], None, ("one",))]
    runner = Runner(steps, str(tmp_path), str(tmp_path))
    assert runner.seconds() == {}
    runner.run()
    assert runner.seconds().keys() == {"one", "two"}


def test_a_recipe_that_says_something_else_is_another_step(tmp_path):
    recipe = tmp_path / "group" / "small.yaml"
    recipe.parent.mkdir()
    step = Step("train", [f"fairseq-hydra-train --config-dir {tmp_path} --config-name laptop"], None)
    seen = []
    for text in ("lr: 1", "lr: 1  # slow", "lr: 2"):
        recipe.write_text(text)
        seen.append(histories([step])["train"])
    assert seen[0] == seen[1] != seen[2] and seen[0].startswith(step.commands[0])


def test_a_command_that_a_killed_call_left_behind_is_waited_for(tmp_path):
    """Nothing else may write where it writes."""
    call, _ = slow_call(tmp_path)
    call.kill()
    call.wait()
    with pytest.raises(SystemExit, match="another call, or a command of a killed one, still runs here"):
        run([Step("other", ["true"], None)], tmp_path)
    os.killpg(call.pid, signal.SIGKILL)
    time.sleep(0.5)
    run([Step("other", ["true"], None)], tmp_path)


def test_a_step_keeps_the_version_at_which_it_was_begun(tmp_path):
    failing = Step(
        "a", [f'"{sys.executable}" -c "import os, sys; sys.exit(not os.path.exists({str(tmp_path / "go")!r}))"'], None
    )
    with pytest.raises(SystemExit):
        Runner([failing], str(tmp_path), str(tmp_path), version="first").run()
    (tmp_path / "go").touch()
    Runner([failing], str(tmp_path), str(tmp_path), version="second").run()  # goes on
    assert (tmp_path / "logs" / "a.version").read_text() == "first"
