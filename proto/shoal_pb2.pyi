from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[DType]
    DTYPE_F32: _ClassVar[DType]
    DTYPE_BF16: _ClassVar[DType]

class Want(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WANT_UNSPECIFIED: _ClassVar[Want]
    WANT_NOTHING: _ClassVar[Want]
    WANT_HIDDEN: _ClassVar[Want]
    WANT_TOKEN: _ClassVar[Want]
DTYPE_UNSPECIFIED: DType
DTYPE_F32: DType
DTYPE_BF16: DType
WANT_UNSPECIFIED: Want
WANT_NOTHING: Want
WANT_HIDDEN: Want
WANT_TOKEN: Want

class Frame(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping[str, object]]]] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("session", "epoch", "hello", "open", "opened", "chunk", "token", "done", "advance", "close", "fault", "path", "fork", "kept", "trouble")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    ADVANCE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    FORK_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    epoch: int
    hello: Hello
    open: Open
    opened: Opened
    chunk: Chunk
    token: Token
    done: Done
    advance: Advance
    close: Close
    fault: Fault
    path: Path
    fork: Fork
    kept: Kept
    trouble: Trouble
    def __init__(self, session: _Optional[bytes] = ..., epoch: _Optional[int] = ..., hello: _Optional[_Union[Hello, _Mapping[str, object]]] = ..., open: _Optional[_Union[Open, _Mapping[str, object]]] = ..., opened: _Optional[_Union[Opened, _Mapping[str, object]]] = ..., chunk: _Optional[_Union[Chunk, _Mapping[str, object]]] = ..., token: _Optional[_Union[Token, _Mapping[str, object]]] = ..., done: _Optional[_Union[Done, _Mapping[str, object]]] = ..., advance: _Optional[_Union[Advance, _Mapping[str, object]]] = ..., close: _Optional[_Union[Close, _Mapping[str, object]]] = ..., fault: _Optional[_Union[Fault, _Mapping[str, object]]] = ..., path: _Optional[_Union[Path, _Mapping[str, object]]] = ..., fork: _Optional[_Union[Fork, _Mapping[str, object]]] = ..., kept: _Optional[_Union[Kept, _Mapping[str, object]]] = ..., trouble: _Optional[_Union[Trouble, _Mapping[str, object]]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "version", "peer_id", "client_id")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    version: str
    peer_id: str
    client_id: str
    def __init__(self, protocol: _Optional[int] = ..., version: _Optional[str] = ..., peer_id: _Optional[str] = ..., client_id: _Optional[str] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("fingerprint", "profile", "span", "max_tokens", "wire", "sampling", "history", "prompt_tokens", "embedded", "num_hops", "stop_token_ids", "draft_tokens", "prefix", "timing")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    SPAN_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    WIRE_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDED_FIELD_NUMBER: _ClassVar[int]
    NUM_HOPS_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    profile: str
    span: SpanRange
    max_tokens: int
    wire: DType
    sampling: Sampling
    history: _containers.RepeatedScalarFieldContainer[int]
    prompt_tokens: int
    embedded: bool
    num_hops: int
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    draft_tokens: int
    prefix: _containers.RepeatedScalarFieldContainer[bytes]
    timing: bool
    def __init__(self, fingerprint: _Optional[str] = ..., profile: _Optional[str] = ..., span: _Optional[_Union[SpanRange, _Mapping[str, object]]] = ..., max_tokens: _Optional[int] = ..., wire: _Optional[_Union[DType, str]] = ..., sampling: _Optional[_Union[Sampling, _Mapping[str, object]]] = ..., history: _Optional[_Iterable[int]] = ..., prompt_tokens: _Optional[int] = ..., embedded: _Optional[bool] = ..., num_hops: _Optional[int] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., draft_tokens: _Optional[int] = ..., prefix: _Optional[_Iterable[bytes]] = ..., timing: _Optional[bool] = ...) -> None: ...

class Path(_message.Message):
    __slots__ = ("position", "next", "next_position", "feed", "num_tokens", "step")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    NEXT_POSITION_FIELD_NUMBER: _ClassVar[int]
    FEED_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    position: int
    next: Neighbour
    next_position: int
    feed: Neighbour
    num_tokens: int
    step: int
    def __init__(self, position: _Optional[int] = ..., next: _Optional[_Union[Neighbour, _Mapping[str, object]]] = ..., next_position: _Optional[int] = ..., feed: _Optional[_Union[Neighbour, _Mapping[str, object]]] = ..., num_tokens: _Optional[int] = ..., step: _Optional[int] = ...) -> None: ...

class Neighbour(_message.Message):
    __slots__ = ("peer_id", "address", "seat", "max_chunk_tokens")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SEAT_FIELD_NUMBER: _ClassVar[int]
    MAX_CHUNK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    address: str
    seat: bytes
    max_chunk_tokens: int
    def __init__(self, peer_id: _Optional[str] = ..., address: _Optional[str] = ..., seat: _Optional[bytes] = ..., max_chunk_tokens: _Optional[int] = ...) -> None: ...

class Fork(_message.Message):
    __slots__ = ("seat", "position", "num_tokens", "sampling")
    SEAT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    seat: bytes
    position: int
    num_tokens: int
    sampling: Sampling
    def __init__(self, seat: _Optional[bytes] = ..., position: _Optional[int] = ..., num_tokens: _Optional[int] = ..., sampling: _Optional[_Union[Sampling, _Mapping[str, object]]] = ...) -> None: ...

class Kept(_message.Message):
    __slots__ = ("first", "digests")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    first: int
    digests: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, first: _Optional[int] = ..., digests: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Trouble(_message.Message):
    __slots__ = ("peer_id", "fault")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    fault: Fault
    def __init__(self, peer_id: _Optional[str] = ..., fault: _Optional[_Union[Fault, _Mapping[str, object]]] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("start", "queue_us", "compute_us")
    START_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_US_FIELD_NUMBER: _ClassVar[int]
    start: int
    queue_us: int
    compute_us: int
    def __init__(self, start: _Optional[int] = ..., queue_us: _Optional[int] = ..., compute_us: _Optional[int] = ...) -> None: ...

class SpanRange(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "seed", "logprobs", "bias_token_ids", "biases", "min_tokens", "end_token_ids", "grammar")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    BIAS_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    BIASES_FIELD_NUMBER: _ClassVar[int]
    MIN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    END_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    GRAMMAR_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int
    logprobs: int
    bias_token_ids: _containers.RepeatedScalarFieldContainer[int]
    biases: _containers.RepeatedScalarFieldContainer[float]
    min_tokens: int
    end_token_ids: _containers.RepeatedScalarFieldContainer[int]
    grammar: Grammar
    def __init__(self, temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., min_p: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., seed: _Optional[int] = ..., logprobs: _Optional[int] = ..., bias_token_ids: _Optional[_Iterable[int]] = ..., biases: _Optional[_Iterable[float]] = ..., min_tokens: _Optional[int] = ..., end_token_ids: _Optional[_Iterable[int]] = ..., grammar: _Optional[_Union[Grammar, _Mapping[str, object]]] = ...) -> None: ...

class Grammar(_message.Message):
    __slots__ = ("kind", "text")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    kind: int
    text: str
    def __init__(self, kind: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("position", "lease_ms", "max_chunk_tokens", "kept_from")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_CHUNK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    KEPT_FROM_FIELD_NUMBER: _ClassVar[int]
    position: int
    lease_ms: int
    max_chunk_tokens: int
    kept_from: int
    def __init__(self, position: _Optional[int] = ..., lease_ms: _Optional[int] = ..., max_chunk_tokens: _Optional[int] = ..., kept_from: _Optional[int] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("step", "position", "count", "want", "token_ids", "hidden", "drafts", "timings")
    STEP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    WANT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    DRAFTS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    step: int
    position: int
    count: int
    want: Want
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    hidden: Tensor
    drafts: _containers.RepeatedScalarFieldContainer[int]
    timings: _containers.RepeatedCompositeFieldContainer[Timing]
    def __init__(self, step: _Optional[int] = ..., position: _Optional[int] = ..., count: _Optional[int] = ..., want: _Optional[_Union[Want, str]] = ..., token_ids: _Optional[_Iterable[int]] = ..., hidden: _Optional[_Union[Tensor, _Mapping[str, object]]] = ..., drafts: _Optional[_Iterable[int]] = ..., timings: _Optional[_Iterable[_Union[Timing, _Mapping[str, object]]]] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("dtype", "rows", "cols", "data")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    dtype: DType
    rows: int
    cols: int
    data: bytes
    def __init__(self, dtype: _Optional[_Union[DType, str]] = ..., rows: _Optional[int] = ..., cols: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Token(_message.Message):
    __slots__ = ("step", "position", "token_id", "logprob", "top", "timings")
    STEP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    step: int
    position: int
    token_id: int
    logprob: float
    top: _containers.RepeatedCompositeFieldContainer[Candidate]
    timings: _containers.RepeatedCompositeFieldContainer[Timing]
    def __init__(self, step: _Optional[int] = ..., position: _Optional[int] = ..., token_id: _Optional[int] = ..., logprob: _Optional[float] = ..., top: _Optional[_Iterable[_Union[Candidate, _Mapping[str, object]]]] = ..., timings: _Optional[_Iterable[_Union[Timing, _Mapping[str, object]]]] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("token_id", "logprob")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    logprob: float
    def __init__(self, token_id: _Optional[int] = ..., logprob: _Optional[float] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("step", "position")
    STEP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    step: int
    position: int
    def __init__(self, step: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class Advance(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Close(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Fault(_message.Message):
    __slots__ = ("code", "message", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    retry_after_ms: int
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class PeerInfo(_message.Message):
    __slots__ = ("peer_id", "instance", "model", "fingerprint", "num_blocks", "span", "address", "profile", "state", "version", "kv_tokens", "kv_tokens_free", "sessions", "queue_tokens", "block_s", "expires_at", "name", "public_address")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    NUM_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    SPAN_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KV_TOKENS_FIELD_NUMBER: _ClassVar[int]
    KV_TOKENS_FREE_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_S_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    instance: int
    model: str
    fingerprint: str
    num_blocks: int
    span: SpanRange
    address: str
    profile: str
    state: int
    version: str
    kv_tokens: int
    kv_tokens_free: int
    sessions: int
    queue_tokens: int
    block_s: float
    expires_at: float
    name: str
    public_address: bool
    def __init__(self, peer_id: _Optional[str] = ..., instance: _Optional[int] = ..., model: _Optional[str] = ..., fingerprint: _Optional[str] = ..., num_blocks: _Optional[int] = ..., span: _Optional[_Union[SpanRange, _Mapping[str, object]]] = ..., address: _Optional[str] = ..., profile: _Optional[str] = ..., state: _Optional[int] = ..., version: _Optional[str] = ..., kv_tokens: _Optional[int] = ..., kv_tokens_free: _Optional[int] = ..., sessions: _Optional[int] = ..., queue_tokens: _Optional[int] = ..., block_s: _Optional[float] = ..., expires_at: _Optional[float] = ..., name: _Optional[str] = ..., public_address: _Optional[bool] = ...) -> None: ...

class InfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class InfoReply(_message.Message):
    __slots__ = ("info", "assets", "hidden_size", "vocab_size", "max_positions", "eos_token_ids", "stats")
    INFO_FIELD_NUMBER: _ClassVar[int]
    ASSETS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_SIZE_FIELD_NUMBER: _ClassVar[int]
    VOCAB_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    EOS_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    info: PeerInfo
    assets: _containers.RepeatedCompositeFieldContainer[AssetRef]
    hidden_size: int
    vocab_size: int
    max_positions: int
    eos_token_ids: _containers.RepeatedScalarFieldContainer[int]
    stats: Stats
    def __init__(self, info: _Optional[_Union[PeerInfo, _Mapping[str, object]]] = ..., assets: _Optional[_Iterable[_Union[AssetRef, _Mapping[str, object]]]] = ..., hidden_size: _Optional[int] = ..., vocab_size: _Optional[int] = ..., max_positions: _Optional[int] = ..., eos_token_ids: _Optional[_Iterable[int]] = ..., stats: _Optional[_Union[Stats, _Mapping[str, object]]] = ...) -> None: ...

class Stats(_message.Message):
    __slots__ = ("prefill_tokens", "decode_tokens", "pages", "pages_used", "flows")
    PREFILL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DECODE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PAGES_FIELD_NUMBER: _ClassVar[int]
    PAGES_USED_FIELD_NUMBER: _ClassVar[int]
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    prefill_tokens: int
    decode_tokens: int
    pages: int
    pages_used: int
    flows: _containers.RepeatedCompositeFieldContainer[Flow]
    def __init__(self, prefill_tokens: _Optional[int] = ..., decode_tokens: _Optional[int] = ..., pages: _Optional[int] = ..., pages_used: _Optional[int] = ..., flows: _Optional[_Iterable[_Union[Flow, _Mapping[str, object]]]] = ...) -> None: ...

class Flow(_message.Message):
    __slots__ = ("peer_id", "seats", "rtt_us")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    SEATS_FIELD_NUMBER: _ClassVar[int]
    RTT_US_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    seats: int
    rtt_us: int
    def __init__(self, peer_id: _Optional[str] = ..., seats: _Optional[int] = ..., rtt_us: _Optional[int] = ...) -> None: ...

class AssetRef(_message.Message):
    __slots__ = ("name", "sha256", "size")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    sha256: str
    size: int
    def __init__(self, name: _Optional[str] = ..., sha256: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class AssetRequest(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    def __init__(self, sha256: _Optional[str] = ...) -> None: ...

class AssetPart(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...
