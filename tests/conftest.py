import os
import re

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # workers of the suite share the cores

import pytest  # noqa: E402
import torch  # noqa: E402

from manifests import fbank_stats  # noqa: E402
from tests import preload  # noqa: E402, F401  (what forks of this process would import again and again)
from tests.commands import run, train_command
from tests.helpers import distill_overrides, write_corpus, write_hubert, write_labels
from tests.own_process import in_its_own_process  # noqa: F401  (a fixture)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """HuBERT checkpoints by name, written when they are first asked for."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def path(size, **options):
        name = re.sub(r"\W+", "_", f"{size} {sorted(options.items())}")
        if not (folder / f"{name}.pt").exists():
            write_hubert(folder / f"{name}.pt", size, **options)
        return str(folder / f"{name}.pt")

    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Twelve utterances of a second and a half or less to train on, five to validate with."""
    random = torch.Generator().manual_seed(0)
    train = torch.randint(9000, 24000, (12,), generator=random).tolist()
    folder = write_corpus(
        tmp_path_factory.mktemp("corpus"), {"train": train, "valid": [9000, 23456, 12345, 16000, 20480]}
    )
    write_labels(folder, ["train", "valid"])
    return folder


@pytest.fixture(scope="session")
def distilled(tmp_path_factory, checkpoints, corpus):
    """Path of a tiny student's checkpoint after two updates by `fairseq-hydra-train`."""
    folder = tmp_path_factory.mktemp("distilled")
    overrides = distill_overrides(checkpoints("tiny"), corpus, folder, **{"optimization.max_update": 2})
    run(train_command("distill", "laptop", overrides), folder)
    return str(folder / "checkpoint_last.pt")


@pytest.fixture(scope="session")
def stats(corpus, tmp_path_factory):
    """Path of the Fbank statistics of the corpus."""
    path = str(tmp_path_factory.mktemp("stats") / "fbank.json")
    assert fbank_stats.main([str(corpus), "train", "--dest", path, "--workers", "1"]) == 0
    return path
