import numpy as np
import pytest
import torch

from distill_user_dir import similarity
from distill_user_dir.profiling.similarity import Similarity
from distill_user_dir.student import load_student


def cka(x, y):
    """By the definition: centred Gram matrices of the frames, (F, F)."""
    centre = np.eye(len(x)) - 1.0 / len(x)
    k, m = (centre @ (one @ one.T) @ centre for one in (x, y))
    return (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())


def test_by_gram_matrices_whatever_the_batches():
    random = np.random.RandomState(1)
    mixing = random.standard_normal((6, 4))
    ours = [random.standard_normal((90, 6)) * 3 + 50, random.standard_normal((90, 3))]
    theirs = [ours[0] @ mixing + 0.5 * random.standard_normal((90, 4)) - 7, random.standard_normal((90, 5))]
    found = Similarity()
    for start, end in ((0, 7), (7, 60), (60, 90)):
        found.add(*([torch.tensor(layer[start:end]) for layer in layers] for layers in (ours, theirs)))
    expected = [[cka(x, y) for y in theirs] for x in ours]
    np.testing.assert_allclose(found.result(), expected, rtol=1e-9)
    assert expected[0][0] > 0.5 > expected[0][1]


def test_rotation_and_scale_make_no_difference():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))
    found = Similarity()
    found.add([x], [3 * x @ rotation + 5])
    assert found.result()[0][0] == pytest.approx(1.0)


def test_the_command(distilled, checkpoints, corpus, tmp_path, capsys):
    teacher, plot = checkpoints("tiny"), tmp_path / "cka.png"
    manifest = str(corpus / "valid.tsv")
    assert similarity.main([distilled, teacher, manifest, "--plot", str(plot), "--frames", "60"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["1", "2", "3"] and [line.split()[0] for line in lines[1:]] == ["1", "2", "3"]
    assert all(0 <= float(cell) <= 1 for line in lines[1:] for cell in line.split()[1:]) and plot.stat().st_size > 5000
    assert similarity.main([teacher, teacher, manifest]) == 0
    own = [line.split()[1:] for line in capsys.readouterr().out.splitlines()[1:]]
    assert [own[i][i] for i in range(3)] == ["1.00"] * 3 and own[0] != ["1.00"] * 3
    assert similarity.main([distilled, str(tmp_path / "no.pt"), manifest]) == 1
    assert "no such file" in capsys.readouterr().err


def test_frames_that_do_not_align(distilled, checkpoints, corpus):
    class Faster:
        def __call__(self, audio):
            return load_student(distilled)(audio[:, ::2])

    manifest = similarity.read_manifest(str(corpus / "valid.tsv"))
    with pytest.raises(ValueError, match="frames of .* do not align"):
        similarity.similarity(load_student(checkpoints("tiny")), Faster(), manifest, 10, "cpu")
