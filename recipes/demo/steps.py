"""Steps of commands: printed, run with visible progress, logged, and not run twice."""

import fcntl
import glob
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import yaml

UPDATE = re.compile(r"(?:\w|-)*loss=([\d.]+).*?num_updates=(\d+)")
VALID = re.compile(r"\[valid\].*? \| loss ([\d.]+)(?:.*? \| wer ([\d.]+))?.* \| num_updates (\d+)")
BAR = re.compile(r"^(\S[^:|]*):\s+(\d+)%\|")  # of tqdm, whose carriage returns arrive as line ends


class Step(NamedTuple):
    """name: of its log; commands: run one after the other in the repository's root; folder: what it writes, taken
    away before it starts anew because its commands, or those of a step it needs, have changed; needs: names of steps
    that come before it in the list; alone: it has all cores, and no other step runs beside it."""

    name: str
    commands: List[str]
    folder: Optional[str]
    needs: Tuple[str, ...] = ()
    alone: bool = False


class Runner:
    """Runs what is not done yet, up to `jobs` steps at a time.

    Two markers in OUT/logs hold all that led to a step's result, its own commands and those of the steps it needs:
    `started` and `done`. Where `done` is the same, the step is skipped; where only `started` is, it goes on in what it
    has written. `seconds` holds how long it took, and `version` the one given when it was started. Steps at a time
    share the cores, unless OMP_NUM_THREADS says how.
    """

    def __init__(self, steps: List[Step], out: str, root: str, jobs: int = 1, version: str = ""):
        self.steps, self.out, self.root, self.jobs, self.version = steps, out, root, jobs, version
        self.histories = histories(steps)
        self.running: List[subprocess.Popen] = []
        self.lock, self.stopped = threading.Lock(), False
        os.makedirs(f"{out}/logs", exist_ok=True)

    def marker(self, step: Step, kind: str) -> str:
        return f"{self.out}/logs/{step.name}.{kind}"

    def is_done(self, step: Step) -> bool:
        return read(self.marker(step, "done")) == self.histories[step.name]

    def seconds(self) -> Dict[str, float]:
        """What the steps that are done have taken."""
        done = [step for step in self.steps if self.is_done(step)]
        return {step.name: float(read(self.marker(step, "seconds")) or 0) for step in done}

    def run(self, after: Callable[[Step], None] = lambda step: None) -> None:
        """All steps; `after` is called with each one that is done, before or now.

        What ends it (a step that fails, Ctrl-C, SIGTERM) ends the commands that are running too. SystemExit where
        another call is at work in OUT, or a command that a killed one has left behind.
        """
        previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            with open(f"{self.out}/logs/lock", "w", encoding="utf-8") as self.held:
                try:
                    fcntl.flock(self.held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    sys.exit(
                        f"{self.out}: another call, or a command of a killed one, still runs here; wait, or end it"
                    )
                self.run_all(after)
        finally:
            signal.signal(signal.SIGTERM, previous)

    def run_all(self, after: Callable[[Step], None]) -> None:
        waiting, finished, futures = list(self.steps), set(), {}
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                while waiting or futures:
                    for step in list(waiting):
                        if finished.issuperset(step.needs) and self.is_done(step):
                            print(f"[{step.name}] done before", flush=True)
                            finished.add(step.name)
                            waiting.remove(step)
                            after(step)
                        elif finished.issuperset(step.needs) and self.has_room(step, list(futures.values())):
                            futures[pool.submit(self.run_step, step)] = step
                            waiting.remove(step)
                    for future in wait(futures, return_when=FIRST_COMPLETED).done:
                        step = futures.pop(future)
                        future.result()
                        finished.add(step.name)
                        after(step)
            except BaseException:
                self.stop()
                raise

    def has_room(self, step: Step, running: List[Step]) -> bool:
        if step.alone or any(other.alone for other in running):
            return not running
        return len(running) < self.jobs

    def stop(self) -> None:
        """Ends the commands that run; none is started after."""
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.terminate()

    def start(self, command: str, step: Step) -> subprocess.Popen:
        path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
        code = os.pathsep.join([str(self.root), *filter(None, [os.environ.get("PYTHONPATH")])])  # of this checkout
        env = dict(os.environ, PATH=path, PYTHONPATH=code, PYTHONUNBUFFERED="1")
        if self.jobs > 1 and not step.alone:
            env.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.jobs)))
        with self.lock:
            if self.stopped:
                sys.exit("stopped")
            process = subprocess.Popen(
                shlex.split(command),
                cwd=self.root,
                env=env,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(self.held.fileno(),),  # which holds the lock for as long as the command lives
            )
            self.running.append(process)
        return process

    def run_step(self, step: Step) -> None:
        print(f"\n[{step.name}]", flush=True)
        history = self.histories[step.name]
        if read(self.marker(step, "started")) != history:
            for kind in ("done", "seconds"):  # of what is taken away
                if os.path.exists(self.marker(step, kind)):
                    os.remove(self.marker(step, kind))
            if step.folder:
                shutil.rmtree(step.folder, ignore_errors=True)
            write(self.marker(step, "version"), self.version)
        write(self.marker(step, "started"), history)
        start = time.time()
        for command in step.commands:
            self.run_command(command, step)
        write(self.marker(step, "seconds"), f"{time.time() - start:.0f}")
        write(self.marker(step, "done"), history)
        print(f"[{step.name}] took {time.time() - start:.0f} s", flush=True)

    def run_command(self, command: str, step: Step) -> None:
        """Runs a command with its output in the log and its progress on the terminal; SystemExit where it fails."""
        log_path, prefix = self.marker(step, "log"), f"[{step.name}]" if self.jobs > 1 else ""
        print(f"\n$ {command}", flush=True)
        with open(log_path, "a", encoding="utf-8") as log:
            log.write(f"\n$ {command}\n")
            process = self.start(command, step)
            for line in process.stdout:
                log.write(line)
                log.flush()
                show(line, prefix)
        status = process.wait()
        with self.lock:
            self.running.remove(process)
        if status != 0:
            with open(log_path, encoding="utf-8") as log:
                tail = log.readlines()[-15:]
            sys.exit(
                "".join(tail) + f"\n{step.name}: the command above failed with status {status}; its log is {log_path}"
            )


