"""Every difference between the two fairseq distributions, and between torch versions, each with its reason.

Importing this module makes `torch.load` safe for the whole process.
"""

import argparse
import os

import torch
from fairseq.data.dictionary import Dictionary

# torch before 2.6 unpickles anything unless told otherwise; fairseq calls torch.load without saying.
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"

# The only classes that a fairseq checkpoint holds beside tensors and plain containers:
# dictionaries in `task_state`, and `args` in files written before fairseq had hydra configs.
torch.serialization.add_safe_globals([Dictionary, argparse.Namespace])
