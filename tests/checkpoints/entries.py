"""Every way by which a checkpoint gets into this package, as functions of its path.

Each takes the `Place` where it runs and the checkpoint's path, and raises what its user would see: SystemExit with the
last words of a command, or the error of a function.
"""

from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple

from distill_user_dir import infer, profile, slim, tune
from distill_user_dir.student import load_student
from manifests import features
from tests.commands import listed
from tests.helpers import RECIPES, distill_overrides, finetune_overrides, train
from tests.own_process import command

# The kind of a sound checkpoint that each takes, by its name in `Honest`.
TAKES = {
    "infer": "fine_tuned",
    "tune": "fine_tuned",
    "lmpath": "language_model",
    "slim": "fine_tuned",
    "profile": "pretrained",
    "load_student": "fine_tuned",
    "features": "pretrained",
    "teacher_path": "pretrained",
    "w2v_path": "pretrained",
    "init_from_student": "student",
    "restore_file": "student",
    "checkpoint_last": "student",
}


class Place(NamedTuple):
    """corpus: data; lm: an ARPA file and a lexicon of its units; teacher, fine_tuned: paths of sound checkpoints; out:
    an empty folder."""

    corpus: Path
    arpa: str
    lexicon: str
    teacher: str
    fine_tuned: str
    out: Path


def decode(main: Callable, place: Place, name: str, path: str, *arguments: str, **options: Any) -> None:
    given = {
        "task.data": place.corpus,
        "common_eval.path": path,
        "dataset.gen_subset": "valid",
        "decoding.results_path": place.out / "decode",
        "common.cpu": "true",
        "dataset.num_workers": 0,
        **options,
    }
    recipe = ["--config-dir", RECIPES / "decode", "--config-name", name]
    command(main, *arguments, *recipe, *listed(given))


def by_infer(place: Place, path: str) -> None:
    decode(infer.main, place, "viterbi", path)


def by_tune(place: Place, path: str) -> None:
    lm = {"decoding.lmpath": place.arpa, "decoding.lexicon": place.lexicon, "decoding.beam": 3}
    decode(tune.main, place, "kenlm", path, "--lmweights", "1", "--wordscores", "0", **lm)


def by_lmpath(place: Place, path: str) -> None:
    lm = {"decoding.lmpath": path, "decoding.lexicon": place.lexicon, "decoding.beam": 3}
    decode(infer.main, place, "fairseqlm", place.fine_tuned, **lm)


def by_slim(place: Place, path: str) -> None:
    command(slim.main, path, place.out / "slim.pt")


def by_profile(place: Place, path: str) -> None:
    command(profile.main, path, "--seconds", 0.1, "--rounds", 1)


def by_load_student(place: Place, path: str) -> None:
    load_student(path)


def by_features(place: Place, path: str) -> None:
    options = ["--feature", "hubert", "--checkpoint", path, "--layer", 1]
    command(features.main, place.corpus, "valid", place.out / "features", *options)


def distill(place: Place, **options: Any) -> None:
    one = {"optimization.max_update": 1, "dataset.disable_validation": "true", "dataset.num_workers": 0}
    overrides = distill_overrides(place.teacher, place.corpus, place.out / "student", **one)
    train("distill", "laptop", {**overrides, **options})


def by_teacher_path(place: Place, path: str) -> None:
    distill(place, **{"task.teacher_path": path})


def by_init_from_student(place: Place, path: str) -> None:
    distill(place, **{"model.init_from_student": path})


def by_restore_file(place: Place, path: str) -> None:
    distill(place, **{"checkpoint.restore_file": path, "optimization.max_update": 3})


def by_checkpoint_last(place: Place, path: str) -> None:
    (place.out / "student").mkdir()
    (place.out / "student" / "checkpoint_last.pt").symlink_to(path)
    distill(place, **{"optimization.max_update": 3})


def by_w2v_path(place: Place, path: str) -> None:
    options = {"optimization.max_update": 1, "dataset.disable_validation": "true", "dataset.num_workers": 0}
    train("finetune", "laptop", finetune_overrides(path, place.corpus, place.out / "ctc", **options))


ENTRIES: Dict[str, Callable[[Place, str], None]] = {name: globals()[f"by_{name}"] for name in TAKES}
