"""Writes a checkpoint without what only training needs: a third of the size, loaded by the same commands.

python -m distill_user_dir.slim checkpoint_best.pt student.pt
python -m distill_user_dir.slim checkpoint_best.pt student.pt --half --no-paths      # to publish it
"""

import argparse
import os
import sys
from typing import Any, List, Optional

import torch

from distill_user_dir.checkpoints.loading import load
from distill_user_dir.files import replacing, temporary_of
from distill_user_dir.messages import tell
from distill_user_dir.student import load_student

KEEP = ("args", "cfg", "model", "task_state", "optimizer_history")


def without_paths(node: Any) -> Any:
    """A config in which absolute paths are cut down to their last name."""
    if isinstance(node, argparse.Namespace):
        return argparse.Namespace(**without_paths(vars(node)))
    if isinstance(node, dict):
        return {key: without_paths(value) for key, value in node.items()}
    if isinstance(node, list):
        return [without_paths(value) for value in node]
    return os.path.basename(node.rstrip("/")) if isinstance(node, str) and os.path.isabs(node) else node


def slim(source: str, target: str, half: bool = False, paths: bool = True) -> int:
    """Copies model, configs and dictionaries, in half precision and without this machine's paths if asked; returns the
    new file's bytes.

    optimizer_history and the place in the data stay: they are short, and fairseq loads no file without them.
    CheckpointError where `source` makes no model, ValueError where it is `target`.
    """
    written = [path for path in (target, temporary_of(target)) if os.path.exists(path)]
    if os.path.exists(source) and any(os.path.samefile(source, path) for path in written):
        raise ValueError(f"{target}: the checkpoint itself, which would lose its optimizer's state; give another name")
    load_student(source)  # every weight in its shape
    state = load(source, mapped=True)
    kept = {key: state[key] for key in KEEP if key in state}
    kept["extra_state"] = {"train_iterator": (state.get("extra_state") or {}).get("train_iterator")}
    if half:
        kept["model"] = {k: v.half() if v.is_floating_point() else v for k, v in kept["model"].items()}
    if not paths:
        kept.update({key: without_paths(kept[key]) for key in ("args", "cfg") if key in kept})
    with replacing(target) as temporary, open(temporary, "wb") as stream:
        torch.save(kept, stream)
    return os.path.getsize(target)


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m distill_user_dir.slim",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="IN", help="checkpoint of a student or a HuBERT, fine-tuned or not")
    parser.add_argument("target", metavar="OUT", help="slim checkpoint to write")
    parser.add_argument("--half", action="store_true", help="weights in half precision (fp16)")
    parser.add_argument("--no-paths", action="store_true", help="cut this machine's paths down to their last names")
    args = parser.parse_args(argv)
    try:
        size = slim(args.source, args.target, args.half, not args.no_paths)
    except (ValueError, OSError) as error:
        tell(error)
        return 1
    print(f"{args.target}: {size / 1e6:.1f} MB, {args.source}: {os.path.getsize(args.source) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
