"""What this machine computes with, and the random generators of a run."""

import ctypes
import random
import resource
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from worker.training.failures import UserError

Precision = Literal["fp32", "bf16", "fp16"]
CPU_INFO = Path("/proc/cpuinfo")
M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1  # malloc.h of the GNU C library
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # x86 with AVX-512 or AMX; Arm


def fast_precision() -> Precision:
    """The precision of `auto`: bf16 where the hardware has instructions for it; without, it is emulated slowly."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if cpu_computes_bf16() else "fp32"


def cpu_computes_bf16() -> bool:
    """Whether the processor lists bf16 instructions. Linux only; elsewhere the answer is no."""
    if not CPU_INFO.exists():
        return False
    for line in CPU_INFO.read_text().splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return not BF16_FLAGS.isdisjoint(flags.split())
    return False


def keep_freed_memory() -> None:
    """Have the C library keep freed blocks, however large, instead of handing each back to the kernel and asking anew.

    The embedding gradient alone is 47 MB a step for MiniLM; clearing fresh pages was 15 % of a step on two cores. The
    process ends with its one run, so nothing is lost. Only the GNU C library knows these options.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def bound_memory(memory_bytes: int) -> None:
    """Let this process take so much private memory beyond what it has: asking for more fails here, and nowhere else.

    RLIMIT_DATA counts what the process really may write, not address space that is only reserved. Linux only.
    """
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        soft = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def check_precision(precision: Precision) -> None:
    """Refuse fp16 without a GPU: its narrow range needs loss scaling, which exists on a GPU only."""
    if precision == "fp16" and not torch.cuda.is_available():
        raise UserError(
            "precision_needs_gpu",
            "precision is 'fp16', but this worker has no GPU. Ask for 'auto', 'bf16' or 'fp32'.",
            "hyperparameters.precision",
            {"allowed": ["auto", "bf16", "fp32"]},
        )


def seed_generators(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators, every device's included."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def generator_state() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """State of every generator: what goes into JSON, and torch's byte tensors by device."""
    version, words, gauss = random.getstate()
    numpy_state: dict[str, Any] = dict(np.random.get_state(legacy=False))
    numpy_state["state"] = {"key": numpy_state["state"]["key"].tolist(), "pos": int(numpy_state["state"]["pos"])}
    tensors = {"cpu": torch.get_rng_state()}
    for index in range(torch.cuda.device_count()):
        tensors[f"cuda:{index}"] = torch.cuda.get_rng_state(index)
    return {"python": [version, list(words), gauss], "numpy": numpy_state}, tensors


def restore_generators(state: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Put every generator where it was. A GPU that the run did not have before keeps its seeded state."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    key = np.array(state["numpy"]["state"]["key"], dtype=np.uint32)
    np.random.set_state(state["numpy"] | {"state": {"key": key, "pos": state["numpy"]["state"]["pos"]}})
    torch.set_rng_state(tensors["cpu"])
    for index in range(torch.cuda.device_count()):
        if f"cuda:{index}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda:{index}"], index)
