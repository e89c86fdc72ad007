"""The table and the picture of a profile."""

from typing import Any, Dict, List

from distill_user_dir.profiling.rows import PARTS


def table(found: List[Dict[str, Any]]) -> str:
    """Parameters in millions; multiply-accumulates in 10^9 a second of audio; real-time factor, and how many times
    faster than HuBERT Base; peak memory of a forward beside the model, in MB."""
    width = max(len(row["name"]) for row in found)
    head = f"{'':<{width}} {'front':>6} {'pos':>6} {'Transf':>6} {'CTC':>6} {'sum M':>7} {'heads':>6} {'GMAC/s':>7}"
    for run in found[0]["runs"]:
        size = f"{run['seconds']:g} s x {run['batch']}: RTF"
        head += f" | {size:>15} {'faster':>7} {'MB':>6}"
    lines = [head]
    for row in found:
        parts = "".join(f" {count / 1e6:>6.2f}" for count in row["parts"].values())
        sums = f" {row['parameters'] / 1e6:>7.2f} {row['heads'] / 1e6:>6.2f} {row['macs'] / 1e9:>7.2f}"
        line = f"{row['name']:<{width}}{parts}{sums}"
        for run, reference in zip(row["runs"], found[0]["runs"]):
            line += f" | {run['rtf']:>15.4f} {reference['rtf'] / run['rtf']:>7.2f} {run['memory'] / 1e6:>6.0f}"
        lines.append(line)
    return "\n".join(lines)


def plot(found: List[Dict[str, Any]], path: str) -> None:
    """Parameters by part, and the time of the first length and batch size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 0.5 * len(found) + 1.8), sharey=True)
    names, start = [row["name"] for row in found], [0.0] * len(found)
    for part in [part for part in PARTS if any(row["parts"][part] for row in found)]:
        sizes = [row["parts"][part] / 1e6 for row in found]
        left.barh(names, sizes, left=start, label=part)
        start = [a + b for a, b in zip(start, sizes)]
    left.set(xlabel="parameters (millions), without heads")
    left.legend(fontsize="small")
    run = found[0]["runs"][0]
    right.barh(names, [1000 * row["runs"][0]["rtf"] for row in found], color="tab:grey")
    right.set(xlabel=f"computing (ms) for a second of audio, {run['seconds']:g} s x {run['batch']}")
    left.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
