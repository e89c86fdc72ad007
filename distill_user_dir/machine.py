"""What this machine has: optional packages and devices, asked for before the work begins."""

import importlib
from typing import Any

import torch

from distill_user_dir.messages import reason


def need(module: str, extra: str) -> Any:
    """The module; ValueError with the way out where it is not installed. extra: what pyproject.toml calls its group."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{module} is needed ({reason(error)}): pip install -e '.[{extra}]'") from None


def usable_device(name: str) -> torch.device:
    """The device; ValueError where it is not there."""
    try:
        return torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for CUDA
        raise ValueError(f"--device {name}: not there ({reason(error)}); --device cpu is") from None
