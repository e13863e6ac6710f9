"""``python -m dashboard``: as ``shoal dashboard``."""

import os
import sys

from dashboard.serve import main

if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # all is closed; hivemind brings torch, which takes its time to be taken apart
