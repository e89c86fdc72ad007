"""Steps of commands: printed, run with visible progress, logged, and not run twice."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from typing import List, NamedTuple, Optional

UPDATE = re.compile(r"(?:\w|-)*loss=([\d.]+).*?num_updates=(\d+)")
VALID = re.compile(r"\[valid\].*? \| loss ([\d.]+)(?:.*? \| wer ([\d.]+))?.* \| num_updates (\d+)")
BAR = re.compile(r"^(\S[^:|]*):\s+(\d+)%\|")  # of tqdm, whose carriage returns arrive as line ends


class Step(NamedTuple):
    """name: of its log; commands: run one after the other in the repository's root; folder: what it writes, taken
    away before it starts anew because its commands, or those of a step before it, have changed."""

    name: str
    commands: List[str]
    folder: Optional[str]


def progress(line: str) -> str:
    """What of a line of fairseq's log a person wants to see; nothing of most."""
    found = VALID.search(line)
    if found:
        wer = f", WER {found.group(2)}" if found.group(2) else ""
        return f"  update {found.group(3)}: validation loss {found.group(1)}{wer}"
    found = UPDATE.search(line)
    if found:
        return f"  update {found.group(2)}: loss {found.group(1)}"
    return "  " + line.strip() if line.startswith("WER ") else ""


def run(command: str, log_path: str, root: str) -> None:
    """Runs a command with its output in the log and its progress on the terminal; ends everything where it fails."""
    env = dict(os.environ, PATH=os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"], PYTHONUNBUFFERED="1")
    print(f"\n$ {command}", flush=True)
    with open(log_path, "a", encoding="utf-8") as log:
        log.write(f"\n$ {command}\n")
        process = subprocess.Popen(
            shlex.split(command), cwd=root, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for line in process.stdout:
            log.write(line)
            log.flush()
            shown, bar = progress(line), BAR.match(line)
            if shown:
                print(shown, flush=True)
            elif bar and sys.stdout.isatty():
                print(f"  {bar.group(1)}: {bar.group(2)}%", end="\r", flush=True)
    if process.wait() != 0:
        with open(log_path, encoding="utf-8") as log:
            tail = log.readlines()[-15:]
        sys.exit("".join(tail) + f"\nthe command above failed with status {process.returncode}; its log is {log_path}")


def read(path: str) -> str:
    """The text of a file, or nothing where there is none."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def run_steps(steps: List[Step], out: str, root: str) -> None:
    """Runs what is not done yet.

    Two markers hold all commands up to a step's: `started` and `done`. Where `done` is the same, the step is skipped;
    where only `started` is, it goes on in what it has written.
    """
    os.makedirs(f"{out}/logs", exist_ok=True)
    history = ""
    for number, step in enumerate(steps, 1):
        history += "\n".join(step.commands) + "\n"
        started, done = (f"{out}/logs/{step.name}.{kind}" for kind in ("started", "done"))
        if read(done) == history:
            print(f"[{number}/{len(steps)}] {step.name}: done before", flush=True)
            continue
        print(f"\n[{number}/{len(steps)}] {step.name}", flush=True)
        if step.folder and read(started) != history:
            shutil.rmtree(step.folder, ignore_errors=True)
        write(started, history)
        start = time.time()
        for command in step.commands:
            run(command, f"{out}/logs/{step.name}.log", root)
        write(done, history)
        print(f"  {step.name} took {time.time() - start:.0f} s", flush=True)
