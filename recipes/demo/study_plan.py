"""What the study trains: speech, rows, seeds, label budgets. docs/study.md says what for.

Speech and teacher are the repository's. A seed sets the student's initialisation, the batches of its distillation and
of its fine-tuning, and which utterances have labels: all rows of a seed have the same.
"""

from typing import Dict, List, NamedTuple, Sequence, Tuple

from run import DROPOUT, TEACHER, decode, distil_options, fbank_step, schedule, speech_steps, train
from steps import Step

LAYERS = (2, 4, 6)  # of the teacher, whose k-means are labels
CLUSTERS = 100
BATCHES = "dataset.max_tokens=160000"  # ten seconds
CTC_RATE = 0.003
RATES = (0.001, 0.002, 0.004)  # of a distillation, to choose from
USUAL, MARGIN = 0.002, 0.1  # the recipes' rate is kept unless another makes fewer errors by this share
TUNING = 0  # the seed with which they are chosen, which no result has

DISC = "loss=reg_disc criterion.discriminative_head={} criterion.discriminative_target={}"
LINEAR = "criterion.discriminative_head=linear criterion.student_temperature=1.0"
KMEANS = "data=km50 task.labels=[{}] criterion.discriminative_target=kmeans"
SETS, DEPTHS = ",".join(f"km{layer}" for layer in LAYERS), ",".join(map(str, LAYERS))
SHARE = f"criterion.discriminative_weight={1 / len(LAYERS):.4f}"  # sets are summed: together they weigh as one
EACH = f"criterion.discriminative_layers=[{DEPTHS}]"
CENTRES = "task.centres=[{}] " + f"criterion.discriminative_teacher_layers=[{DEPTHS}]"
LOSSES = {
    "reg": "loss=reg",
    "codebook-soft": DISC.format("codebook", "soft"),
    "codebook-hard": DISC.format("codebook", "hard"),
    "linear-soft": f"loss=reg_disc {LINEAR} criterion.discriminative_target=soft",
    "linear-hard": f"loss=reg_disc {LINEAR} criterion.discriminative_target=hard",
    "linear-kmeans": f"loss=reg_disc {LINEAR} {KMEANS.format('km4')}",
    "hubert": f"loss=kmeans {LINEAR} {KMEANS.format('km4')}",
    "last-kmeans": f"loss=reg_disc {LINEAR} {SHARE} {KMEANS.format(SETS)}",
    "layers-kmeans": f"loss=reg_disc {LINEAR} {SHARE} {EACH} {KMEANS.format(SETS)}",
    "layers-kmeans-alone": f"loss=reg_disc criterion.regression_weight=0 {LINEAR} {SHARE} {EACH} {KMEANS.format(SETS)}",
    "layers-distances": f"loss=reg_disc {LINEAR} {SHARE} {EACH} criterion.discriminative_target=distances {CENTRES}",
}
FAMILIES = {"codebook": "codebook-soft", "linear": "linear-kmeans", "last": "linear-kmeans", "layers": "linear-kmeans"}
LENGTHS = {"short": 1 / 3, "long": 3.0}
DEEP, SHALLOW, FBANK = "student=demo_deep_thin", "student=demo_shallow_wide", "frontend=fbank"
AT_RANDOM = "model.init_layers=[] model.init_feature_extractor=false model.init_pos_conv=false"


class Row(NamedTuple):
    """options: of the distillation; like: the row whose learning rate it shares; length: times the study's updates;
    stage: the share of these in which an Fbank learns alone, as in the recipe, or none."""

    options: str
    like: str
    length: float = 1.0
    stage: float = 0.0


def like(loss: str) -> str:
    """The row whose learning rate a deep & thin student has: losses with the same head beside the regression share
    one."""
    return f"deep_thin-{loss if loss.endswith('alone') else FAMILIES.get(loss.split('-')[0], loss)}"


