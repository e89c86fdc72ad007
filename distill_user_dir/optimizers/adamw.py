"""Optimizer `adamw`: torch's AdamW, which updates all parameters in a few kernels. fairseq's `adam` launches a dozen
for each one, unless the gradients are one flat tensor, which those of bf16 and of two stages never are."""

import ast
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Optional

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer, register_optimizer
from omegaconf import II
from torch.nn import Parameter


@dataclass
class AdamWConfig(FairseqDataclass):
    adam_betas: Any = field(default="(0.9,0.98)", metadata={"help": "of the two moments, as a string (Wang et al.)"})
    adam_eps: float = field(default=1e-6, metadata={"help": "added to the root of the second moment"})
    weight_decay: float = field(default=0.0, metadata={"help": "decoupled; times the learning rate"})
    lr: List[float] = II("optimization.lr")


@register_optimizer("adamw", dataclass=AdamWConfig)
class AdamW(FairseqOptimizer):
    """Options and state as of fairseq's `adam`, which differs in epsilon: there it is not corrected for the first
    updates' bias. fairseq lets a run in half precision go on from the other's state; in float32 it compares the names
    of their classes, and `optimizer._name=adam` goes on."""

    def __init__(self, cfg: AdamWConfig, params: Iterable[Parameter]):
        super().__init__(cfg)
        self._optimizer = torch.optim.AdamW(params, **self.optimizer_config, fused=True)

    def load_state_dict(self, state_dict: Dict[str, Any], optimizer_overrides: Optional[Dict[str, Any]] = None) -> None:
        """As fairseq's; the state may be of its `adam`, whose groups do not say that they are fused."""
        groups = [{**group, "fused": True} for group in state_dict["param_groups"]]
        super().load_state_dict({**state_dict, "param_groups": groups}, optimizer_overrides)

    @property
    def optimizer_config(self) -> Dict[str, Any]:
        """What a recipe decides, in place of what a checkpoint has."""
        betas = self.cfg.adam_betas
        return {
            "lr": self.cfg.lr[0] if isinstance(self.cfg.lr, Collection) else self.cfg.lr,
            "betas": tuple(ast.literal_eval(betas) if isinstance(betas, str) else betas),
            "eps": self.cfg.adam_eps,
            "weight_decay": self.cfg.weight_decay,
        }

    @property
    def supports_flat_params(self) -> bool:
        return True
