"""fairseq's examples/speech_recognition/new/infer.py, its hydra job between our checks and our report."""

import json
import os
import sys
from pathlib import Path
from typing import Any, Callable

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from distill_user_dir import compat
from distill_user_dir.decoding.config import prepare
from distill_user_dir.decoding.wer import report
from distill_user_dir.messages import plain
from distill_user_dir.quiet import quiet_terminal


def exit_with(error: Exception) -> None:
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        raise error
    sys.exit(f"error: {plain(' '.join(str(error).split()))}")


def as_job(function: Callable) -> Callable:
    """fairseq's hydra job, between our checks and our report."""

    def job(cfg: DictConfig) -> Any:
        quiet_terminal()
        try:
            prepare(cfg)
            value = function(cfg)
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            exit_with(ValueError(f"{cfg.common_eval.path}: weights that its model does not have, or lacks ({error})"))
        except (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, OmegaConfBaseException) as error:
            exit_with(error)
        path = Path(cfg.decoding.results_path, "wer.json")
        if path.is_file():  # not after a crash that common.suppress_crashes kept quiet
            print(report(json.loads(path.read_text(encoding="utf-8"))), flush=True)
        return value

    return job


infer = compat.import_fairseq_infer(as_job)
fairseq_main = infer.main
