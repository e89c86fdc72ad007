"""What every layout has: names, fields of plain types, and the weights that its sizes call for."""

import argparse
import math
from typing import Any, Callable, Dict, Iterator, Mapping, NamedTuple, Tuple

from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
from fairseq.dataclass.configs import CheckpointConfig, CommonConfig, DatasetConfig, OptimizationConfig
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_NAME_REGISTRY, MODEL_DATACLASS_REGISTRY
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from distill_user_dir.checkpoints.pickled import Refused
from distill_user_dir.messages import quoted, reason

Shape = Tuple[int, ...]
Weights = Mapping[str, Tensor]
Config = Dict[str, Any]
LARGEST, LONGEST = 2**31, 1000  # of the numbers in a model's config, and of its lists
BESIDE, ALLOWED = 4, 10**7  # numbers of heads, for each number in the file and in any case: they may not be in it
# what fields of models and tasks may refer to by default, as they do in a training
REFERRED = {
    "common": CommonConfig,
    "dataset": DatasetConfig,
    "checkpoint": CheckpointConfig,
    "optimization": OptimizationConfig,
}


class Configs(NamedTuple):
    """model, task: as plain dicts."""

    model: Config
    task: Config


class Layout:
    """names: under which fairseq registers the model; tasks: of its config, by their registered names; decodes: whether
    it gives units that can be decoded; positive: fields above 0; texts: fields of free text, and what reads them where
    fairseq would evaluate them (ValueError for anything but data). Any other text has to be one of a choice."""

    names: Tuple[str, ...] = ()
    tasks: Tuple[str, ...] = ()
    decodes = False
    positive: Tuple[str, ...] = ()
    texts: Dict[str, Callable[[str], Any]] = {}

    def knows(self, name: str) -> bool:
        return name in self.names

    def weights(self, model: DictConfig, there: Weights) -> Iterator[Tuple[str, Shape]]:
        """Each weight that the config calls for and whose size it sets, which has to be in the file."""
        raise NotImplementedError

    def heads(self, model: DictConfig, symbols: int) -> Iterator[Shape]:
        """Shapes of what fairseq builds besides, and what may be missing in the file; symbols: in all dictionaries."""
        return iter(())

    def settled(self, model: Config, task: Config, there: Weights, symbols: int) -> Configs:
        """The configs as fairseq is to have them: fields of the registered dataclasses and no others, of their types.
        Refused unless they make a model as large as its weights."""
        name = task.get("_name")
        if name is not None and name not in self.tasks:
            raise Refused(f"its task is {quoted(name)}; expected {' or '.join(self.tasks)}")
        configs = resolved(as_architecture(model), dict(task, _name=name or self.tasks[0]))
        self.check_texts(configs.model)
        try:
            self.check_weights(OmegaConf.create(configs.model), there, symbols)
        except OmegaConfBaseException as error:
            raise Refused(f"its model config does not fit ({reason(error)})") from None
        return configs

    def check_texts(self, model: Config) -> None:
        fields = MODEL_DATACLASS_REGISTRY[model["_name"]].__dataclass_fields__
        for key, value in model.items():
            free = isinstance(value, str) and "str" in str(fields[key].type) and key != "_name"
            if not free or value in (fields[key].default, "", "???"):
                continue
            if key not in self.texts:
                raise Refused(f"its {key} is {quoted(value)}, and a model with it is not read here")
            try:
                self.texts[key](value)
            except ValueError as error:
                raise Refused(str(error)) from None

    def check_weights(self, model: DictConfig, there: Weights, symbols: int) -> None:
        for field in self.positive:
            if not model[field] > 0:
                raise Refused(f"its {field} is {quoted(model[field])}; expected a number above 0")
        for name, shape in self.weights(model, there):
            if min(shape) < 1:
                raise Refused(f"its config wants `{name}` of shape {shape}; sizes are 1 or more")
            found = there.get(name)
            if found is None or found.shape != shape:
                has = "has none" if found is None else f"has {tuple(found.shape)}"
                raise Refused(f"its config wants `{name}` of shape {shape}, and the file {has}")
        numbers, wanted = sum(weight.numel() for weight in there.values()), 0
        for shape in self.heads(model, symbols):
            wanted += math.prod(shape)
            if min(shape) < 0 or wanted > BESIDE * numbers + ALLOWED:
                raise Refused(f"its config makes a model of far more than the {numbers} numbers in the file")


