import pytest
import torch
from fairseq.models.hubert.hubert import HubertModel

from distill_user_dir.data.frame_labels import check_frame_labels, expected_labels
from distill_user_dir.data.manifest import Manifest
from distill_user_dir.modules.frame_alignment import align, labelled_frames
from tests.helpers import dictionary


@pytest.mark.parametrize("ratio", [1.0, 2.0, 1.5, 0.5])
@pytest.mark.parametrize("frames, labels", [(10, 8), (10, 9), (10, 10), (10, 13), (10, 19), (10, 20), (10, 25), (3, 1)])
def test_alignment_is_fairseqs(ratio, frames, labels):
    """An utterance alone, against `HubertModel.forward_targets`."""
    model = HubertModel.__new__(HubertModel)
    torch.nn.Module.__init__(model)
    model.feat2tar_ratio = ratio
    given = torch.arange(100, 100 + labels).unsqueeze(0)
    features, (expected,) = model.forward_targets(torch.zeros(1, 4, frames), [given])
    if expected.size(1) == 0:
        return  # less than one frame: fairseq goes on with nothing, here one frame is left
    kept = int(labelled_frames(torch.tensor([frames]), torch.tensor([labels]), ratio))
    assert kept == features.size(2) == expected.size(1)
    assert torch.equal(align(given, frames, ratio)[:, :kept], expected)


def test_alignment_in_a_batch_is_each_utterances_own():
    frames, labels = torch.tensor([10, 7, 4]), torch.tensor([19, 15, 8])
    assert labelled_frames(frames, labels, 2.0).tolist() == [9, 7, 4]
    assert labelled_frames(torch.tensor([1]), torch.tensor([1]), 2.0).tolist() == [1]


@pytest.mark.parametrize(
    "samples, at_50, at_100", [(399, 0, 0), (400, 1, 1), (719, 1, 2), (720, 2, 3), (16000, 49, 98)]
)
def test_expected_labels(samples, at_50, at_100):
    """HuBERT's CNN and Kaldi's features, snip_edges."""
    assert expected_labels(samples, 16000, 50) == at_50
    assert expected_labels(samples, 16000, 100) == at_100


def labels_of(counts, **changes):
    lines = [["3"] * count for count in counts]
    for line, label in changes.items():
        lines[int(line[1:])][-1] = label
    return "".join(" ".join(line) + "\n" for line in lines)


SIZES = [16000, 32000, 24000]  # 49, 99, 74 frames
GOOD = (49, 99, 74)
BAD = [
    (labels_of((49, 97, 74)), 50, ["train.km:2", "two.wav", "97 labels", "32000 samples", "99 frames", "1 such"]),
    (labels_of((51, 99, 72)), 50, ["train.km:1", "one.wav", "51 labels", "49 frames", "2 such"]),
    (labels_of(GOOD, _2="20"), 50, ["train.km:3", "three.wav", "'20'", "20 in the dictionary"]),
    (labels_of(GOOD, _0="<pad>"), 50, ["train.km:1", "'<pad>'"]),
    (labels_of(GOOD), 100, ["task.label_rate=100", "222 labels", "444", "about 50.0 a second"]),
    (labels_of((98, 198, 148)), 50, ["task.label_rate=50", "about 100.0 a second"]),
    (labels_of(GOOD), -1, ["task.label_rate=-1", "50 or 100"]),
]


def check(tmp_path, text, rate):
    path = tmp_path / "train.km"
    path.write_text(text)
    manifest = Manifest("train.tsv", "/", ["one.wav", "two.wav", "three.wav"], SIZES)
    check_frame_labels(manifest, str(path), dictionary(range(20)), 16000, rate)


@pytest.mark.parametrize("text, rate, told", BAD, ids=range(len(BAD)))
def test_unfit_labels_are_refused(tmp_path, text, rate, told):
    with pytest.raises(ValueError) as error:
        check(tmp_path, text, rate)
    assert all(part in str(error.value) for part in told) and "\n" not in str(error.value)


@pytest.mark.parametrize("counts, rate", [(GOOD, 50), ((50, 98, 75), 50), ((98, 199, 147), 100)])
def test_a_frame_more_or_less_is_fine(tmp_path, counts, rate):
    check(tmp_path, labels_of(counts), rate)
