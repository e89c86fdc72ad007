import shutil

import joblib
import numpy as np
import pytest

from manifests import features, kmeans
from manifests.label_files import join_labels

DIM, CLUSTERS = 8, 4


def write_features(folder, split, nshard, lengths, seed):
    """Frames around `CLUSTERS` far points -> the number of the point for each frame of each utterance."""
    rng = np.random.RandomState(seed)
    points = 100 * np.eye(DIM)[:CLUSTERS]
    truth = [rng.randint(0, CLUSTERS, size=length) for length in lengths]
    bounds = [round(len(lengths) / nshard * rank) for rank in range(nshard + 1)]
    folder.mkdir(exist_ok=True)
    for rank in range(nshard):
        part = truth[bounds[rank] : bounds[rank + 1]]
        labels = np.concatenate(part)
        frames = points[labels] + rng.standard_normal((len(labels), DIM))
        np.save(str(folder / f"{split}_{rank}_{nshard}.npy"), frames.astype(np.float32))
        (folder / f"{split}_{rank}_{nshard}.len").write_text("".join(f"{len(labels)}\n" for labels in part))
    return truth


def test_labels_follow_the_points_over_shards_and_splits(tmp_path, capfd):
    feat, dest = tmp_path / "feat", tmp_path / "data"
    truth = write_features(feat, "train", 2, [30, 41, 25, 38, 7], seed=0)
    truth += write_features(feat, "valid", 2, [12, 9], seed=1)
    arguments = ["--clusters", str(CLUSTERS), "--nshard", "2", "--dest", str(dest), "--threads", "1"]
    assert kmeans.main([str(feat), "--splits", "train", "valid", *arguments]) == 0
    train, valid = ((dest / f"{split}.km").read_text().splitlines() for split in ("train", "valid"))
    assert (len(train), len(valid)) == (5, 2)
    found = [[int(label) for label in line.split()] for line in train + valid]
    assert [len(line) for line in found] == [len(line) for line in truth]
    pairs = set(zip(np.concatenate(truth).tolist(), np.concatenate(found).tolist()))
    assert len(pairs) == CLUSTERS and {label for _, label in pairs} == set(range(CLUSTERS))
    # as `for x in $(seq 0 $((n_clusters - 1))); do echo "$x 1"; done` writes it
    assert (dest / "dict.km.txt").read_bytes() == b"0 1\n1 1\n2 1\n3 1\n"
    assert sorted(path.name for path in dest.iterdir()) == ["dict.km.txt", "kmeans.npy", "train.km", "valid.km"]
    told = [line for line in capfd.readouterr().out.splitlines() if "simple_kmeans" in line]
    assert [line.split()[1].rsplit("/", 1)[1] for line in told] == ["learn_kmeans.py"]


def test_missing_features_are_named(tmp_path, capsys):
    write_features(tmp_path / "feat", "train", 1, [10, 10], seed=0)
    arguments = ["--clusters", "2", "--dest", str(tmp_path / "data")]
    assert kmeans.main([str(tmp_path / "feat"), *arguments]) == 1
    assert str(tmp_path / "feat" / "valid_0_1.npy") in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_script_that_fails_ends_with_its_last_words(tmp_path, capfd, monkeypatch):
    write_features(tmp_path / "feat", "train", 1, [3], seed=0)
    (tmp_path / "learn_kmeans.py").write_text("import sys\nprint('first', file=sys.stderr)\nsys.exit('out of luck')\n")
    monkeypatch.setattr(kmeans, "SCRIPTS", str(tmp_path))
    arguments = ["--clusters", "2", "--dest", str(tmp_path / "data"), "--threads", "1"]
    assert kmeans.main([str(tmp_path / "feat"), "--splits", "train", *arguments]) == 1
    assert capfd.readouterr().err == "learn_kmeans.py failed: out of luck\n"
    assert not (tmp_path / "data" / "train.km").exists()


def test_labels_of_all_shards_in_order(tmp_path):
    (tmp_path / "train_0_2.km").write_text("1 2 3\n4\n")
    (tmp_path / "train_1_2.km").write_text("5 6\n")
    assert join_labels(str(tmp_path), "train", 2) == ["1 2 3", "4", "5 6"]
    with pytest.raises(ValueError, match="train_2_3.km: no such file; make it with --nshard 3 --rank 2"):
        for rank in range(2):
            (tmp_path / f"train_{rank}_3.km").write_text("1\n")
        join_labels(str(tmp_path), "train", 3)


@pytest.mark.slow
def test_the_same_labels_as_fairseqs(tmp_path, example):
    feat = tmp_path / "feat"
    write_features(feat, "train", 1, [30, 41, 25], seed=0)
    example("hubert/simple_kmeans/learn_kmeans.py", feat, "train", 1, tmp_path / "model", CLUSTERS)
    example("hubert/simple_kmeans/dump_km_label.py", feat, "train", tmp_path / "model", 1, 0, tmp_path / "theirs")
    np.save(str(tmp_path / "kmeans.npy"), joblib.load(str(tmp_path / "model")).cluster_centers_.astype(np.float32))
    assert kmeans.main([str(feat), "--splits", "train", "--known", "--dest", str(tmp_path)]) == 0
    assert (tmp_path / "train.km").read_bytes() == (tmp_path / "theirs" / "train_0_1.km").read_bytes()


