"""The parts of a fairseq checkpoint, each of plain values, and the layout that its model has to fit."""

import argparse
import math
from typing import Any, Dict, Iterator, List, Optional, Tuple

import torch
from fairseq.data.dictionary import Dictionary
from fairseq.dataclass.configs import FairseqConfig
from torch import Tensor

from distill_user_dir.checkpoints.layouts.ctc import CtcLayout, flat
from distill_user_dir.checkpoints.layouts.hubert import SETS, HubertLayout
from distill_user_dir.checkpoints.layouts.layout import Layout
from distill_user_dir.checkpoints.layouts.student_hubert import StudentLayout
from distill_user_dir.checkpoints.layouts.transformer_lm import TransformerLmLayout
from distill_user_dir.checkpoints.pickled import Refused
from distill_user_dir.messages import quoted

LAYOUTS: Tuple[Layout, ...] = (HubertLayout(), StudentLayout(), CtcLayout(), TransformerLmLayout())
CONFIGS = frozenset(FairseqConfig.__dataclass_fields__)
MORE = ("model", "criterion", "last_optimizer_state")  # whatever else is there goes no further
PARTS = ("cfg", "args", "optimizer_history", "task_state", "extra_state")  # beside the model; by these it is known
MOST_VALUES, LONGEST_TEXT, MOST_CHARACTERS = 10_000, 10_000, 1_000_000  # of the configs; fairseq's have some hundred
COUNTED = ("num_batches_tracked", ".version")  # whole numbers beside weights: a batch norm's, an adaptive softmax's
UNUSED = "._float_tensor"  # of fairseq's, for the device alone, and never filled
METERS = ("AverageMeter", "SumMeter", "TimeMeter", "StopwatchMeter", "MetersDict", "ConcatTensorMeter")


def is_checkpoint(content: Any) -> bool:
    """Whether fairseq wrote it, and not somebody else's program, for whom it is but data."""
    return isinstance(content, dict) and any(content.get(part) is not None for part in PARTS)


def settle(content: Any) -> None:
    """Leaves in a checkpoint what fairseq is to have of it: configs with the fields of their dataclasses and no others,
    in `cfg`, whether they were there or in `args`. Refused unless it is of a known kind and its parts fit together."""
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise Refused("no fairseq checkpoint: it has no `model` state dict")
    check_weights(content["model"])
    check_plain(content)
    symbols = check_task_state(content.get("task_state"))
    configs = configs_of(content)
    settled = layout_of(configs["model"]).settled(configs["model"], configs["task"], content["model"], symbols)
    others = {
        key: part for key, part in (content.get("cfg") or {}).items() if key in CONFIGS and isinstance(part, dict)
    }
    content["cfg"], content["args"] = {**others, **settled._asdict()}, None
    for key in set(content) - {*PARTS, *MORE}:
        del content[key]
    check_history(content.get("optimizer_history"))
    check_extra(content.get("extra_state"))
    complete(content)


