"""The demo's table, results.json and picture."""

import json
import logging
from typing import Any, Dict, List, Sequence

from distill_user_dir.files import write_bytes
from distill_user_dir.student import load_student


def read_rows(out: str, names: Sequence[str]) -> List[Dict[str, Any]]:
    """What decoding wrote, and each model's parameters."""
    rows = []
    for name in names:
        with open(f"{out}/decode/{name}/wer.json", encoding="utf-8") as file:
            scored = json.load(file)
        student = load_student(f"{out}/ctc-{name}/checkpoint_best.pt", folded=False)
        parameters = sum(parameter.numel() for parameter in student.parameters())
        keys = ("wer", "wer_interval", "cer", "utterances_scored", "utterances", "rtf")
        rows.append({"name": name, "parameters": parameters, **{key: scored[key] for key in keys}})
    return rows


def table(rows: List[Dict[str, Any]]) -> str:
    """One line a model; speed is audio seconds decoded a second, on this machine."""
    lines = [f"{'model':<15} {'parameters':>10} {'WER %':>7} {'95% interval':>16} {'CER %':>7} {'x real time':>12}"]
    for row in rows:
        low, high = row["wer_interval"]
        lines.append(
            f"{row['name']:<15} {row['parameters'] / 1e6:>8.2f} M {row['wer']:>7.2f} {f'{low:.1f} to {high:.1f}':>16} "
            f"{row['cer']:>7.2f} {1 / row['rtf']:>12.0f}"
        )
    return "\n".join(lines)


def plot(rows: List[Dict[str, Any]], path: str) -> None:
    """WER against parameters, with the intervals."""
    import matplotlib

    matplotlib.use("Agg")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq sets the root logger to DEBUG
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for number, row in enumerate(rows):
        low, high = row["wer_interval"]
        spread = [[max(0.0, row["wer"] - low)], [max(0.0, high - row["wer"])]]
        axes.errorbar(row["parameters"] / 1e6, row["wer"], yerr=spread, fmt="o", capsize=4)
        axes.annotate(
            row["name"],
            (row["parameters"] / 1e6, row["wer"]),
            xytext=(8, (4, -14)[number % 2]),
            textcoords="offset points",
        )
    axes.set(xlabel="parameters (millions)", ylabel="word error rate (%)", title="Distillation on synthesised digits")
    axes.margins(x=0.2)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def write(out: str, names: Sequence[str]) -> None:
    """results.json, wer_vs_size.png, and the table on the terminal."""
    rows = read_rows(out, names)
    write_bytes(f"{out}/results.json", json.dumps(rows, indent=2).encode())
    plot(rows, f"{out}/wer_vs_size.png")
    print(f"\n{table(rows)}\n\n{out}/results.json\n{out}/wer_vs_size.png")
