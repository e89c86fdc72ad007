"""What the suite's processes, and those that they fork, have imported and set before they start: one thread, fairseq.

Those of `tests.commands` have imported this alone, and nothing of the package under test.
"""

import gc
import logging

level, handlers = logging.root.level, list(logging.root.handlers)
import fairseq_cli.hydra_train  # noqa: E402, F401
import fairseq_cli.train  # noqa: E402, F401
import soundfile  # noqa: E402, F401
import torch  # noqa: E402
from torch.utils.data import _utils  # noqa: E402

# torch waits as long for each data worker of an iterator that is collected as garbage; its own value is five seconds
_utils.MP_STATUS_CHECK_INTERVAL = 0.5
torch.set_num_threads(1)
torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # the first optimizer imports torch._dynamo: two seconds
gc.freeze()  # else a collection in each of them writes to, and so copies, every page
logging.root.setLevel(level)
logging.root.handlers[:] = handlers
