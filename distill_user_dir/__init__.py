"""A fairseq user directory that distils HuBERT into small students (Wang et al., arXiv 2210.15631).

Importing it (or naming it as `common.user_dir`) registers the task `hubert_distillation`, the criterions `distillation`
and `ctc_distillation`, the models `student_hubert` and `student_ctc`, the learning rate schedule
`staged_polynomial_decay` and the optimizer `adamw`. The rooms, from the top down; each imports only from those below:

- commands        train.py, infer.py, tune.py, results.py, profile.py, similarity.py, slim.py, export.py, transcribe.py:
                  a usage text, a parser, one call
- student.py      a trained model in a program of yours
- tasks/          the task: the data, and the student with its teacher
- teaching/       a student built beside its teacher: what the losses need, first weights, clusters
- decoding/       fairseq's infer: settings checked, error rates, language models, word times, tuning
- training/       what train.py changes of fairseq's training: processes, saving, resuming, preemption
- profiling/      what profile.py and similarity.py measure
- shipping/       recordings of any length to words, by a checkpoint or an exported folder
- models/         the student and the CTC model, with their configs
- checkpoints/    the one safe door to checkpoint files, and encoders built from them
- criterions/     the losses weighed and logged
- lr_schedulers/, optimizers/
- modules/, losses/, data/   networks and masks; loss functions; manifests, audio, labels and batches
- compat.py, files.py, machine.py, measure.py, messages.py, quiet.py, stages.py   the ground floor

docs/architecture.md follows a batch through them and shows how to add to them.
"""

from distill_user_dir.quiet import quiet_imports

with quiet_imports():
    from distill_user_dir.checkpoints import loading
    from distill_user_dir.criterions import ctc_distillation, distillation  # noqa: F401
    from distill_user_dir.lr_schedulers import staged_polynomial_decay  # noqa: F401
    from distill_user_dir.models import student_ctc, student_hubert  # noqa: F401
    from distill_user_dir.optimizers import adamw  # noqa: F401
    from distill_user_dir.tasks import hubert_distillation  # noqa: F401

loading.install()

__version__ = "0.1.0"
