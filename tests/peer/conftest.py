"""Before torch is loaded: threads that wait at a barrier must not burn the core of the test next door."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
