"""Trains as fairseq-hydra-train does, by the same options, recipes and checkpoints, and loses nothing.

    python -m distill_user_dir.train --config-dir $PWD/recipes/distill --config-name librispeech_960h ...

- Killed at any moment, while it writes a checkpoint too, it loses the updates since the last save and no more: no
  checkpoint is ever half-written, and one that is damaged all the same is set aside for the newest whole one.
- SIGTERM (a scheduler's preemption) ends it with status 143, behind a checkpoint of the last update.
- A checkpoint that cannot be written (a full disk) is an error with its path; those before it stay whole.
- Several CPU processes work as GPUs do: `gpus=cpu distributed_training.distributed_world_size=2`, or under torchrun.
- An error of ours is one line and status 1, or with HYDRA_FULL_ERROR=1 a traceback.

The same command again goes on. The terminal shows the progress, and {checkpoint.save_dir}/train.log has fairseq's log;
with common.log_format=simple the terminal has it. common.tensorboard_logdir=FOLDER writes TensorBoard's files.
--hydra-help tells of hydra's own options, --cfg job prints all settings of a recipe.
"""

import sys

from fairseq_cli import hydra_train

from distill_user_dir.messages import help_of
from distill_user_dir.training import processes


def main() -> None:
    help_of(__doc__)
    hydra_train.pre_main = processes.main
    hydra_train.distributed_utils.call_main = processes.call_main
    with processes.one_line_errors():
        if len(sys.argv) == 1:
            raise ValueError("no recipe: name one, e.g. --config-dir $PWD/recipes/distill --config-name laptop")
        hydra_train.cli_main()


if __name__ == "__main__":
    sys.exit(main())
