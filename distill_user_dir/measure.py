"""Timing and memory of several things side by side."""

import multiprocessing
import statistics
import time
from typing import Any, Callable, Dict, List

import torch


def interleaved(runs: Dict[str, Callable[[], Any]], rounds: int) -> Dict[str, float]:
    """Median seconds of each, taken in turn so that the machine's noise hits all alike; the first round is dropped."""
    times: Dict[str, List[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken[1:]) for name, taken in times.items()}


def _resident(field: str) -> int:
    """Bytes of memory of this process: `VmRSS` now, `VmHWM` at its peak (Linux)."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field + ":"))


def reset_peak() -> int:
    """The peak begins anew, at the bytes that are resident now, which are returned (Linux)."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    return _resident("VmRSS")


def peak() -> int:
    """The most bytes that were resident since `reset_peak`."""
    return _resident("VmHWM")


def _measured(prepare: Callable[..., Callable[[], Any]], arguments: List[Any], results: Any) -> None:
    torch.set_num_threads(1)
    before = _resident("VmRSS")
    run = prepare(*arguments)
    built = reset_peak()  # building may have taken more than running
    run()
    results.put((built - before, peak() - built))


def peak_memory(prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> List[int]:
    """Bytes of main memory that `prepare(*arguments)` leaves taken, and that a first call of its result adds at most.

    Measured in a process of its own, with one thread: the peak of its resident memory, whatever took it. `prepare` is
    a function of a module, since it is run there.
    """
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_measured, args=(prepare, list(arguments), results))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"{prepare.__name__} failed in its own process, with status {process.exitcode}")
    return list(results.get())