def students() -> Dict[str, Row]:
    """The distilled rows."""
    rows = {f"deep_thin-{loss}": Row(f"{DEEP} {options}", like(loss)) for loss, options in LOSSES.items()}
    for loss in ("reg", "codebook-soft"):
        rows[f"shallow_wide-{loss}"] = Row(f"{SHALLOW} {LOSSES[loss]}", f"shallow_wide-{loss}")
    for kind, stage in (("", 0.25), ("-direct", 0.0)):
        name = f"deep_thin-fbank{kind}"
        rows[name] = Row(f"{DEEP} {LOSSES['reg']} {FBANK}", "deep_thin-fbank", stage=stage)
    rows["shallow_wide-reg-random"] = Row(f"{SHALLOW} {LOSSES['reg']} {AT_RANDOM}", "shallow_wide-reg")
    for name in ("deep_thin-reg", "shallow_wide-reg"):
        for kind, length in LENGTHS.items():
            rows[f"{name}-{kind}"] = rows[name]._replace(length=length)
    return rows


STUDENTS = students()
TEACHER_ROW, UNDISTILLED = "teacher", "deep_thin-undistilled"
ROWS = (*STUDENTS, UNDISTILLED, TEACHER_ROW)


class Plan(NamedTuple):
    """out: folder of everything; train, valid, test: utterances; budgets: of train with labels, from all of them to
    few; distil: updates; ctc: updates of each budget; tuning: utterances with labels by which learning rates are
    chosen."""

    out: str
    train: int = 1200
    valid: int = 200
    test: int = 2300
    budgets: Tuple[int, ...] = (1200, 400, 100)
    distil: int = 1000
    ctc: Tuple[int, ...] = (1500, 1000, 600)
    tuning: int = 400

    def updates_of(self, labelled: int) -> int:
        """Of CTC: of the budget, or of the next larger one."""
        return min((budget, updates) for budget, updates in zip(self.budgets, self.ctc) if budget >= labelled)[1]


