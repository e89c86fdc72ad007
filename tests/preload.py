"""What the processes of `tests.commands` have imported: fairseq, and nothing of this package, which they import."""

import gc
import logging

level, handlers = logging.root.level, list(logging.root.handlers)
import fairseq_cli.hydra_train  # noqa: E402, F401
import fairseq_cli.train  # noqa: E402, F401
import soundfile  # noqa: E402, F401
import torch  # noqa: E402

torch.set_num_threads(1)
torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # the first optimizer imports torch._dynamo: two seconds
gc.freeze()  # else a collection in each of them writes to, and so copies, every page
logging.root.setLevel(level)
logging.root.handlers[:] = handlers