def test_more_than_the_memory_is_refused(tmp_path, capsys):
    write_features(tmp_path / "feat", "train", 1, [1000], seed=0)
    arguments = [str(tmp_path / "feat"), "--splits", "train", "--clusters", "4", "--dest", str(tmp_path / "data")]
    assert kmeans.main([*arguments, "--memory", "0.00001"]) == 1
    assert "would hold 6.4e-05 GB, and --memory is 1e-05: learn on a part of the" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"no array", b"", np.zeros(3, dtype=np.float32)])
def test_centres_that_are_none_are_refused(tmp_path, capsys, content):
    path = tmp_path / "kmeans.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(str(path), content)
    write_features(tmp_path / "feat", "train", 1, [10], seed=0)
    assert kmeans.main([str(tmp_path / "feat"), "--splits", "train", "--known", "--dest", str(tmp_path)]) == 1
    assert f"{path}: no " in capsys.readouterr().err
    array = np.array([[open]], dtype=object)
    np.save(str(path), array, allow_pickle=True)
    with pytest.raises(ValueError, match="no cluster centres"):
        kmeans.read_centres(str(path))


def test_label_sets_of_two_layers_stand_side_by_side(tmp_path, corpus, checkpoints):
    """From audio to files that fairseq's task reads, by each way to make them; `km` is as it was."""
    data = tmp_path / "data"
    shutil.copytree(str(corpus), str(data), ignore=shutil.ignore_patterns("*.km*"))
    for layer, clusters in ((1, 5), (3, 8)):
        feat, name = tmp_path / f"layer{layer}", f"km{layer}"
        hubert = ["--feature", "hubert", "--checkpoint", checkpoints("tiny"), "--layer", str(layer)]
        assert features.main([str(data), "valid", str(feat), *hubert]) == 0
        arguments = [str(feat), "--splits", "valid", "--dest", str(data), "--label", name]
        assert kmeans.main([*arguments, "--clusters", str(clusters), "--threads", "1"]) == 0
        assert np.load(str(data / f"kmeans.{name}.npy")).shape == (clusters, 48)
        expected = (data / f"valid.{name}").read_bytes()
        assert {int(label) for label in expected.split()} == set(range(clusters))
        for again in ("--known", "--join"):
            (data / f"valid.{name}").unlink()
            assert kmeans.main([*arguments, again]) == 0
            assert (data / f"valid.{name}").read_bytes() == expected
        assert (data / f"dict.{name}.txt").read_text() == "".join(f"{cluster} 1\n" for cluster in range(clusters))
    made = sorted(path.name for path in data.iterdir() if "km" in path.name)
    assert made == ["dict.km1.txt", "dict.km3.txt", "kmeans.km1.npy", "kmeans.km3.npy", "valid.km1", "valid.km3"]


@pytest.mark.parametrize("name", ["", "km 4", "../km", "km.4", "tsv", "k\n"])
def test_a_name_that_is_no_word_is_refused(tmp_path, capsys, name):
    write_features(tmp_path / "feat", "train", 1, [10], seed=0)
    arguments = [str(tmp_path / "feat"), "--splits", "train", "--clusters", "2", "--dest", str(tmp_path / "data")]
    assert kmeans.main([*arguments, "--label", name]) == 1
    told = capsys.readouterr().err
    assert told.startswith("--label ") and told.count("\n") == 1 and not (tmp_path / "data").exists()


def test_labels_by_shard_are_those_in_one_piece(tmp_path, corpus, checkpoints):
    """From audio to labels: through features, and without them, in one shard and in three."""
    feat, data = tmp_path / "feat", tmp_path / "data"
    shutil.copytree(str(corpus), str(data), ignore=shutil.ignore_patterns("*.km*"))
    hubert = ["--feature", "hubert", "--checkpoint", checkpoints("tiny"), "--layer", "2"]
    start = [str(data), "train", str(feat), *hubert]
    assert features.main(start) == 0
    arguments = [str(feat), "--splits", "train", "--dest", str(data)]
    assert kmeans.main([*arguments, "--clusters", "8", "--threads", "1"]) == 0
    expected = (data / "train.km").read_bytes()
    assert len(set(expected.split())) > 3
    for nshard in ("1", "3"):
        for rank in range(int(nshard)):
            shard = ["--nshard", nshard, "--rank", str(rank)]
            assert features.main([*start, "--kmeans", str(data / "kmeans.npy"), *shard]) == 0
        (data / "train.km").unlink()
        assert kmeans.main([*arguments, "--join", "--nshard", nshard]) == 0
        assert (data / "train.km").read_bytes() == expected
    assert features.main([str(data), "train", str(feat), "--kmeans", str(data / "kmeans.npy")]) == 1  # of MFCC
