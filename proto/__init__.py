"""The wire: package shoal.v1, its checks, and the Link that carries it."""

import os

# gRPC's core writes to stderr whenever a peer goes away. This is its only switch, and it is read when gRPC is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
