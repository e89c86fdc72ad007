import numpy as np
import pytest

from manifests import kmeans

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
    assert sorted(path.name for path in dest.iterdir()) == ["dict.km.txt", "kmeans.joblib", "train.km", "valid.km"]
    told = [line for line in capfd.readouterr().out.splitlines() if "simple_kmeans" in line]
    assert [line.split()[1].rsplit("/", 1)[1] for line in told] == ["learn_kmeans.py"] + ["dump_km_label.py"] * 4


def test_missing_features_are_named(tmp_path, capsys):
    write_features(tmp_path / "feat", "train", 1, [10, 10], seed=0)
    arguments = ["--clusters", "2", "--dest", str(tmp_path / "data")]
    assert kmeans.main([str(tmp_path / "feat"), *arguments]) == 1
    assert str(tmp_path / "feat" / "valid_0_1.npy") in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_script_that_fails_ends_with_an_error(tmp_path, capfd):
    write_features(tmp_path / "feat", "train", 1, [3], seed=0)
    arguments = ["--clusters", "50", "--dest", str(tmp_path / "data"), "--threads", "1"]
    assert kmeans.main([str(tmp_path / "feat"), "--splits", "train", *arguments]) == 1
    assert "learn_kmeans.py" in capfd.readouterr().err
    assert not (tmp_path / "data" / "train.km").exists()


def test_labels_must_match_the_frames(tmp_path):
    (tmp_path / "train_0_2.km").write_text("1 2 3\n4\n")
    (tmp_path / "train_1_2.km").write_text("5 6\n")
    assert kmeans.join_labels(str(tmp_path), "train", [[3, 1], [2]]) == ["1 2 3", "4", "5 6"]
    with pytest.raises(ValueError, match="train_1_2.km: 1 lines with 2 labels for 1 utterances with 3 frames"):
        kmeans.join_labels(str(tmp_path), "train", [[3, 1], [3]])
