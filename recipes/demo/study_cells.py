"""Results of the study under version control: a JSON for each, with all that led to it.

A cell is one model, trained and decoded. It is `recipes/demo/cells/GROUP/ROW/SEED-LABELLED.json`, and holds the word
error rate, every command from the speech on, hashes of the recipes and of the teacher, the version of the code and the
machine. A cell whose commands or teacher are no longer the plan's is made again.
"""

import csv
import json
import os
import platform
import shutil
import subprocess
import sys
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from run import HERE, ROOT, sha256
from steps import Runner, Step, histories
from steps import read as read_text

from distill_user_dir.files import write_bytes
from distill_user_dir.quiet import quiet_imports

with quiet_imports():
    import fairseq
    import torch

    from distill_user_dir.student import load_student

CELLS = f"{HERE}/cells"
Key = Tuple[str, int, int]  # row, seed, utterances with labels
SCORED = ("wer", "wer_interval", "cer", "utterances", "rtf")


def portable(text: str, out: str) -> str:
    """Commands as they are in any checkout: OUT in place of the folder of everything, paths from the root."""
    return text.replace(f"{out}/", "OUT/").replace(f"{ROOT}/", "")


def commands_of(history: str, out: str) -> List[str]:
    """All that lead to a step's result, in their order; without the hashes of their configs."""
    return [portable(line.split(" # configs ")[0], out) for line in history.splitlines() if line]


def version() -> str:
    """Of the code: a commit, with -dirty where files other than cells differ from it; nothing outside of a git
    checkout."""
    if shutil.which("git") is None:
        return ""
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{os.path.relpath(CELLS, ROOT)}")
    return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")


def git(*arguments: str) -> str:
    command = ["git", *arguments]
    told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return told.stdout.strip()


def machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores"


def errors_in(results: str) -> np.ndarray:
    """(utterances, 2): word errors and words of each, of a decode into this folder."""
    with open(f"{results}/utterances.tsv", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return np.array([[int(row["word_errors"]), int(row["words"])] for row in rows])


def made(results: str, commands: List[str], chain: Sequence[str], runner: Runner, teacher: str) -> Dict[str, Any]:
    """What a decode into `results`, in the folder of its model, has found. chain: the steps that led to it; code: the
    versions at which these were begun."""
    with open(f"{results}/wer.json", encoding="utf-8") as file:
        scored = json.load(file)
    student = load_student(f"{os.path.dirname(results)}/checkpoint_best.pt", folded=False)
    begun = [read_text(f"{runner.out}/logs/{name}.version") for name in chain]
    return {
        **{key: scored[key] for key in SCORED},
        "words": int(errors_in(results)[:, 1].sum()),
        "parameters": sum(parameter.numel() for parameter in student.parameters()),
        "seconds": {name: taken for name, taken in runner.seconds().items() if name in chain},
        "commands": commands,
        "recipes": recipes_of(runner.histories[chain[-1]]),
        "code": " ".join(dict.fromkeys(version for version in begun if version)),
        "teacher": sha256(teacher),
        "machine": machine(),
        "software": f"Python {platform.python_version()}, torch {torch.__version__}, fairseq {fairseq.__version__}",
    }


def recipes_of(history: str) -> List[str]:
    """Hashes of the recipes' folders that led to a result."""
    return list(dict.fromkeys(line.split(" # configs ")[1] for line in history.splitlines() if " # configs " in line))


def write(path: str, cell: Dict[str, Any]) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_bytes(path, (json.dumps(cell, indent=1) + "\n").encode())


def read(path: str) -> Dict[str, Any]:
    """A cell, or nothing where there is none."""
    content = read_text(path)
    try:
        found = json.loads(content) if content else {}
        return {"commands": None, "teacher": None, **found}
    except (ValueError, TypeError):
        sys.exit(f"{path}: no cell of the study (a JSON of one result); git checkout it, or take it away")


class Target(NamedTuple):
    """A cell to be there, and the step whose results it holds."""

    path: str
    step: str
    key: Key


def target_of(folder: str, row: str, seed: int, labelled: int, step: str) -> Target:
    """folder: of a group of cells."""
    return Target(f"{folder}/{row}/{seed}-{labelled}.json", step, (row, seed, labelled))


def there(targets: Sequence[Target], steps: Sequence[Step], out: str, teacher: str) -> Dict[Key, Dict[str, Any]]:
    """{(row, seed, utterances with labels): cell} of those that the same commands have made, with the same teacher."""
    led, known = histories(list(steps)), sha256(teacher)
    cells = {target: read(target.path) for target in targets}
    return {
        target.key: cell
        for target, cell in cells.items()
        if cell["commands"] == commands_of(led[target.step], out) and cell["teacher"] == known
    }


def missing(targets: Sequence[Target], steps: Sequence[Step], out: str, teacher: str) -> List[Target]:
    """Those that are not there."""
    found = there(targets, steps, out, teacher)
    return [target for target in targets if target.key not in found]


def ancestors(steps: Sequence[Step], names: Sequence[str]) -> List[Step]:
    """These steps and all that they need, in the order of the list."""
    needed = set(names)
    for step in reversed(steps):
        if step.name in needed:
            needed.update(step.needs)
    return [step for step in steps if step.name in needed]


def run(targets: Sequence[Target], steps: Sequence[Step], out: str, teacher: str, jobs: int = 2) -> None:
    """Whatever the cells that are missing need, and the cells, each as soon as it can be written."""
    left = {target.step: target for target in missing(targets, steps, out, teacher)}
    print(f"{len(targets) - len(left)} of {len(targets)} cells are there", flush=True)
    needed = ancestors(steps, list(left))
    runner = Runner(needed, out, ROOT, jobs, version())

    def keep(step: Step) -> None:
        if step.name in left:
            chain = [one.name for one in ancestors(needed, [step.name])]
            commands = commands_of(runner.histories[step.name], out)
            write(left[step.name].path, made(step.folder, commands, chain, runner, teacher))

    runner.run(keep)
