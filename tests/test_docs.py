"""What the pages say is so: programs run, examples of changes train, messages exist, commands that need another machine
parse. Commands that can run here are run by `test_walkthrough.py`."""

import ast
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tests.commands import environment, run, train_command
from tests.helpers import RECIPES, ROOT, distill_overrides, recipe

DOCS = ROOT / "docs"
WRITTEN = ROOT / "tests" / "checkpoints" / "written"
PAGES = [ROOT / "README.md", RECIPES / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
PARSED = "make torchrun sbatch python fairseq-hydra-train".split()


def blocks(path, *kinds):
    """Titles and texts of the fenced blocks of these kinds."""
    found = re.findall(r'^```(\w*)(?: title="(.*?)")?\n(.*?)^```', path.read_text(encoding="utf-8"), re.M | re.S)
    return [(title, text) for kind, title, text in found if kind in kinds]


def test_the_readme_is_a_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "python.md"], ids=lambda page: page.stem)
def test_programs_run_as_written(page, tmp_path):
    """In their order, in one process, beside a fine-tuned student and a recording."""
    (tmp_path / "CTC").mkdir()
    for name in ("student.pt", "CTC/checkpoint_best.pt"):
        shutil.copy(str(WRITTEN / "fbank_student_ctc.pt"), str(tmp_path / name))
    speech = np.random.RandomState(0).uniform(-0.3, 0.3, 24000)
    soundfile.write(str(tmp_path / "speech.flac"), speech, 16000, "PCM_16")
    programs = [text for _, text in blocks(page, "python")]
    (tmp_path / "program.py").write_text("\n".join(programs))
    printed = run([sys.executable, tmp_path / "program.py"], tmp_path)
    assert printed.count("\n") == "\n".join(programs).count("print(")


def changed(content, diff):
    """A file's content after the hunks of a diff without line numbers."""
    for hunk in diff.split("@@\n")[1:]:
        lines = hunk.splitlines(keepends=True)
        before, after = ("".join(line[1:] for line in lines if line[0] in f" {sign}") for sign in "-+")
        assert content.count(before) == 1, before
        content = content.replace(before, after)
    return content


@pytest.mark.slow
def test_a_loss_a_student_and_a_front_end_are_added_as_written(tmp_path, checkpoints, corpus):
    copy, page = tmp_path / "copy", DOCS / "architecture.md"
    for name in ("distill_user_dir", "recipes"):
        shutil.copytree(str(ROOT / name), str(copy / name), ignore=shutil.ignore_patterns("__pycache__"))
    files = blocks(page, "python", "yaml")
    assert len(files) == 4 and not any((copy / title).exists() for title, _ in files)
    for title, text in files:
        (copy / title).write_text(text)
    for title, diff in blocks(page, "diff"):
        (copy / title).write_text(changed((copy / title).read_text(), diff))
    overrides = distill_overrides(checkpoints("tiny"), corpus, tmp_path / "out")
    overrides = {key: value for key, value in overrides.items() if not key.startswith("model.")}
    more = {"student": "four_128", "frontend": "mel", "+criterion.energy_weight": 0.1, "optimization.max_update": 2}
    more["common.user_dir"] = copy / "distill_user_dir"
    command = train_command("distill", "laptop", {**overrides, **more})
    command[command.index("--config-dir") + 1] = str(copy / "recipes" / "distill")
    output = run(command, copy, PYTHONPATH=str(copy))
    assert re.search(r"\[train_inner\].* energy=\d", output)
    program = f"""
import torch
from distill_user_dir.student import load_student
student = load_student({str(tmp_path / "out" / "checkpoint_last.pt")!r})
print(type(student.encoder.feature_extractor).__name__, student(torch.randn(1, 16000)).layers[-1].shape)
"""
    options = {"env": environment(PYTHONPATH=str(copy)), "cwd": str(copy), "check": True, "stdout": subprocess.PIPE}
    told = subprocess.run([sys.executable, "-c", program], **options).stdout.decode()
    assert told.split("\n")[-2] == "MelFrontend torch.Size([1, 49, 128])"


def texts_of_the_code():
    """Every string in it; a NUL stands for what an f-string fills in."""
    for path in [*ROOT.glob("distill_user_dir/**/*.py"), *ROOT.glob("manifests/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_messages_of_troubleshooting_are_those_of_the_code():
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `(.*?)` \|", page, re.M)
    assert len(messages) > 20
    texts = list(texts_of_the_code())
    for message in messages:
        parts = [part for part in message.split("...") if part.strip()]
        assert any(all(part in text for part in parts) for text in texts), message


def parsed_commands():
    """Commands in blocks that are not run: for a GPU, a cluster, or a day."""
    for page in PAGES:
        for _, text in blocks(page, "", "text"):
            for line in text.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0] in PARSED and "..." not in words[0]:
                    yield pytest.param(words, id=f"{page.name}: {' '.join(words)[:60]}")


@pytest.mark.parametrize("words", parsed_commands())
def test_commands_that_take_another_machine_or_a_day_parse(words):
    """Targets, files, options and recipes are there."""
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M)
        return
    line = " ".join(words)
    if "--config-name" in line:
        words = shlex.split(line)
        at = words.index("--config-name")
        folder, given = words[words.index("--config-dir") + 1].rpartition("/")[2], words[at + 2 :]
        groups = [word for word in given if re.fullmatch(r"(student|loss|frontend|data|gpus|units)=\w+", word)]
        if folder in ("distill", "finetune"):
            recipe(folder, words[at + 1], *groups)
        assert (RECIPES / folder / f"{words[at + 1]}.yaml").exists()
        return
    start = 3 if words[1] == "-m" else 2
    told = run([sys.executable, *words[1:start], "--help"], ROOT)
    assert all(re.search(rf"^ .*{word}\b", told, re.M) for word in words if word.startswith("--")), line
