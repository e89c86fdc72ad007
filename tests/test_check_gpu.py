"""The check of a GPU, rehearsed on a CPU: all of it runs, is told in a table, and is not run twice."""

import sys

import pytest

from tests.commands import run
from tests.helpers import ROOT

COMMAND = [sys.executable, str(ROOT / "benchmarks" / "check_gpu.py"), "--rehearse", "--out"]


@pytest.mark.slow
def test_a_rehearsal_runs_and_goes_on_where_it_was(tmp_path):
    run([*COMMAND, str(tmp_path)], ROOT)
    table = (tmp_path / "gpu.md").read_text()
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ") and "fp32" in line]
    assert len(rows) == 6 and all(row[1] == "4" and float(row[4]) > 0 for row in rows)
    killed = (tmp_path / "logs" / "deep & thin, discriminative fp32 killed.log").read_text()
    assert "killed at update 2" in killed and "@ 2 updates)" in killed.split("killed at")[1]
    through, resumed = (next(row for row in rows if row[0].endswith(end)) for end in ("discriminative fp32", "killed"))
    assert resumed[2:4] == through[2:4] and "Decoded on the cpu: WER" in table
    again = run([*COMMAND, str(tmp_path)], ROOT)
    assert again.count("done before") == 8 and (tmp_path / "gpu.md").read_text() == table
