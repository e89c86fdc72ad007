"""Results of the study under version control: a JSON for each, with all that led to it.

A cell is one model, trained and decoded. It is `recipes/demo/cells/GROUP/ROW/SEED-LABELLED.json`, and holds the word
error rate, every command from the speech on, the version of the code, the teacher's hash and the machine. A cell whose
commands are no longer the plan's is run again.
"""

import csv
import glob
import hashlib
import json
import os
import platform
import subprocess
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import fairseq
import torch
from run import HERE, ROOT
from steps import Runner, Step, histories

from distill_user_dir.files import write_bytes
from distill_user_dir.student import load_student

CELLS = f"{HERE}/cells"
SCORED = ("wer", "wer_interval", "cer", "utterances", "rtf")


def path_of(folder: str, row: str, seed: int, labelled: int) -> str:
    """folder: of a group of cells."""
    return f"{folder}/{row}/{seed}-{labelled}.json"


def portable(text: str, out: str) -> str:
    """Commands as they are in any checkout: OUT in place of the folder of everything, paths from the root."""
    return text.replace(out, "OUT").replace(f"{ROOT}/", "")


def commands_of(history: str, out: str) -> List[str]:
    """All that lead to a step's result, in their order; without the hashes of their configs."""
    return [portable(line.split(" # configs ")[0], out) for line in history.splitlines() if line]


def version() -> str:
    """Of the code: a commit, with -dirty where files differ from it; nothing outside of a git checkout."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    return told.stdout.strip()


def machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores"


def sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def words(results: str) -> int:
    """Of all references."""
    with open(f"{results}/utterances.tsv", encoding="utf-8", newline="") as file:
        return sum(int(row["words"]) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def made(results: str, commands: List[str], seconds: Dict[str, float], teacher: str) -> Dict[str, Any]:
    """What a decode into `results`, in the folder of its model, has found. seconds: of the steps that led to it."""
    with open(f"{results}/wer.json", encoding="utf-8") as file:
        scored = json.load(file)
    student = load_student(f"{os.path.dirname(results)}/checkpoint_best.pt", folded=False)
    return {
        **{key: scored[key] for key in SCORED},
        "words": words(results),
        "parameters": sum(parameter.numel() for parameter in student.parameters()),
        "seconds": seconds,
        "commands": commands,
        "code": version(),
        "teacher": sha256(teacher),
        "machine": machine(),
        "software": f"Python {platform.python_version()}, torch {torch.__version__}, fairseq {fairseq.__version__}",
    }


def write(path: str, cell: Dict[str, Any]) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_bytes(path, (json.dumps(cell, indent=1) + "\n").encode())


def read(path: str) -> Dict[str, Any]:
    """A cell, or nothing where there is none."""
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def read_all(folder: str) -> Dict[Tuple[str, int, int], Dict[str, Any]]:
    """{(row, seed, labelled): cell} of a group."""
    found = {}
    for path in sorted(glob.glob(f"{folder}/*/*.json")):
        seed, labelled = os.path.splitext(os.path.basename(path))[0].split("-")
        found[os.path.basename(os.path.dirname(path)), int(seed), int(labelled)] = read(path)
    return found


class Target(NamedTuple):
    """A cell to be there, and the step whose results it holds."""

    path: str
    step: str


def missing(targets: Sequence[Target], steps: Sequence[Step], out: str) -> List[Target]:
    """Those without a cell that the same commands have made."""
    led = histories(list(steps))
    return [target for target in targets if read(target.path).get("commands") != commands_of(led[target.step], out)]


def ancestors(steps: Sequence[Step], names: Sequence[str]) -> List[Step]:
    """These steps and all that they need, in the order of the list."""
    needed = set(names)
    for step in reversed(steps):
        if step.name in needed:
            needed.update(step.needs)
    return [step for step in steps if step.name in needed]


def run(targets: Sequence[Target], steps: Sequence[Step], out: str, teacher: str, jobs: int = 2) -> None:
    """Whatever the cells that are missing need, and the cells, each as soon as it can be written."""
    left = {target.step: target for target in missing(targets, steps, out)}
    print(f"{len(targets) - len(left)} of {len(targets)} cells are there", flush=True)
    needed = ancestors(steps, list(left))
    runner = Runner(needed, out, ROOT, jobs)

    def keep(step: Step, _: List[Step]) -> None:
        if step.name in left:
            chain = [one.name for one in ancestors(needed, [step.name])]
            commands = commands_of(runner.histories[step.name], out)
            seconds = {name: taken for name, taken in runner.seconds().items() if name in chain}
            write(left[step.name].path, made(step.folder, commands, seconds, teacher))

    for step in needed:
        if runner.is_done(step):
            keep(step, [])
    runner.run(keep)
