"""What every layout has: names, fields of plain types, and the weights that its sizes call for."""

import math
from typing import Any, Callable, Dict, Iterator, Mapping, Tuple

from fairseq.models import ARCH_MODEL_NAME_REGISTRY, MODEL_DATACLASS_REGISTRY
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from distill_user_dir.checkpoints.pickled import Refused
from distill_user_dir.messages import quoted, reason

Shape = Tuple[int, ...]
Weights = Mapping[str, Tensor]
LARGEST, LONGEST = 2**31, 1000  # of the numbers in a model's config, and of its lists
BESIDE, ALLOWED = 4, 10**7  # numbers of heads, for each number in the file and in any case: they may not be in it


class Layout:
    """names: under which fairseq registers the model; tasks: of its config, by their registered names; decodes: whether
    it gives units that can be decoded; positive: fields above 0; evaluated: the fields that fairseq passes to `eval`,
    and what reads them in its place (ValueError for anything but data)."""

    names: Tuple[str, ...] = ()
    tasks: Tuple[str, ...] = ()
    decodes = False
    positive: Tuple[str, ...] = ()
    evaluated: Dict[str, Callable[[Any], Any]] = {}

    def knows(self, name: str) -> bool:
        return name in self.names

    def weights(self, model: DictConfig, there: Weights) -> Iterator[Tuple[str, Shape]]:
        """Each weight that the config calls for and whose size it sets, which has to be in the file."""
        raise NotImplementedError

    def heads(self, model: DictConfig) -> Iterator[Shape]:
        """Shapes of what fairseq builds besides, and what may be missing in the file."""
        return iter(())

    def check(self, model: Dict[str, Any], task: Dict[str, Any], there: Weights) -> None:
        """Refused unless the config is of plain types and makes a model as large as its weights."""
        for field, parse in self.evaluated.items():
            try:
                parse(model[field]) if model.get(field) is not None else None
            except ValueError as error:
                raise Refused(str(error)) from None
        fields = typed(self.config_of(model), model, "model")
        try:
            self.check_weights(fields, there)
        except OmegaConfBaseException as error:
            raise Refused(f"its model config does not fit ({reason(error)})") from None

    def config_of(self, model: Dict[str, Any]) -> type:
        """The dataclass of the model's config."""
        name = model["_name"]
        return MODEL_DATACLASS_REGISTRY[ARCH_MODEL_NAME_REGISTRY.get(name, name)]

    def check_weights(self, model: DictConfig, there: Weights) -> None:
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
        for shape in self.heads(model):
            wanted += math.prod(shape)
            if min(shape) < 0 or wanted > BESIDE * numbers + ALLOWED:
                raise Refused(f"its config makes a model of far more than the {numbers} numbers in the file")


def typed(config: type, values: Mapping[str, Any], part: str) -> DictConfig:
    """`values` over the dataclass's defaults; Refused where a type or a size is not that of a config.

    Keys that the dataclass does not know come from another version of fairseq and are left out, as fairseq does.
    """
    fields = config.__dataclass_fields__
    known = {k: v for k, v in values.items() if k in fields and v is not None and k != "_name"}
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
