"""The questions of the study: which rows are compared, and in which order they are run."""

from typing import List, NamedTuple, Sequence, Tuple

from study_plan import LENGTHS, LOSSES, ROWS, STUDENTS, TEACHER_ROW, UNDISTILLED

REG = "deep_thin-reg"
POOL = (*STUDENTS, TEACHER_ROW)
FORMS = [f"deep_thin-{form}" for form in LOSSES if form.startswith(("codebook", "linear")) and "alone" not in form]


class Question(NamedTuple):
    """pairs: a row, and the one that it is compared with; pool: rows that tell together how far results scatter."""

    title: str
    pairs: Sequence[Tuple[str, str]]
    pool: Sequence[str] = POOL


QUESTIONS = {
    "Q1": Question(
        "Deep & thin or shallow & wide, of equal size, at three lengths of distillation",
        [
            *((f"shallow_wide-reg{kind}", f"{REG}{kind}") for kind in ("-short", "", "-long")),
            ("shallow_wide-reg-random", "shallow_wide-reg"),  # not started from the teacher
        ],
    ),
    "Q2": Question(
        "The discriminative loss beside the regression",
        [*((form, REG) for form in FORMS), ("shallow_wide-codebook-soft", "shallow_wide-reg")],
    ),
    "Q3": Question(
        "Fbank in place of the CNN, with a stage of its own and without",
        [("deep_thin-fbank", REG), ("deep_thin-fbank-direct", REG), ("deep_thin-fbank-direct", "deep_thin-fbank")],
    ),
    "Q4": Question("HuBERT's own objective", [("deep_thin-hubert", REG), ("deep_thin-hubert", UNDISTILLED)]),
    "Q6": Question(
        "How near the student comes to its teacher as distillation grows",
        [(row, TEACHER_ROW) for row in (UNDISTILLED, *(f"{REG}{kind}" for kind in ("-short", "", "-long")))],
    ),
    "Q7": Question(
        "Clusters of several layers",
        [
            ("deep_thin-layers-kmeans", REG),
            ("deep_thin-layers-kmeans", "deep_thin-last-kmeans"),  # the layers alone differ
            ("deep_thin-last-kmeans", "deep_thin-linear-kmeans"),  # three sets or one
            ("deep_thin-layers-distances", "deep_thin-layers-kmeans"),
            ("deep_thin-layers-kmeans-alone", REG),
            ("deep_thin-layers-kmeans-alone", "deep_thin-hubert"),
        ],
    ),
}

# What is run first decides most; what is at the end is dropped where time runs out.
FIRST = (REG, "deep_thin-codebook-soft", "shallow_wide-reg", "deep_thin-fbank")
SECOND = (
    UNDISTILLED,
    "deep_thin-layers-kmeans-alone",
    "deep_thin-hubert",
    "deep_thin-last-kmeans",
    "deep_thin-layers-kmeans",
    "deep_thin-fbank-direct",
    "shallow_wide-reg-random",
    "deep_thin-layers-distances",
    *(f"{row}-{kind}" for kind in LENGTHS for row in (REG, "shallow_wide-reg")),
)
THIRD = tuple(row for row in ROWS if row not in (*FIRST, *SECOND, TEACHER_ROW))


class Stage(NamedTuple):
    """all_budgets: or the first and the last alone."""

    rows: Sequence[str]
    seeds: Sequence[int]
    all_budgets: bool


STAGES = (
    Stage((*FIRST, TEACHER_ROW), (1, 2, 3), True),
    Stage(SECOND, (1, 2, 3), False),
    Stage(FIRST, (4, 5), True),
    Stage(THIRD, (1, 2, 3), True),
)


def cells(
    rows: Sequence[str], seeds: Sequence[int], budgets: Sequence[int], stages: Sequence[Stage] = STAGES
) -> List[Tuple[str, int, int]]:
    """(row, seed, utterances with labels) of these rows and seeds, in the order in which they are run."""
    return [
        (row, seed, labelled)
        for stage in stages
        for seed in stage.seeds
        for row in stage.rows
        for labelled in (budgets if stage.all_budgets else dict.fromkeys((budgets[0], budgets[-1])))
        if row in rows and seed in seeds
    ]
