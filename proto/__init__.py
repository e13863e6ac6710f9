"""The wire: package shoal.v1, its checks, and the Link that carries it."""
