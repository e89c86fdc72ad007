"""Takes a fine-tuned student, or a HuBERT, out of fairseq: into a folder that needs neither torch nor this package (hf
needs torch and transformers).

    python -m distill_user_dir.export checkpoint_best.pt STUDENT
    python -m distill_user_dir.export checkpoint_best.pt STUDENT --int8 --check DATA/test.tsv
    python -m distill_user_dir.export checkpoint_best.pt STUDENT --calibrate DATA/train.tsv --check DATA/test.tsv
    python STUDENT/transcribe.py speech.flac
    python -m distill_user_dir.export checkpoint_best.pt STUDENT --format sherpa      # for sherpa-onnx
    python -m distill_user_dir.export checkpoint_best.pt STUDENT --format hf          # for transformers
    python -m distill_user_dir.export checkpoint_best.pt STUDENT --format web         # a page that listens

STUDENT/README.md says how to run it. Before the folder is there, it is run and compared with the checkpoint, on noise
or on the recordings of --check. --int8 makes a full-size student a third of the size, and changes a word now and then:
give it --check. --calibrate is --int8 whose scales were measured beforehand, on at most 200 recordings of a manifest: a
loud neighbour in a batch then changes next to nothing, but each recording loses a little more.
"""

import argparse
import functools
import math
import os
import random
import shutil
import sys
import tempfile
from typing import Any, Callable, List, NamedTuple, Optional

import numpy as np

from distill_user_dir.data.audio import read_samples
from distill_user_dir.data.manifest import read_manifest
from distill_user_dir.files import write_lines
from distill_user_dir.messages import tell
from distill_user_dir.shipping import hf_folder, hf_model, int8, onnx_folder, sherpa_folder, web_folder
from distill_user_dir.shipping.checkpoint_model import CheckpointModel
from distill_user_dir.shipping.difference import Difference, noises
from distill_user_dir.shipping.graph import SHORTEST
from distill_user_dir.shipping.runner import OnnxModel

MOST_DIFFERENCE = 1e-3  # of a log-probability, where all is float32
CALIBRATION = 200  # recordings
MOST_FRAMES = 0.3  # in which the likeliest unit differs, where it is not


class Format(NamedTuple):
    """write: (checkpoint, empty folder, precision) -> lines on how to use it; opened: (folder, the checkpoint's model)
    -> the export's model; exact: whether that model is to give the checkpoint's numbers; features: whether it has a
    place for a model without CTC; calibrated: whether its graph takes audio, on which int8 can be calibrated; compared:
    (the checkpoint's model, audio) -> the audio on which they are compared."""

    write: Callable[[str, str, int8.Precision], List[str]]
    opened: Callable[[str, Any], Any]
    exact: Callable[[Any], bool] = lambda model: True
    features: bool = False
    calibrated: bool = False
    compared: Callable[[Any, List[np.ndarray]], List[np.ndarray]] = lambda model, audio: audio


FORMATS = {
    "onnx": Format(onnx_folder.write_folder, lambda folder, model: OnnxModel(folder), features=True, calibrated=True),
    "hf": Format(hf_folder.write_folder, hf_model.HfModel, features=True, compared=hf_model.compared),
    "sherpa": Format(sherpa_folder.write_folder, sherpa_folder.SherpaModel, sherpa_folder.keeps_loudness),
    "web": Format(web_folder.write_folder, web_folder.WebModel, calibrated=True),
}


def export(
    path: str,
    folder: str,
    form: str = "onnx",
    small: bool = False,
    check: Optional[str] = None,
    calibrate: Optional[str] = None,
) -> Difference:
    """Writes `folder` -> how it differs from the checkpoint. ValueError where that is too much, or it is there already;
    then nothing is left. small: int8; check, calibrate: manifests."""
    folder = os.path.abspath(folder)
    if os.path.exists(folder):
        raise ValueError(f"{folder}: there already; give another name, or remove it")
    model = CheckpointModel(path, words=not FORMATS[form].features)
    audio = noises(model.window) if check is None else recordings(check, model)
    precision = precision_of(form, small, calibrate, model)
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    written = tempfile.mkdtemp(prefix=f"{os.path.basename(folder)}.", dir=os.path.dirname(folder))
    os.chmod(written, 0o755)
    try:
        usage = FORMATS[form].write(path, written, precision)
        audio = FORMATS[form].compared(model, audio)
        difference = Difference(model, FORMATS[form].opened(written, model), audio)
        if is_another(difference, precision is None and FORMATS[form].exact(model)):
            raise ValueError(f"{path}: its export is another model ({difference}); please report this")
        lines = readme(path, written, model, difference, precision is not None, usage)
        write_lines(os.path.join(written, "README.md"), lines)
        os.replace(written, folder)
    finally:
        shutil.rmtree(written, ignore_errors=True)
    return difference


