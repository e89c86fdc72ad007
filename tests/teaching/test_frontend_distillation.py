"""The two stages of front-end distillation, run by `fairseq-hydra-train`."""

import pytest
import torch

from distill_user_dir.checkpoints.loading import load
from distill_user_dir.stages import FRONTEND
from distill_user_dir.training.processes import free_port
from tests.commands import Process, kill_at, run, train_command
from tests.helpers import distill_overrides

STAGED = {
    "frontend": "fbank",
    "criterion.frontend_updates": 5,
    "dataset.batch_size": 2,  # six updates an epoch; fairseq does not number the checkpoint at its end
    "dataset.validate_interval_updates": 2,
    "checkpoint.save_interval_updates": 2,
    "checkpoint.keep_interval_updates": -1,
    "checkpoint.patience": 1,  # any validation of the first stage that counted as a worse one would end the run
    "optimization.max_update": 16,
    "lr_scheduler.warmup_updates": 5,
    "model.spec_freq_masks": 2,
    "model.spec_time_masks": 2,
    "model.spec_time_width": 20,
}
BOUNDARY = "update 5: stage 2 of the front-end distillation, the whole student learns"


@pytest.fixture(scope="module")
def command(checkpoints, corpus, stats):
    def made(folder, **more):
        options = {**STAGED, "model.fbank_stats": stats, **more}
        return train_command("distill", "laptop", distill_overrides(checkpoints("tiny"), corpus, folder, **options))

    return made


@pytest.fixture(scope="module")
def through(tmp_path_factory, command):
    folder = tmp_path_factory.mktemp("through")
    return folder, run(command(folder), folder)


def at(folder, update):
    (path,) = folder.glob(f"checkpoint_*_{update}.pt")
    return load(str(path))


def rest(state):
    return {name: value for name, value in state["model"].items() if not name.startswith(FRONTEND)}


def moments(state):
    """Sizes of the first moments that the optimiser keeps."""
    return [value["exp_avg"].numel() for value in state["last_optimizer_state"]["state"].values()]


def front_sizes(state):
    return [v.numel() for name, v in state["model"].items() if name.startswith(FRONTEND) and ".norm." not in name]


def check_first_stage(folder):
    early, late = at(folder, 2), at(folder, 4)
    assert rest(early).keys() == rest(late).keys()
    assert all(torch.equal(value, rest(late)[name]) for name, value in rest(early).items())
    front = [name for name in early["model"] if name.startswith(FRONTEND) and ".norm." not in name]
    assert not any(torch.equal(early["model"][name], late["model"][name]) for name in front)
    assert sorted(moments(late)) == sorted(front_sizes(late))  # no optimiser state for anything else
    return rest(late)


def validations(log):
    """{update: {metric: text}} of the lines of validations."""
    lines = [line.split("[valid]")[1] for line in log.splitlines() if "[valid]" in line and " | frontend " in line]
    found = [dict(part.strip().split(" ", 1) for part in line.split(" | ")[1:]) for line in lines]
    return {int(one["num_updates"]): one for one in found}


def test_only_the_front_end_learns_in_the_first_stage(through):
    check_first_stage(through[0])


def test_everything_but_the_front_ends_head_learns_in_the_second(through):
    early, late = at(through[0], 8)["model"], at(through[0], 16)["model"]
    same = {name for name in early if torch.equal(early[name], late[name])}
    assert same == {
        "frontend_head.weight",
        "frontend_head.bias",
        "feature_extractor.norm.mean",
        "feature_extractor.norm.std",
        "mask_emb",
    }


def test_the_log_tells_the_boundary_and_the_front_ends_loss(through):
    log = through[1]
    assert log.count("stage 1 of the front-end distillation") == 1 and log.count(BOUNDARY) == 1
    found = validations(log)
    assert {2, 4, 6, 8, 16} <= found.keys()
    losses = [float(found[update]["frontend"]) for update in (2, 4, 6, 16)]
    assert losses[0] > losses[1] > 0 and losses[3] > 0
    assert {found[update]["loss"] for update in (2, 4)} == {"None"} and "regression" not in found[2]
    assert all(float(found[update]["loss"]) > 0 and "regression" in found[update] for update in (6, 8, 16))


def test_the_best_checkpoint_is_of_the_second_stage(through):
    folder, log = through
    best = load(str(folder / "checkpoint_best.pt"))
    losses = {update: float(one["loss"]) for update, one in validations(log).items() if one["loss"] != "None"}
    assert best["optimizer_history"][-1]["num_updates"] == min(losses, key=losses.get) > 5
    assert best["extra_state"]["best"] == min(losses.values())
    assert "best" not in at(folder, 4)["extra_state"]


@pytest.mark.slow
def test_killed_in_either_stage_it_ends_as_one_that_ran_through(through, command, tmp_path):
    kill_at(command(tmp_path), tmp_path, 4)
    kill_at(command(tmp_path), tmp_path, 10)
    log = run(command(tmp_path), tmp_path)
    assert "update 10: stage 2" in log and "stage 1" not in log
    ours, theirs = at(tmp_path, 16), at(through[0], 16)
    assert all(torch.equal(ours["model"][name], value) for name, value in theirs["model"].items())
    ours, theirs = ours["last_optimizer_state"]["state"], theirs["last_optimizer_state"]["state"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[i]["exp_avg_sq"], theirs[i]["exp_avg_sq"]) for i in theirs)


@pytest.mark.slow
def test_two_workers_leave_the_rest_alone_as_well(through, command, tmp_path):
    port = free_port()
    workers = []
    for rank in range(2):
        options = {"world_size": 2, "rank": rank, "backend": "gloo", "no_spawn": "true"}
        options["init_method"] = f"tcp://127.0.0.1:{port}"
        options = {f"distributed_training.distributed_{name}": value for name, value in options.items()}
        workers.append(Process(command(tmp_path, **options, **{"optimization.max_update": 6}), tmp_path))
    ends = [worker.end() for worker in workers]
    assert [status for status, _ in ends] == [0, 0], ends[0][1][-3000:]
    ours, theirs = check_first_stage(tmp_path), rest(at(through[0], 4))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_half_precision_leaves_the_rest_alone_as_well(command, tmp_path, kind):
    options = {"optimization.max_update": 6, f"common.{kind}": "true", "common.fp16_no_flatten_grads": "true"}
    run(command(tmp_path, **options), tmp_path)
    check_first_stage(tmp_path)
