"""gRPC's settings for both ends of a connection, in one place. ``docs/protocol.md`` says why each is what it is.

Knows no gRPC and no address: these are the plain (name, value) pairs that ``grpc.aio`` takes.
"""

from __future__ import annotations

MAX_MESSAGE_BYTES = 64 << 20
KEEPALIVE_S = 2.0  # a quiet connection is pinged this often
PING_TIMEOUT_S = 4.0  # and given up when the answer takes longer: a frozen machine is noticed within their sum

_BOTH: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.keepalive_time_ms", int(KEEPALIVE_S * 1000)),
    ("grpc.keepalive_timeout_ms", int(PING_TIMEOUT_S * 1000)),
    ("grpc.http2.ping_timeout_ms", int(PING_TIMEOUT_S * 1000)),  # its default of 60 s is what otherwise counts
    ("grpc.http2.max_pings_without_data", 0),  # 0: as many as keepalive wants
    ("grpc.keepalive_permit_without_calls", 1),
)

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    *_BOTH,
    ("grpc.use_local_subchannel_pool", 1),  # a Connection is one TCP connection, shared with nobody
    ("grpc.enable_http_proxy", 0),  # peers are dialled directly, whatever $http_proxy says
    ("grpc.enable_retries", 0),  # what is sent again, and where, is the Session's decision
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 2000),
)

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    *_BOTH,
    ("grpc.http2.min_ping_interval_without_data_ms", int(KEEPALIVE_S * 500)),  # or our own pings are "too many"
    ("grpc.max_concurrent_streams", 256),  # of one connection
    ("grpc.so_reuseport", 0),  # a port that somebody else holds is an error, not a lottery
)
