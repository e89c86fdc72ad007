"""Several splits as one data set, with transcripts and without."""

import numpy as np
import pytest
from omegaconf import OmegaConf

from distill_user_dir.data.dataset import NOTHING, PSEUDO, TRANSCRIPT
from distill_user_dir.tasks.hubert_distillation import HubertDistillationConfig, HubertDistillationTask
from tests.helpers import write_corpus

SPLITS = {"labelled": [9000, 16000, 12000], "written": [8000, 9500], "rest": [10000 + 400 * i for i in range(40)]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_corpus(tmp_path_factory.mktemp("splits"), {**SPLITS, "valid": [9000]})
    (folder / "rest.ltr").unlink()
    return folder


def task(data, **options):
    options = {
        "train_subset": "labelled,written,rest",
        "unlabelled": ["rest"],
        "pseudo_labelled": ["written"],
        **options,
    }
    options.update(data=str(data), labels=["ltr"], fine_tuning=True, single_target=True, seed=7, label_rate=-1.0)
    options.update(best_checkpoint_metric="wer", save_dir="/none")
    return HubertDistillationTask(OmegaConf.merge(OmegaConf.structured(HubertDistillationConfig), options))


def loaded(data, **options):
    made = task(data, **options)
    made.load_dataset(made.cfg.train_subset)
    return made.datasets[made.cfg.train_subset], made


def test_utterances_keep_their_audio_and_their_words(data):
    joined, made = loaded(data)
    assert len(joined) == 45 and list(joined.sizes) == [size for sizes in SPLITS.values() for size in sizes]
    alone = {}
    for split in ("labelled", "written"):
        other = task(data, train_subset=split)
        other.load_dataset(split)
        alone[split] = other.datasets[split]
    batch = joined.collater([joined[index] for index in (1, 4, 44)])
    assert batch["sources"] == [TRANSCRIPT, PSEUDO, NOTHING] and batch["lengths"] == [16000, 9500, 25600]
    expected = [alone["labelled"][1], alone["written"][1]]
    for row, one in enumerate(expected):
        assert batch["target"][row, : batch["target_lengths"][row]].tolist() == one["label_list"][0].tolist()
        assert np.array_equal(batch["net_input"]["source"][row, : batch["lengths"][row]], one["source"])
    assert batch["target_lengths"].tolist() == [len(one["label_list"][0]) for one in expected] + [0]
    nothing = joined.collater([joined[index] for index in (5, 6)])
    assert nothing["target"].shape == (2, 0) and nothing["ntokens"] == 0


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5])
def test_share_with_transcripts(data, share):
    """0.02 is less than there is: all of the others, and some with transcripts; 0.2 and 0.5 the other way round."""
    joined, _ = loaded(data, labelled_share=share)
    sizes, seen, epochs = np.array(joined.sizes), set(), []
    for epoch in range(1, 30):
        joined.set_epoch(epoch)
        order = joined.ordered_indices()
        assert len(set(order)) == len(order) and (np.diff(sizes[order]) <= 0).all()
        with_words = joined.sources[order] == TRANSCRIPT
        assert abs(sizes[order][with_words].sum() / sizes[order].sum() - share) < max(sizes) / sizes[order].sum()
        assert (joined.sources != TRANSCRIPT).sum() == (~with_words).sum() if share < 0.04 else with_words.sum() == 3
        seen |= set(order)
        epochs.append(order.tolist())
    assert len(seen) == len(joined) or share == 0.5
    assert len({tuple(sorted(order)) for order in epochs}) > 1
    again, _ = loaded(data, labelled_share=share)
    again.set_epoch(3)
    assert sorted(again.ordered_indices()) == sorted(epochs[2])


def test_a_relative_root_counts_once(data, monkeypatch):
    for split in ("labelled", "written"):
        lines = (data / f"{split}.tsv").read_text().splitlines()
        (data / f"{split}_here.tsv").write_text("\n".join(["wav", *lines[1:]]) + "\n")
        (data / f"{split}_here.ltr").write_text((data / f"{split}.ltr").read_text())
    monkeypatch.chdir(data)
    joined, _ = loaded(data, train_subset="labelled_here,written_here")
    assert [joined[index]["source"].numel() for index in (0, 4)] == [9000, 9500]


def test_what_cannot_be(data):
    for share, train in ((0.0, "labelled,rest"), (1.0, "labelled,rest"), (0.5, "labelled"), (0.5, "rest")):
        with pytest.raises(ValueError, match=f"task.labelled_share={share:g}.*have a transcript"):
            loaded(data, train_subset=train, labelled_share=share)
    for split in ("rest", "written"):
        with pytest.raises(ValueError, match="best_checkpoint_metric=loss"):
            task(data).load_dataset(split)
    with pytest.raises(ValueError, match="both name rest"):
        loaded(data, pseudo_labelled=["rest"])
    with pytest.raises(ValueError, match="task.unlabelled names rset, but there is no .*rset.tsv"):
        loaded(data, unlabelled=["rest", "rset"])
    with pytest.raises(ValueError, match="rest.ltr: no such label file.*task.unlabelled"):
        loaded(data, unlabelled=[])


def test_an_utterance_longer_than_a_batch_is_named(data):
    joined, made = loaded(data)
    made.get_batch_iterator(joined, max_tokens=26000, epoch=1)
    with pytest.raises(ValueError, match=r"rest/039.wav has 25600 samples, more than dataset.max_tokens_valid=25000"):
        made.get_batch_iterator(joined, max_tokens=25000)
