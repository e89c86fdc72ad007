"""fairseq's manifests (`{split}.tsv`) and what can be wrong with the files that they name."""

import logging
import os
from typing import List, NamedTuple, Optional

from fairseq.data.dictionary import Dictionary

from distill_user_dir.data.audio import scan
from distill_user_dir.files import utf8_lines
from distill_user_dir.messages import quoted, reason

logger = logging.getLogger(__name__)

MOST_DIGITS = 15  # of a number of samples


class Manifest(NamedTuple):
    """path of the tsv; root folder; names relative to it; sizes in samples."""

    path: str
    root: str
    names: List[str]
    sizes: List[int]


def read_dictionary(path: str) -> Dictionary:
    """fairseq's dictionary of `symbol count` lines; ValueError where the file is none."""
    if not os.path.isfile(path):
        raise ValueError(f"{path}: no such dictionary; correct task.label_dir or task.labels, or make it")
    try:
        return Dictionary.load(path)
    except Exception as error:  # fairseq's are of several kinds, a bare one among them
        raise ValueError(f"{path}: no dictionary of `symbol count` lines ({reason(error)}); make it anew") from None


def read_manifest(path: str) -> Manifest:
    """A fairseq tsv (first line the root, then `name<TAB>samples`); ValueError with file and line where it is not."""
    if not os.path.isfile(path):
        raise ValueError(f"{path}: no such manifest; make it with manifests/tsv.py, or correct task.data or the split")
    names, sizes = [], []
    with utf8_lines(path) as lines:
        root = next(lines, "").strip()
        for number, line in enumerate(lines, 2):
            parts = line.strip().split("\t")
            if len(parts) != 2 or not parts[1].isdecimal() or len(parts[1]) > MOST_DIGITS or "\0" in parts[0]:
                raise ValueError(f"{path}:{number}: expected `name<TAB>samples`, found {quoted(line.strip())}")
            names.append(parts[0])
            sizes.append(int(parts[1]))
    if not names:
        raise ValueError(f"{path}: no utterance in this manifest; a line a file follows its first, the root folder")
    if "\0" in root or not os.path.isdir(root):
        raise ValueError(
            f"{path}:1: root folder {quoted(root, 200)} does not exist; correct it, or run manifests/tsv.py again"
        )
    return Manifest(path, root, names, sizes)


def check_sizes(manifest: Manifest, least: int, min_size: int) -> None:
    """ValueError for utterances that are kept (at least `min_size` samples) but too short for one frame (`least`)."""
    for number, (name, size) in enumerate(zip(manifest.names, manifest.sizes), 2):
        if min_size <= size < least:
            raise ValueError(
                f"{manifest.path}:{number}: {name} has {size} samples, and one frame needs {least}; "
                f"take the line out, or leave short files out with task.min_sample_size={least}"
            )


def check_kept(manifest: Manifest, min_size: int, max_size: Optional[int]) -> None:
    """ValueError where no utterance is between `min_size` and `max_size` samples long."""
    if not any(size >= min_size and (max_size is None or size <= max_size) for size in manifest.sizes):
        shortest, longest = min(manifest.sizes), max(manifest.sizes)
        raise ValueError(
            f"{manifest.path}: its {len(manifest.sizes)} utterances have {shortest} to {longest} samples, and all are "
            f"left out by task.min_sample_size={min_size} and task.max_keep_size={max_size}"
        )


def check_audio(manifest: Manifest, sample_rate: int, max_bad_share: float = 0.0) -> None:
    """Opens every file of the manifest: there, readable, right rate, and as long as the manifest says.

    ValueError where more than a share `max_bad_share` of them is not; those that are allowed for are warned of.
    """
    paths = [os.path.join(manifest.root, name) for name in manifest.names]
    lengths, errors = scan(paths, sample_rate, 1, progress=False)
    for i, length in enumerate(lengths):
        if length and length != manifest.sizes[i]:
            errors.append(
                f"{manifest.path}:{i + 2}: {manifest.names[i]} has {length} samples, the manifest says "
                f"{manifest.sizes[i]}; run manifests/tsv.py again"
            )
    if len(errors) > max_bad_share * len(manifest.names):
        more = f" (and {len(errors) - 1} more files)" if len(errors) > 1 else ""
        raise ValueError(f"{manifest.path}: {errors[0]}{more}")
    for error in errors:
        logger.warning(f"will be left out: {error}")


def check_labels(manifest: Manifest, label_path: str) -> None:
    """A label file has one line an utterance."""
    if not os.path.isfile(label_path):
        raise ValueError(
            f"{label_path}: no such label file; correct task.label_dir or task.labels (or task.unlabelled)"
        )
    count = 0
    with utf8_lines(label_path, newline="\n") as lines:
        for count, line in enumerate(lines, 1):
            if "\r" in line:  # fairseq finds an utterance's labels by counting characters, and Python drops these
                raise ValueError(f"{label_path}:{count}: a carriage return; save it with the line ends of Unix")
    if count != len(manifest.names):
        raise ValueError(
            f"{label_path}: {count} lines, but {manifest.path} lists {len(manifest.names)} utterances; "
            "make both from the same manifest"
        )
