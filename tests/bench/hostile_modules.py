"""Modules of a user's that do to the process around them what they should not, by name, and what becomes of each."""

from __future__ import annotations

CLASS = """
from torch import nn
class Own(nn.Module):
    def __init__(self, *, width):
        super().__init__()
        {constructor}
        self.project = nn.Linear(width, width)
    def forward(self, tokens, position, shapes):
        {forward}
        return self.project(tokens)
"""
# What the import does, and a command goes on as if it had not.
UNDONE = {
    "nothing": "",
    "chdir": "import os; os.chdir('/')",
    "thread": "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()",
    "reads": "import sys; assert sys.stdin.read() == ''",
    "fork": "import os; os.fork()",
    "stay": "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])",
    "prints": "print('x' * 100_000)",
    "stdout": "import io, sys; sys.stdout = io.StringIO()",
    "atexit": "import atexit, time; atexit.register(time.sleep, 600)",
    "signals": "import signal; [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGTERM, signal.SIGINT)]",
    "variables": "import os; os.environ.update(OMP_NUM_THREADS='7', UNEPT_BACKEND='none'); os.environ.pop('PATH')",
    "path": "import sys; sys.path.clear()",
    "double": "import torch; torch.set_default_dtype(torch.float64)",
    "meta": "import torch; torch.set_default_device('meta')",
    "threads": "import torch; torch.set_num_threads(5)",
    "flags": "import torch; torch.use_deterministic_algorithms(True); torch.set_grad_enabled(False)",
    "seeds": "import torch, random; torch.manual_seed(0); random.seed(0)",
}
# What the import does, and the end of the line that is said of it; NAME is the module's.
REFUSED = {
    "leave": ("import os; os._exit(0)", "importing NAME ended its process (exit status 0)"),
    "exit": ("import sys; sys.exit(3)", "importing NAME failed: it ended the program (SystemExit: 3)"),
    "kill": ("import os; os.kill(os.getpid(), 9)", "importing NAME ended its process (killed by SIGKILL)"),
    "loop": ("while True: pass", "importing NAME did not end within 3 s"),
    "regex": ("import re; re.match('(a+)+b', 'a' * 60)", "importing NAME did not end within 3 s"),
    "raise": ("x = 1\n1 / 0", "importing NAME failed: ZeroDivisionError: division by zero (NAME.py, line 2)"),
    "huge": ("x = bytearray(1 << 60)", "importing NAME failed: MemoryError (NAME.py, line 1)"),
    "closed": ("import os; os.closerange(0, 4096)", "importing NAME closed the descriptors of its process"),
    "matmul": (
        "import torch; old = torch.matmul; torch.matmul = lambda a, b: old(a, b)",
        "importing NAME replaced torch.matmul: what is measured must be torch's own",
    ),
    "softmax": (
        "import torch; torch.Tensor.softmax = lambda *_: None",
        "importing NAME replaced torch.Tensor.softmax: what is measured must be torch's own",
    ),
}
# What the constructor does, and the end of the line.
REFUSED_MADE = {
    "loops": ("while True: pass", "making NAME:Own did not end within 3 s"),
    "leaves": ("import os; os._exit(3)", "making NAME:Own ended its process (exit status 3)"),
    "seeding": (
        "import torch; torch.manual_seed(0)",
        "making NAME:Own seeded torch's random numbers, so that runs of all seeds would be alike",
    ),
}


def source(*, imported: str = "", constructor: str = "pass", forward: str = "pass") -> str:
    """The source of a module with a class `Own`, which does these things."""
    return f"{imported}\n{CLASS.format(constructor=constructor, forward=forward)}"