def histories(steps: List[Step]) -> Dict[str, str]:
    """All that leads to each step's result, in the order of the list: commands, and the configs that they name."""
    needed: Dict[str, set] = {}
    known: Dict[str, str] = {}
    told = {step.name: "".join(f"{command}{configs(command, known)}\n" for command in step.commands) for step in steps}
    for step in steps:
        needed[step.name] = {step.name}.union(*(needed[name] for name in step.needs))
    return {
        name: "".join(told[step.name] for step in steps if step.name in ancestors) for name, ancestors in needed.items()
    }


def configs(command: str, known: Dict[str, str]) -> str:
    """A hash of what the YAMLs in a command's --config-dir say, without their comments; nothing for other commands.
    known: the hashes of folders so far."""
    found = re.search(r"--config-dir (\S+)", command)
    if found is None:
        return ""
    if found.group(1) not in known:
        contents = []
        for path in sorted(glob.glob(f"{found.group(1)}/**/*.yaml", recursive=True)):
            with open(path, encoding="utf-8") as file:
                contents.append([os.path.relpath(path, found.group(1)), yaml.safe_load(file)])
        known[found.group(1)] = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:16]
    return f" # configs {known[found.group(1)]}"


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


def show(line: str, prefix: str) -> None:
    """Prints what `progress` finds, and progress bars where there is a terminal and nothing beside them."""
    shown, bar = progress(line), BAR.match(line)
    if shown:
        print(prefix + shown, flush=True)
    elif bar and not prefix and sys.stdout.isatty():
        print(f"  {bar.group(1)}: {bar.group(2)}%", end="\r", flush=True)


def read(path: str) -> str:
    """The text of a file, or nothing where there is none."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
