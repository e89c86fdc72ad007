"""The study's report as a page."""

import html
from typing import Sequence

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Student structures and losses</title>
<style>body {{ font: 15px sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em }}
td, th {{ padding: 0.2em 0.7em; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap }}
img {{ max-width: 100% }}</style></head><body>
<h1>Student structures and losses, by label budget</h1>
<p>Students distilled from one teacher, then fine-tuned with CTC on all, a part and a small part of the labelled
utterances. {finished} of {total} results are there.</p>
<img alt="word error rate against utterances with labels" src="data:image/png;base64,{image}">
<p>Mean over seeds; the bars reach from the best seed to the worst. Rows are drawn side by side so that the bars can be
told apart.</p>
<h2>Word error rates</h2>{table}
<p>Mean ± sample standard deviation over seeds, and how many of the seeds where some are missing; in the header the
utterances with labels. The columns to the right are the
differences to {reference} <em>with the same seed and the same labelled utterances</em>, which take out what all rows of
a seed share: a difference much larger than its deviation is one to believe; of three seeds, none smaller than it.</p>
<h2>How it was made</h2>{settings}
<h2>Every result</h2>{every}
<h2>Every command</h2><details><summary>{steps} steps, in the repository's root</summary><pre>{commands}</pre></details>
</body></html>
"""


def html_table(lines: Sequence[Sequence[str]], header: bool = True) -> str:
    rows = []
    for number, line in enumerate(lines):
        tag = "th" if header and number == 0 else "td"
        rows.append("<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in line) + "</tr>")
    return "<table>" + "\n".join(rows) + "</table>"