def pace(updates: int) -> str:
    """Small batches, and checkpoints only where there is something to lose, since each comes with a validation."""
    every = max(250, updates // 4)
    return f"{BATCHES} checkpoint.save_interval_updates={every} dataset.validate_interval_updates={every}"


def data_steps(plan: Plan) -> List[Step]:
    """Speech, manifests, letters, and the statistics of Fbank."""
    return [*speech_steps(plan.out, plan.train, plan.valid, plan.test), fbank_step(plan.out)]


def label_steps(plan: Plan) -> List[Step]:
    """k-means labels of the teacher's layers, km2, km4 and km6."""
    steps = []
    for layer in LAYERS:
        feats = f"{plan.out}/features/{layer}"
        options = f"{feats} --feature hubert --checkpoint {TEACHER} --layer {layer}"
        commands = [f"python manifests/features.py {plan.out}/data {split} {options}" for split in ("train", "valid")]
        learning = f"--clusters {CLUSTERS} --label km{layer} --dest {plan.out}/data --threads 1"
        commands.append(f"python manifests/kmeans.py {feats} --splits train valid {learning}")
        steps.append(Step(f"km{layer}", commands, feats, ("manifest-train", "manifest-valid")))
    return steps


def split(plan: Plan, labelled: int, seed: int) -> str:
    return "train" if labelled == plan.train else f"train_{labelled}_{seed}"


def subset_steps(plan: Plan, seed: int, budgets: Sequence[int]) -> List[Step]:
    """The utterances with labels of each budget; those of a small one are among those of a larger."""
    steps = []
    for labelled in budgets:
        name = split(plan, labelled, seed)
        tool = f"python manifests/subset.py {plan.out}/data train {name} --utterances {labelled} --seed {seed}"
        commands = [] if name == "train" else [tool]
        steps.append(Step(f"subset-{labelled}-{seed}", commands, None, ("manifest-train",)))
    return steps


def distil_step(plan: Plan, name: str, row: Row, rate: float, seed: int, start: str = "") -> Step:
    """A distillation into OUT/students/NAME. start: a checkpoint to begin with."""
    folder, updates = f"{plan.out}/students/{name}", round(plan.distil * row.length)
    options, needs = row.options, ["manifest-train", "manifest-valid"]
    needs += [f"km{layer}" for layer in LAYERS if f"km{layer}" in options or "task.centres" in options]
    if "task.centres" in options:
        options = options.format(",".join(f"{plan.out}/data/kmeans.km{layer}.npy" for layer in LAYERS))
    if FBANK in options:
        options += f" criterion.frontend_updates={round(updates * row.stage)}"
        needs.append("fbank")
    options += f" {distil_options(plan.out, updates, TEACHER)} {pace(updates)} optimization.lr=[{rate}]"
    options += f" common.seed={seed}" + (f" checkpoint.finetune_from_model={start}" if start else "")
    return Step(f"distil-{name}", [train("distill", "laptop", folder, options)], folder, tuple(needs))


def ctc_steps(
    plan: Plan, name: str, options: str, updates: int, needs: Sequence[str], subset: str = "test"
) -> List[Step]:
    """A fine-tuning into OUT/ctc/NAME, and its decoding."""
    folder = f"{plan.out}/ctc/{name}"
    options = f"task.data={plan.out}/data {options} {schedule(updates)} {pace(updates)}"
    decoding = decode(plan.out, folder, f"{folder}/{subset}", subset)
    return [
        Step(f"ctc-{name}", [train("finetune", "laptop", folder, options)], folder, ("manifest-valid", *needs)),
        Step(f"decode-{name}", [decoding], f"{folder}/{subset}", (f"ctc-{name}", "manifest-test")),
    ]


def of_student(student: str) -> str:
    """Options of the fine-tuning of a distilled student: its CNN stays as it is."""
    return f"model.w2v_path={student}/checkpoint_best.pt optimization.lr=[{CTC_RATE}] model.feature_grad_mult=0.0"


def untrained(plan: Plan, seed: int) -> Step:
    """A deep & thin student that has learned nothing, with whose Transformer all of a seed begin."""
    return distil_step(plan._replace(distil=1), f"untrained-{seed}", STUDENTS["deep_thin-reg"], 1e-12, seed)


def student_steps(plan: Plan, name: str, row: Row, rate: float, seed: int) -> List[Step]:
    """A distillation, and what it begins with; the last step's folder holds the student."""
    if not row.options.startswith(DEEP):
        return [distil_step(plan, name, row, rate, seed)]
    begun = untrained(plan, seed)
    row = row._replace(options=f"{row.options} model.init_from_student={begun.folder}/checkpoint_last.pt")
    step = distil_step(plan, name, row, rate, seed)
    return [begun, step._replace(needs=(*step.needs, begun.name))]


class Wanted(NamedTuple):
    """A model to be fine-tuned and tested. rate: of the distillation, or of CTC where there is none; ctc: updates;
    student, name: of the distillation and of the fine-tuning; test: the split to decode."""

    row: str
    seed: int
    labelled: int
    rate: float
    ctc: int
    student: str
    name: str
    test: str = "test"


def steps_of(plan: Plan, one: Wanted) -> List[Step]:
    """What it needs beside the steps that rows share. The teacher has twice the updates of CTC; the undistilled student
    has those of a distillation as well."""
    given = f"common.seed={one.seed} dataset.train_subset={split(plan, one.labelled, one.seed)}"
    if one.row == TEACHER_ROW:
        before, updates = [], 2 * one.ctc
        start = f"model.w2v_path={TEACHER} model.feature_grad_mult=0.0 {DROPOUT}"
    elif one.row == UNDISTILLED:
        before, updates = [untrained(plan, one.seed)], plan.distil + one.ctc
        start = f"model.w2v_path={before[0].folder}/checkpoint_last.pt model.no_pretrained_weights=true"
        start += f" optimization.lr=[{one.rate}] {DROPOUT}"
    else:
        before, updates = student_steps(plan, one.student, STUDENTS[one.row], one.rate, one.seed), one.ctc
        start = of_student(before[-1].folder)
    needs = (*(step.name for step in before[-1:]), f"subset-{one.labelled}-{one.seed}")
    return [*before, *ctc_steps(plan, one.name, f"{given} {start}", updates, needs, one.test)]


def cell_steps(plan: Plan, row: str, seed: int, labelled: int, rate: float) -> List[Step]:
    """Of a row's result of a seed and a budget."""
    one = Wanted(row, seed, labelled, rate, plan.updates_of(labelled), f"{row}-{seed}", f"{row}-{seed}-{labelled}")
    return steps_of(plan, one)


def tuning_steps(plan: Plan, row: str, rate: float, name: str) -> List[Step]:
    """A third of the distillation at a learning rate, judged by the validation set after all of CTC."""
    one = Wanted(row, TUNING, plan.tuning, rate, plan.updates_of(plan.tuning), name, name, "valid")
    return steps_of(plan._replace(distil=max(1, plan.distil // 3)), one)
