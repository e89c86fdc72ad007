"""A fairseq user directory that distils HuBERT into small students (Wang et al., arXiv 2210.15631).

Importing it (or naming it as `common.user_dir`) registers:

- task `hubert_distillation`   tasks/hubert_distillation.py    teacher and data; fine_tuning=true for CTC
- criterion `distillation`     criterions/distillation.py      weighs and logs; arithmetic in losses/
- model `student_hubert`       models/student_hubert.py        the student and its prediction heads
- model `student_ctc`          models/student_ctc.py           CTC on a student or on an original HuBERT
- lr_scheduler `staged_polynomial_decay`                       lr_schedulers/, polynomial_decay for each stage
- optimizer `adamw`                                            optimizers/, torch's, in a few kernels

Around them: checkpoints/ (the one safe door to files, and models built from them), teacher.py, clusters.py (of a
HuBERT), needs.py (what the losses need of teacher and data), stages.py (of a front-end distillation),
initialisation.py (student from teacher or student), dataset.py, manifest.py, audio.py and frame_labels.py (data,
k-means labels and their checks), conv_layers.py and padding.py (frames and masks), modules/ (networks), infer.py,
infer_config.py and wer.py (decoding), lexicon.py, fairseq_lm.py, held_units.py, word_times.py and tune.py (with a
language model), results.py (the table of several decodes), student.py (use from Python), slim.py (small checkpoints),
train.py and training/ (fairseq-hydra-train for long runs), files.py (written whole or not at all), profile.py and
measure.py (sizes, speed, memory), messages.py and quiet.py (what is printed), compat.py (what differs between fairseq
versions).
"""

from distill_user_dir.quiet import quiet_imports

with quiet_imports():
    from distill_user_dir.checkpoints import loading
    from distill_user_dir.criterions import distillation  # noqa: F401
    from distill_user_dir.lr_schedulers import staged_polynomial_decay  # noqa: F401
    from distill_user_dir.models import student_ctc, student_hubert  # noqa: F401
    from distill_user_dir.optimizers import adamw  # noqa: F401
    from distill_user_dir.tasks import hubert_distillation  # noqa: F401

loading.install()

__version__ = "0.1.0"