def complete(content: Dict[str, Any]) -> None:
    """What fairseq asks for without looking whether it is there: a file without is one of no updates."""
    history, extra = content.get("optimizer_history"), content.get("extra_state")
    content["optimizer_history"] = history or [{"optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}]
    content["extra_state"] = {} if extra is None else extra
    if content["extra_state"].get("train_iterator") is None:
        content["extra_state"].setdefault("epoch", 1)
    if content.get("task_state") is None:
        content["task_state"] = {}


def configs_of(content: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    """`model` and `task` configs as dicts; an old `args` Namespace serves as both."""
    cfg, args = content.get("cfg"), content.get("args")
    if cfg is not None and args is not None:
        raise Refused("it has both `cfg` and `args`, and fairseq writes one of them")
    if isinstance(args, argparse.Namespace):
        return flat(args)
    if isinstance(cfg, dict) and isinstance(cfg.get("model"), dict) and isinstance(cfg.get("task"), dict):
        return cfg
    raise Refused("no fairseq checkpoint: neither `cfg` nor `args` says what model it is")


def layout_of(model: Dict[str, Any]) -> Layout:
    name = model.get("_name")
    found = next((layout for layout in LAYOUTS if isinstance(name, str) and layout.knows(name)), None)
    if found is None:
        known = ", ".join(known for layout in LAYOUTS for known in layout.names)
        raise Refused(f"a model {quoted(name)}; expected one of {known}")
    return found


def check_weights(weights: Dict[Any, Any]) -> None:
    """Every one a tensor of finite floating-point numbers."""
    for name, weight in weights.items():
        if not isinstance(name, str) or not isinstance(weight, Tensor):
            raise Refused(f"`model` holds {quoted(name)}, which is no weight")
        if not weight.is_floating_point():
            if name.endswith(COUNTED) and weight.numel() == 1:
                continue
            raise Refused(f"weight {quoted(name)} is {weight.dtype}, no floating point")
        if not is_finite(weight) and not (name.endswith(UNUSED) and weight.numel() == 1):
            raise Refused(f"weight {quoted(name)} has numbers that are not finite")


def is_finite(weight: Tensor) -> bool:
    """One pass and no copy: the smallest and the largest number of an array with a NaN are NaN."""
    if weight.numel() == 0:
        return True
    return all(math.isfinite(float(end)) for end in torch.aminmax(weight))


def check_plain(content: Dict[str, Any]) -> None:
    """Configs of plain values, few enough, which refer to nothing outside of them."""
    left, characters = MOST_VALUES, MOST_CHARACTERS
    for key, value in values([(part, content[part]) for part in ("cfg", "args") if part in content]):
        left -= 1
        if left < 0:
            raise Refused(f"its config has more than {MOST_VALUES} values")
        characters -= len(value) if isinstance(value, str) else 0
        if characters < 0 or isinstance(value, str) and len(value) > LONGEST_TEXT:
            raise Refused(f"its config has more text than {LONGEST_TEXT} characters a value, or {MOST_CHARACTERS}")
        if isinstance(value, str) and "${" in value:
            raise Refused(f"its config refers to another value: {quoted(key)} is {quoted(value)}")
        if not (value is None or isinstance(value, (bool, int, float, str))):
            raise Refused(f"its config holds {quoted(value)}: {quoted(key)}")


def values(waiting: List[Tuple[str, Any]]) -> Iterator[Tuple[str, Any]]:
    """Every value in nested containers, with its key; keys are text, and give none a way to be a resolver's."""
    while waiting:
        key, node = waiting.pop()
        node = vars(node) if isinstance(node, argparse.Namespace) else node
        if isinstance(node, dict):
            for inner in node:
                yield inner, str(inner)
            waiting.extend((str(inner), item) for inner, item in node.items())
            yield key, None
        elif isinstance(node, (list, tuple)):
            waiting.extend((key, item) for item in node)
            yield key, None
        else:
            yield key, node


def check_task_state(state: Optional[Any]) -> int:
    """Dictionaries of label sets, and of a fine-tuned model's symbols -> the symbols of all label sets."""
    if state is None:
        return 0
    if not isinstance(state, dict):
        raise Refused(f"its task_state is {quoted(state)}")
    listed = state.get("dictionaries")
    if listed is not None and not (isinstance(listed, list) and all(isinstance(d, Dictionary) for d in listed)):
        raise Refused("the dictionaries in its task_state are no list of dictionaries")
    if len(listed or ()) > SETS:
        raise Refused(f"it has dictionaries of {len(listed)} label sets; {SETS} are the most")
    target = state.get("target_dictionary")
    if target is not None and not isinstance(target, Dictionary):
        raise Refused(f"the target_dictionary in its task_state is {quoted(target)}")
    return sum(len(dictionary) for dictionary in listed or ())


def check_history(history: Optional[Any]) -> None:
    if history is None:
        return
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        raise Refused("its optimizer_history is no list of settings")
    for entry in history:
        count, schedule = entry.get("num_updates", 0), entry.get("lr_scheduler_state", {})
        if type(count) is not int or not 0 <= count < 2**31 or not isinstance(schedule, dict) or "optimizer" in entry:
            raise Refused("its optimizer_history is damaged: the number of updates or the schedule is none")


def check_extra(extra: Optional[Any]) -> None:
    """Where it is in the data, and its meters, whose class fairseq looks up by name."""
    if extra is None:
        return
    if not isinstance(extra, dict):
        raise Refused(f"its extra_state is {quoted(extra)}")
    place = extra.get("train_iterator")
    if place is not None and not isinstance(place, dict):
        raise Refused("its place in the data (train_iterator) is damaged")
    numbers = [*(place or {}).values(), *(extra[key] for key in ("epoch", "batch_offset") if key in extra)]
    if any(not isinstance(value, int) or not 0 <= value < 2**31 for value in numbers):
        raise Refused("its place in the data (train_iterator) is damaged")
    if place is not None and not {"epoch", "iterations_in_epoch"} <= place.keys():
        raise Refused("its place in the data (train_iterator) is damaged")
    spent = extra.get("previous_training_time", 0)  # several workers have added it up as a tensor
    if not isinstance(spent, (int, float)) and not (isinstance(spent, Tensor) and spent.numel() == 1):
        raise Refused("its previous_training_time is no number")
    meters = extra.get("metrics")
    if meters is not None and not isinstance(meters, dict):
        raise Refused("its metrics are damaged")
    for rows in (meters or {}).values():
        if not isinstance(rows, (list, tuple)) or not all(is_meter(row) for row in rows):
            raise Refused("its metrics are damaged")


def is_meter(row: Any) -> bool:
    """(priority, key, class, state)."""
    return isinstance(row, (list, tuple)) and len(row) == 4 and row[2] in METERS and isinstance(row[3], dict)
