"""The study's report as a page, and its tables as text."""

import html
from typing import Sequence

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Distillation of HuBERT: a study</title>
<style>body {{ font: 15px sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em }}
td, th {{ padding: 0.2em 0.7em; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap }}
img {{ max-width: 100% }}</style></head><body>
<h1>Distillation of HuBERT: structures, losses and front-ends</h1>
<p>Students of one small HuBERT, distilled without labels, then fine-tuned with CTC on all, a part and a small part of
the labelled utterances, and tested on speakers that training never heard. {finished} results are there. The design is
in docs/study.md.</p>
{curve}
<h2>Word error rates</h2>{table}
<p>Mean over seeds with its 95% interval (Student's t), and the standard deviation over seeds.</p>
<p>Below, differences are relative, and paired: the same seed, the same utterances with labels, the same batches. How
far results scatter, beside what row and seed explain, is told by the distilled students and the teacher together, as in
this table; for the undistilled student and in Q5 by the two rows alone. A verdict is given where the 95% interval does
not hold 0; less is better.</p>
{scatter}
{questions}
<h2>Rows of Q5</h2>{trial}
<h2>Learning rates</h2><p>On the validation set, each rate for a third of the
distillation and all of CTC; 0.002 is kept unless another makes a tenth fewer errors.</p>
{rates}
<h2>Every result</h2>{every}
<h2>Every command</h2><details><summary>in the repository's root; OUT is a folder</summary>
<pre>{commands}</pre></details>
</body></html>
"""


def html_table(lines: Sequence[Sequence[str]]) -> str:
    """The first line is the header."""
    rows = []
    for number, line in enumerate(lines):
        tag = "th" if number == 0 else "td"
        rows.append("<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line) + "</tr>")
    return "<table>" + "\n".join(rows) + "</table>"


def text(lines: Sequence[Sequence[str]]) -> str:
    """In columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
