"""For every test: threads that wait at a barrier sleep, because tests and peers share two cores; Triton is its
interpreter, unless TRITON_INTERPRET=0 asks for a GPU; and hypothesis draws the same examples in every run.
"""

import os

from hypothesis import settings

# OpenMP reads it when torch is loaded, so this comes before any test module.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Triton reads it when it is loaded, which importing a model of transformers does too.
os.environ.setdefault("TRITON_INTERPRET", "1")

settings.register_profile("the same in every run", derandomize=True)
settings.load_profile("the same in every run")
