"""The study's plots: word error rates against updates of distillation, and differences with their intervals."""

import base64
import io
from typing import Any, Dict, List, Sequence, Tuple

from matplotlib.figure import Figure
from study_plan import LENGTHS, UNDISTILLED
from study_statistics import Difference, Mean, mean_of

STRUCTURES = ("deep_thin-reg", "shallow_wide-reg")


def png(figure: Any) -> bytes:
    image = io.BytesIO()
    figure.tight_layout()
    figure.savefig(image, dpi=120, format="png")
    return image.getvalue()


def embedded(image: bytes) -> str:
    return f'<p><img alt="plot" src="data:image/png;base64,{base64.b64encode(image).decode()}"></p>'


def lengths(updates: int) -> List[Tuple[int, str]]:
    """Updates of distillation, and the end of a row's name."""
    known = [(round(updates * factor), f"-{kind}") for kind, factor in LENGTHS.items()]
    return sorted([*known, (updates, "")])


def curve(cells: Dict[Tuple[str, int, int], Any], updates: int) -> bytes:
    """A PNG: WER against updates of distillation for both structures, a panel for each budget, with 95% intervals, and
    the teacher's."""
    budgets = sorted({labelled for _, _, labelled in cells}, reverse=True)
    figure = Figure(figsize=(5 * len(budgets), 4.5))
    panels = figure.subplots(1, len(budgets), squeeze=False)

    def mean(row: str, labelled: int) -> Any:
        return mean_of([cell["wer"] for (name, _, n), cell in cells.items() if (name, n) == (row, labelled)])

    for axes, labelled in zip(panels[0], budgets):
        for number, structure in enumerate(STRUCTURES):
            points = [(at * 1.03**number, mean(f"{structure}{kind}", labelled)) for at, kind in lengths(updates)]
            draw(axes, [(at, found) for at, found in points if found is not None], structure.replace("-reg", ""))
        for row, style in (("teacher", "--"), (UNDISTILLED, ":")):
            level = mean(row, labelled)
            if level is not None:
                axes.axhline(level.mean, linestyle=style, color="grey", label=row)
        axes.set(xscale="log", xlabel="updates of distillation", title=f"{labelled} utterances with labels")
        places = [at for at, _ in lengths(updates)]
        axes.set_xlim(places[0] / 1.3, places[-1] * 1.3)
        axes.set_xticks(places)
        axes.set_xticklabels(places)
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    panels[0][0].set_ylabel("word error rate (%)")
    return png(figure)


def draw(axes: Any, points: Sequence[Tuple[float, Mean]], label: str) -> None:
    if points:
        halves = [found.half or 0.0 for _, found in points]
        axes.errorbar(
            [at for at, _ in points],
            [found.mean for _, found in points],
            yerr=halves,
            marker="o",
            capsize=3,
            label=label,
        )


def forest(found: Sequence[Tuple[str, str, int, Difference]]) -> bytes:
    """A PNG: differences of (row, reference, budget) with their 95% intervals, one under the other."""
    figure = Figure(figsize=(9, 0.8 + 0.32 * len(found)))
    axes = figure.subplots()
    budgets = sorted({labelled for _, _, labelled, _ in found})
    for place, (_, _, labelled, change) in enumerate(found):
        sides = None if change.low is None else [[change.mean - change.low], [change.high - change.mean]]
        colour = f"C{budgets.index(labelled)}"
        axes.errorbar(change.mean, -place, xerr=sides, fmt="o", capsize=3, color=colour)
    axes.axvline(0, color="grey", linewidth=1)
    axes.set_yticks([-place for place in range(len(found))])
    axes.set_yticklabels([f"{row} to {reference}, {labelled}" for row, reference, labelled, _ in found], fontsize=8)
    axes.set_xlabel("relative difference in word error rate (%); left is better")
    axes.grid(axis="x", alpha=0.3)
    return png(figure)
