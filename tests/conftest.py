"""For every test: threads that wait at a barrier sleep, because tests and peers share two cores."""

import os

# OpenMP reads it when torch is loaded, so this comes before any test module.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
