"""Trains as fairseq-hydra-train does, by the same options, recipes and checkpoints, and loses nothing.

    python -m distill_user_dir.train --config-dir $PWD/recipes/distill --config-name librispeech_960h ...

- If it is killed, even while it writes a checkpoint, only the updates since the last save are lost. A checkpoint that
  is damaged all the same is set aside, and the newest whole one is used.
- On SIGTERM (a scheduler preempts the job) it saves a checkpoint of the last update and exits with status 143.
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
