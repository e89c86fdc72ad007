"""Runs a training, kills it once it has saved a checkpoint in mid-run, and runs it again to its end.

    python benchmarks/killed.py UPDATE COMMAND ...

A training that has been killed before just goes on. Status and output are those of the training that ends.
"""

import re
import signal
import subprocess
import sys


def main() -> int:
    update, command = sys.argv[1], sys.argv[2:]
    saved = re.compile(rf"Saved checkpoint .* @ {update} updates|Loaded checkpoint .* @ \d+ updates")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            if saved.search(line):
                process.send_signal(signal.SIGKILL)
                break
    if process.returncode != -signal.SIGKILL:
        return process.returncode or 1
    print(f"killed at update {update}", flush=True)
    return subprocess.call(command)


if __name__ == "__main__":
    sys.exit(main())
