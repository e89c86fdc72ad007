"""What a student's layers have of its teacher's: linear CKA of every layer with every layer, from 0 to 1.

    python -m distill_user_dir.similarity STUDENT.pt TEACHER.pt DATA/valid.tsv
    python -m distill_user_dir.similarity STUDENT.pt TEACHER.pt DATA/valid.tsv --frames 20000 --plot similarity.png

Any two checkpoints of HuBERTs or students, fine-tuned or not, whose frames are the same. A row is a layer of the first,
a column one of the second. Utterances are drawn from the manifest until there are as many frames.
"""

import argparse
import os
import random
import sys
from typing import List, Optional, Sequence

import torch

from distill_user_dir.data.audio import read_samples
from distill_user_dir.data.manifest import Manifest, read_manifest
from distill_user_dir.machine import need, usable_device
from distill_user_dir.messages import tell
from distill_user_dir.profiling.similarity import Similarity
from distill_user_dir.student import Student, load_student

FRAMES = 10000


@torch.inference_mode()
def similarity(student: Student, teacher: Student, manifest: Manifest, frames: int, device: str) -> List[List[float]]:
    """A row for each layer of the student. ValueError where the two do not make the same frames."""
    found, order = Similarity(), list(range(len(manifest.names)))
    random.Random(1).shuffle(order)
    for index in order:
        name, size = manifest.names[index], manifest.sizes[index]
        samples = read_samples(os.path.join(manifest.root, name), size, student.sample_rate)
        audio = torch.from_numpy(samples)[None].to(device)
        ours, theirs = ([layer[0] for layer in model(audio).layers] for model in (student, teacher))
        if len(ours[0]) != len(theirs[0]):
            counts = f"{len(ours[0])} and {len(theirs[0])} frames of {size} samples"
            raise ValueError(f"{name}: {counts}; the front-ends of the two do not align")
        found.add(ours, theirs)
        if found.frames >= frames:
            break
    return found.result()


def table(rows: Sequence[Sequence[float]]) -> str:
    lines = ["      " + "".join(f"{number:>6}" for number in range(1, len(rows[0]) + 1))]
    lines += [f"{number:>6}" + "".join(f"{value:6.2f}" for value in row) for number, row in enumerate(rows, 1)]
    return "\n".join(lines)


def plot(rows: Sequence[Sequence[float]], names: Sequence[str], path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.5 + 0.45 * len(rows[0]), 1.8 + 0.45 * len(rows)), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(rows, vmin=0, vmax=1, cmap="viridis", origin="lower")
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            axis.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=7, color="w" if value < 0.7 else "k")
    for set_ticks, count in ((axis.set_xticks, len(rows[0])), (axis.set_yticks, len(rows))):
        set_ticks(range(count), range(1, count + 1))
    ours, theirs = (os.path.join(*os.path.abspath(name).split(os.sep)[-2:]) for name in names)
    axis.set(xlabel=f"layer of {theirs}", ylabel=f"layer of {ours}")
    figure.colorbar(image, label="linear CKA")
    figure.savefig(path, dpi=120)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m distill_user_dir.similarity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("student", metavar="STUDENT.pt", help="its layers are the rows")
    parser.add_argument("teacher", metavar="TEACHER.pt", help="its layers are the columns")
    parser.add_argument("manifest", metavar="MANIFEST", help=".tsv of the audio")
    parser.add_argument(
        "--frames", type=int, default=FRAMES, metavar="N", help=f"at least, of all utterances ({FRAMES})"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--plot", metavar="FILE", help="the table as a picture")
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    args = get_parser().parse_args(argv)
    try:
        if args.frames < 2:
            raise ValueError(f"--frames {args.frames}: two at least")
        if args.plot:
            need("matplotlib", "manifests")
        device, manifest = usable_device(args.device), read_manifest(args.manifest)
        models = [load_student(path).to(device) for path in (args.student, args.teacher)]
        rows = similarity(*models, manifest, args.frames, device)
        print(table(rows))
        if args.plot:
            plot(rows, (args.student, args.teacher), args.plot)
    except (ValueError, OSError) as error:
        tell(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
