"""A part of a split: lines stay together, in order, and a larger part holds a smaller one."""

import pytest

from manifests.subset import subset


@pytest.fixture
def data(tmp_path):
    names = [f"{i:02d}.wav" for i in range(30)]
    lines = [str(tmp_path)] + [f"{name}\t{1000 + i}" for i, name in enumerate(names)]
    (tmp_path / "train.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "train.ltr").write_text("".join(f"L {i} |\n" for i in range(30)))
    (tmp_path / "train.km").write_text("".join(f"{i} {i}\n" for i in range(30)))
    return tmp_path


def names(data, split):
    return [line.split("\t")[0] for line in (data / f"{split}.tsv").read_text().splitlines()[1:]]


def test_lines_of_all_files_stay_together(data):
    subset(str(data), "train", "small", 7)
    numbers = [int(name[:2]) for name in names(data, "small")]
    assert len(set(numbers)) == 7 and numbers == sorted(numbers)
    assert (data / "small.tsv").read_text().splitlines()[0] == str(data)
    assert (data / "small.ltr").read_text().splitlines() == [f"L {i} |" for i in numbers]
    assert (data / "small.km").read_text().splitlines() == [f"{i} {i}" for i in numbers]


def test_what_another_command_is_still_writing_is_left_alone(data):
    (data / "train.km2.tmp").write_text("1 2\n")  # one line of 30
    written = subset(str(data), "train", "small", 7)
    assert [path.rpartition("/")[2] for path in written] == ["small.km", "small.ltr", "small.tsv"]


def test_a_larger_part_holds_a_smaller_one_and_another_seed_another(data):
    subset(str(data), "train", "small", 5)
    subset(str(data), "train", "large", 20)
    subset(str(data), "train", "other", 5, seed=2)
    assert set(names(data, "small")) < set(names(data, "large"))
    assert names(data, "small") != names(data, "other")


def test_too_many_or_labels_that_do_not_fit_are_refused(data):
    with pytest.raises(ValueError, match="30 utterances; 31"):
        subset(str(data), "train", "small", 31)
    (data / "train.ltr").write_text("L\n" * 29)
    with pytest.raises(ValueError, match="train.ltr: 29 lines"):
        subset(str(data), "train", "small", 5)