def any_text(text: str) -> str:
    """For paths, which are read by whoever is asked to, and checked there."""
    return text


def as_architecture(model: Config) -> Config:
    """The fields by the name of an architecture, which sets others, as those of the model that it is one of."""
    name = model["_name"]
    if name in MODEL_DATACLASS_REGISTRY:
        return model
    fields = argparse.Namespace(**{key: value for key, value in model.items() if key != "_name"})
    try:
        ARCH_CONFIG_REGISTRY[name](fields)
    except Exception as error:  # of values that no training wrote
        raise Refused(f"its config makes no {name} ({reason(error)})") from None
    return dict(vars(fields), _name=ARCH_MODEL_NAME_REGISTRY[name])


def resolved(model: Config, task: Config) -> Configs:
    """Over the dataclasses' defaults, some of which refer to other parts of a training's config."""
    parts = {key: OmegaConf.structured(config) for key, config in REFERRED.items()}
    parts["criterion"] = OmegaConf.structured(CRITERION_DATACLASS_REGISTRY["distillation"])
    parts["model"] = typed(MODEL_DATACLASS_REGISTRY[model["_name"]], model, "model")
    parts["task"] = typed(TASK_DATACLASS_REGISTRY[task["_name"]], task, "task")
    if OmegaConf.is_missing(parts["task"], "data"):
        parts["task"].data = ""  # of the training's machine: of no use to anybody else
    try:
        plain = OmegaConf.to_container(OmegaConf.create(parts), resolve=True, enum_to_str=True)
    except (OmegaConfBaseException, ValueError) as error:
        raise Refused(f"its config does not fit ({reason(error)})") from None
    return Configs(dict(plain["model"], _name=model["_name"]), dict(plain["task"], _name=task["_name"]))


def typed(config: type, values: Mapping[str, Any], part: str) -> DictConfig:
    """`values` over the dataclass's defaults; Refused where a type or a size is not that of a config.

    Keys that the dataclass does not know come from another version of fairseq and are left out, as fairseq does.
    """
    fields = config.__dataclass_fields__
    known = {k: v for k, v in values.items() if k in fields and v is not None and k != "_name"}
    whole = [key for key, value in known.items() if isinstance(value, bool) and "int" in str(fields[key].type)]
    known.update({key: int(known[key]) for key in whole})  # fairseq's own architectures set some so
    for key, value in known.items():
        if isinstance(value, (list, tuple)) and len(value) > LONGEST:
            raise Refused(f"its {part} config does not fit: {key} has {len(value)} entries")
        for number in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(number, int) and abs(number) > LARGEST:
                raise Refused(f"its {part} config does not fit: {key} is {quoted(number)}")
    try:
        return OmegaConf.merge(OmegaConf.structured(config), known)
    except (OmegaConfBaseException, ValueError, TypeError, AssertionError) as error:
        field = getattr(error, "full_key", None) or getattr(error, "key", None) or "a field"
        raise Refused(f"its {part} config does not fit: {field}: {reason(error)}") from None


def transformer_layer(prefix: str, width: int, inner: int) -> Iterator[Tuple[str, Shape]]:
    """The weights of one of fairseq's Transformer layers without attention to an encoder."""
    for name in ("k", "v", "q", "out"):
        yield f"{prefix}.self_attn.{name}_proj.weight", (width, width)
        yield f"{prefix}.self_attn.{name}_proj.bias", (width,)
    yield f"{prefix}.fc1.weight", (inner, width)
    yield f"{prefix}.fc1.bias", (inner,)
    yield f"{prefix}.fc2.weight", (width, inner)
    yield f"{prefix}.fc2.bias", (width,)
    for norm in ("self_attn_layer_norm", "final_layer_norm"):
        yield f"{prefix}.{norm}.weight", (width,)
        yield f"{prefix}.{norm}.bias", (width,)