def precision_of(form: str, small: bool, calibrate: Optional[str], model: CheckpointModel) -> int8.Precision:
    if calibrate is None:
        return int8.quantised if small else None
    if not FORMATS[form].calibrated:
        raise ValueError(f"--calibrate: not for --format {form}; --int8 without it, or --format onnx or web")
    return functools.partial(int8.quantised, recordings=recordings(calibrate, model, CALIBRATION), shortest=SHORTEST)


def recordings(manifest: str, model: CheckpointModel, most: Optional[int] = None) -> List[np.ndarray]:
    """The audio of a manifest, or of so many of its utterances, drawn; (samples,) float32 each."""
    found = read_manifest(manifest)
    rate, rows = model.sample_rate, list(zip(found.names, found.sizes))
    if most is not None and len(rows) > most:
        rows = random.Random(1).sample(rows, most)
    return [read_samples(os.path.join(found.root, name), size, rate, model.window) for name, size in rows]


def is_another(difference: Difference, exact: bool) -> bool:
    """Whether an export is not what it was made of. exact: it is to give the same numbers."""
    apart = difference.largest
    if difference.lengths or not math.isfinite(apart) or difference.frames > MOST_FRAMES:
        return True
    return exact and (apart > MOST_DIFFERENCE or difference.words > 0 and difference.frames == 0)


def readme(path: str, folder: str, model: Any, difference: Difference, small: bool, usage: List[str]) -> List[str]:
    """What is in the folder, and how to run it."""
    name = model_file(folder)
    size = os.path.getsize(os.path.join(folder, name)) / 1e6
    kind, units = "A speech recogniser (HuBERT student with CTC)", f", {len(model.symbols)} units"
    if not model.symbols:
        kind, units = "Features of speech (HuBERT student without CTC)", ""
    precision = "weights of products in 8-bit integers, of convolutions in float16" if small else "float32"
    return [
        f"# {os.path.basename(os.path.dirname(os.path.abspath(path)))}",
        "",
        f"{kind}, exported by distill_user_dir.",
        "",
        *usage,
        "",
        f"{name}: {size:.1f} MB, {precision}; {model.sample_rate} Hz{units}.",
        f"Compared with its checkpoint on {difference}.",
        "",
        "The code here is under the MIT licence of distill_user_dir; the model's is that of its teacher and its data.",
    ]


def model_file(folder: str) -> str:
    return next(name for name in ("model.onnx", "model.safetensors") if os.path.exists(os.path.join(folder, name)))


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m distill_user_dir.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CTC.pt", help="of a student or HuBERT")
    parser.add_argument("folder", metavar="STUDENT", help="folder to write")
    parser.add_argument("--format", choices=list(FORMATS), default="onnx", dest="form", help="(onnx)")
    parser.add_argument("--int8", action="store_true", help="products of weights in 8-bit integers")
    parser.add_argument("--check", metavar="MANIFEST", help="compare on the recordings of this .tsv")
    parser.add_argument("--calibrate", metavar="MANIFEST", help="--int8 with scales from the recordings of this .tsv")
    args = parser.parse_args(argv)
    try:
        difference = export(args.checkpoint, args.folder, args.form, args.int8, args.check, args.calibrate)
    except (ValueError, OSError) as error:
        tell(error)
        return 1
    name = model_file(args.folder)
    print(f"{args.folder}: {name} {os.path.getsize(os.path.join(args.folder, name)) / 1e6:.1f} MB; {difference}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
