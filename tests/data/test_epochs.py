"""An epoch costs nothing by itself: data workers go on, and what they give is what a resumed run's new ones give."""

import pytest
import torch
from fairseq import tasks

from tests.commands import listed
from tests.helpers import distill_overrides, recipe, write_corpus

EPOCHS = 4


@pytest.fixture
def task(tmp_path_factory, checkpoints):
    """Of utterances that are all as long, whose order and crops are drawn."""
    folder = write_corpus(tmp_path_factory.mktemp("equal"), {"train": [16000] * 10, "valid": [16000] * 4})
    options = {"task.pad_audio": "false", "task.max_sample_size": 8500}
    cfg = recipe("distill", "laptop", *listed(distill_overrides(checkpoints("tiny"), folder, folder, **options)))

    def make():
        one = tasks.setup_task(cfg.task)
        for split in ("train", "valid"):
            one.load_dataset(split)
        return one

    return make


def batches(task, split, epoch, workers, offset=0):
    """{utterances: audio} of the rest of an epoch, by fairseq's iterator, and the processes that read it."""
    training = {"grouped_shuffling": False} if split == "train" else {}  # as fairseq's trainer
    iterator = task.get_batch_iterator(
        task.datasets[split], max_sentences=3, num_workers=workers, epoch=epoch, seed=1, **training
    )
    if offset:
        state = {"version": 2, "epoch": epoch, "iterations_in_epoch": offset, "shuffle": True}
        iterator.load_state_dict(state)
    found = {
        tuple(b["id"].tolist()): b["net_input"]["source"] for b in iterator.next_epoch_itr(shuffle=split == "train")
    }
    loader = iterator.dataloader
    return found, [] if loader is None or not workers else [worker.pid for worker in loader._iterator._workers]


def same(ours, theirs):
    return list(ours) == list(theirs) and all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_workers_go_on_and_give_what_new_ones_would(task):
    going, processes = task(), set()
    epochs = []
    for epoch in range(1, EPOCHS + 1):
        found, pids = batches(going, "train", epoch, 2)
        processes.update(pids)
        epochs.append(found)
    assert len(processes) == 2  # for all epochs
    assert sum(len(found) for found in epochs) == 4 * EPOCHS
    assert len({tuple(sorted(found)) for found in epochs}) in (1, EPOCHS)  # fairseq 0.12.2 draws batches once
    for epoch in range(1, EPOCHS + 1):
        resumed, _ = batches(task(), "train", epoch, 0)
        assert same(resumed, epochs[epoch - 1])
        resumed, _ = batches(task(), "train", epoch, 2, offset=2)
        assert same(resumed, dict(list(epochs[epoch - 1].items())[2:]))
    first, second = ({i: one for ids, b in found.items() for i, one in zip(ids, b)} for found in epochs[:2])
    assert not any(torch.equal(first[i], second[i]) for i in first)  # other crops


def test_a_resumed_run_hands_its_workers_on(task):
    """The first epoch is a part of one; those after it are whole."""
    going, fresh = task(), task()
    _, before = batches(going, "train", 2, 2, offset=2)
    found, after = batches(going, "train", 3, 2)
    assert before == after and same(found, batches(fresh, "train", 3, 0)[0])


def test_validations_keep_no_workers(task):
    one = task()
    first, kept = batches(one, "valid", 1, 2)
    second, _ = batches(one, "valid", 1, 2)
    assert same(first, second) and kept == []


def test_a_validation_on_the_training_split_disturbs_no_epoch(task):
    one, other = task(), task()
    options = {"max_sentences": 3, "num_workers": 2, "epoch": 2, "seed": 1}
    training = one.get_batch_iterator(one.datasets["train"], grouped_shuffling=False, **options).next_epoch_itr()
    found = [next(training)]
    validation = one.get_batch_iterator(one.datasets["train"], **{**options, "epoch": 1})
    assert sum(1 for _ in validation.next_epoch_itr(shuffle=False, set_dataset_epoch=False)) == 4
    found += list(training)
    found = {tuple(batch["id"].tolist()): batch["net_input"]["source"] for batch in found}
    assert same(found, batches(other, "train", 2, 0)[0])
