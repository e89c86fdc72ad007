"""The files of a set of frame labels beside the manifests: {split}.NAME, dict.NAME.txt, and the centres."""

import os
import re
from typing import List, NamedTuple, Sequence

from distill_user_dir.data.manifest import read_manifest
from distill_user_dir.files import utf8_lines, write_lines
from distill_user_dir.messages import quoted

DEFAULT = "km"
TAKEN = ("tsv", "ltr", "spm", "wrd", "npy", "len")  # what else stands beside a manifest, or in a folder of features


class LabelFiles(NamedTuple):
    """dest: the folder of the manifests; name: of the label set, as task.labels has it."""

    dest: str
    name: str = DEFAULT

    def check(self) -> None:
        """ValueError for a name that no file should have."""
        if not re.fullmatch(r"\w+", self.name, re.ASCII) or self.name in TAKEN:
            others = ", ".join(TAKEN)
            raise ValueError(
                f"--label {quoted(self.name)}: expected letters, digits and _, as in km4; none of {others}"
            )

    @property
    def centres(self) -> str:
        """Path of the cluster centres."""
        return os.path.join(self.dest, "kmeans.npy" if self.name == DEFAULT else f"kmeans.{self.name}.npy")

    def write(self, folder: str, splits: Sequence[str], nshard: int, clusters: int) -> None:
        """{split}.NAME from the shards in `folder`, in the order of the manifests, and dict.NAME.txt."""
        joined = {split: join_labels(folder, split, nshard) for split in splits}
        known = {str(cluster) for cluster in range(clusters)}
        for split, lines in joined.items():
            for number, line in enumerate(lines, 1):
                if not line.split() or not known.issuperset(line.split()):
                    raise ValueError(f"{folder}: utterance {number} of {split} has labels that are none of {clusters}")
        for split, lines in joined.items():
            tsv = os.path.join(self.dest, f"{split}.tsv")
            count = len(read_manifest(tsv).names) if os.path.isfile(tsv) else len(lines)
            if count != len(lines):
                raise ValueError(f"{folder}: labels of {len(lines)} utterances, and {tsv} has {count}; make them anew")
        for split, lines in joined.items():
            write_lines(os.path.join(self.dest, f"{split}.{self.name}"), lines)
        write_lines(os.path.join(self.dest, f"dict.{self.name}.txt"), [f"{cluster} 1" for cluster in range(clusters)])


def join_labels(folder: str, split: str, nshard: int) -> List[str]:
    """The label lines of all shards in order; ValueError where one is missing."""
    lines: List[str] = []
    for rank in range(nshard):
        path = os.path.join(folder, f"{split}_{rank}_{nshard}.km")
        if not os.path.isfile(path):
            raise ValueError(f"{path}: no such file; make it with --nshard {nshard} --rank {rank}")
        with utf8_lines(path) as stream:
            lines.extend(line.rstrip("\n") for line in stream)
    return lines
