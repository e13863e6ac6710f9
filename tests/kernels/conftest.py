"""For the kernels' tests: Triton is the interpreter, unless TRITON_INTERPRET=0 asks for a GPU."""

import os

# Triton reads it when it is loaded, so this comes before any test module that loads it.
os.environ.setdefault("TRITON_INTERPRET", "1")
