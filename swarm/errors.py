"""Every error Shoal raises on purpose.

    ShoalError                     anything below; str() is one line that says what to do
    ├── UsageError                 the caller asked for something that cannot be meant           exit 2
    ├── ModelError                 a checkpoint that cannot be served                            exit 3
    │   ├── ModelNotFound          no such directory, Hub id or file
    │   ├── UnsupportedModel       an architecture or option outside the supported families
    │   └── CorruptCheckpoint      files that contradict themselves
    ├── SwarmError                 the swarm cannot do it now                                    exit 4
    │   ├── SwarmUnreachable       no given address answered
    │   ├── NoRoute                Blocks that nobody serves (``missing``), the text so far
    │   └── AddressInUse           a port that somebody else holds
    └── Fault                      what one party of a Link tells the other; ``code`` travels    exit 5
        ├── BadRequest             a message that breaks the protocol or exceeds a limit
        │   └── BadGrammar         a grammar that cannot be understood, or takes too much
        ├── WrongModel             the peer does not serve this model, profile or Span
        ├── Refused                cannot be admitted now: Pages, Seats; ``retry_after_s``
        ├── NoSeat                 the Session has no Seat here (closed, expired, or never opened)
        ├── StaleEpoch             a message of an epoch that was fenced off
        ├── OutOfOrder             a gap, or other bytes for a step already taken
        ├── Overflow               more unread output than the Seat may have
        ├── BadNumbers             NaN or infinity in activations
        ├── Draining               the peer is leaving
        ├── DeadLink               the Link broke or never came up
        ├── Timeout                no answer within the deadline
        └── Internal               the other side's own mistake

Foreign errors (gRPC, hivemind, safetensors, OSError) become one of these at the border where they enter.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from swarm.span import Span


class ShoalError(Exception):
    """Base of the tree. ``exit_status`` is what a command line ends with."""

    exit_status: ClassVar[int] = 1


class UsageError(ShoalError):
    exit_status = 2


class ModelError(ShoalError):
    exit_status = 3


class ModelNotFound(ModelError):
    pass


class UnsupportedModel(ModelError):
    pass


class CorruptCheckpoint(ModelError):
    pass


class SwarmError(ShoalError):
    exit_status = 4


class SwarmUnreachable(SwarmError):
    pass


class AddressInUse(SwarmError):
    pass


class NoRoute(SwarmError):
    """Nobody serves ``missing``. ``text`` and ``token_ids`` hold what was generated before that."""

    def __init__(self, message: str, missing: Sequence[Span] = (), text: str = "", token_ids: Sequence[int] = ()):
        super().__init__(message)
        self.missing = tuple(missing)
        self.text = text
        self.token_ids = tuple(token_ids)


class FaultCode(IntEnum):
    """The number of a Fault on the wire. Never reuse one."""

    BAD_REQUEST = 1
    WRONG_MODEL = 2
    REFUSED = 3
    NO_SEAT = 4
    STALE_EPOCH = 5
    OUT_OF_ORDER = 6
    OVERFLOW = 7
    BAD_NUMBERS = 8
    DRAINING = 9
    DEAD_LINK = 10
    TIMEOUT = 11
    INTERNAL = 12
    BAD_GRAMMAR = 13


class Fault(ShoalError):
    """A typed refusal or failure that one party of a Link tells the other."""

    exit_status = 5
    code: ClassVar[FaultCode]


class BadRequest(Fault):
    code = FaultCode.BAD_REQUEST


class BadGrammar(BadRequest):
    """Told to whoever asked, and held against no Peer: any other would say the same."""

    code = FaultCode.BAD_GRAMMAR


class WrongModel(Fault):
    code = FaultCode.WRONG_MODEL


class Refused(Fault):
    """Cannot be admitted now. ``retry_after_s`` is None when waiting would not help (it can never fit)."""

    code = FaultCode.REFUSED

    def __init__(self, message: str, retry_after_s: float | None = None):
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NoSeat(Fault):
    code = FaultCode.NO_SEAT


class StaleEpoch(Fault):
    code = FaultCode.STALE_EPOCH


class OutOfOrder(Fault):
    code = FaultCode.OUT_OF_ORDER


class Overflow(Fault):
    code = FaultCode.OVERFLOW


class BadNumbers(Fault):
    code = FaultCode.BAD_NUMBERS


class Draining(Fault):
    code = FaultCode.DRAINING


class DeadLink(Fault):
    code = FaultCode.DEAD_LINK


class Timeout(Fault):
    code = FaultCode.TIMEOUT


class Internal(Fault):
    code = FaultCode.INTERNAL


FAULTS: dict[FaultCode, type[Fault]] = {
    kind.code: kind
    for kind in (
        BadRequest, WrongModel, Refused, NoSeat, StaleEpoch, OutOfOrder,
        Overflow, BadNumbers, Draining, DeadLink, Timeout, Internal, BadGrammar,
    )
}  # fmt: skip
