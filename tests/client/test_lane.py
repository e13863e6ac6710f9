"""One Seat seen from the client: what is believed, how long is waited, and that it is given back."""

from __future__ import annotations

import struct

import pytest

from client.lane import Lane, Shape
from client.mailbox import Mailbox
from proto.link import Ear
from proto.messages import Body, Close, Done, Entry, Hidden, Neighbour, Open, Opened, Token, WireDType
from swarm.errors import BadNumbers, BadRequest, DeadLink, Fault, NoSeat, Refused, Timeout
from swarm.route import Hop
from swarm.span import Span
from tests.support.hash_engine import HIDDEN, MODEL, VOCAB, hash_peer
from tests.support.virtual_loop import virtually

SHAPE = Shape(HIDDEN, VOCAB, WireDType.F32)
SEAT = b"s" * 16
HOP = Hop(hash_peer(1, 0, 6), Span(0, 3))
OPEN = Open(MODEL.fingerprint, "c8", Span(0, 3), 20, 4, prefix=(bytes(16),))
OPENED = Opened(0, 60.0, 5)


class Line:
    """A Link that answers at once, as it is told to; None: not at all."""

    def __init__(self, *answers: Body | None):
        self.answers = list(answers)
        self.sent: list[Entry] = []
        self.ear: Ear | None = None
        self.dead = False

    def attach(self, session: bytes, ear: Ear) -> None:
        self.ear = ear

    def detach(self, session: bytes) -> None:
        self.ear = None

    def send(self, entry: Entry) -> None:
        if self.dead:
            raise DeadLink("gone")
        self.sent.append(entry)
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            self.say(answer, entry.epoch)

    def say(self, body: Body, epoch: int = 0) -> None:
        assert self.ear is not None
        self.ear.hear(Entry(SEAT, epoch, body))

    # Lines
    async def get(self, peer: object) -> Line:
        return self


async def seat_at(line: Line, mailbox: Mailbox | None = None, shape: Shape = SHAPE, epoch: int = 0) -> Lane:
    box = Mailbox() if mailbox is None else mailbox
    return await Lane.open(
        line, HOP, SEAT, epoch, OPEN, shape, box, max_chunk_tokens=8, timeout_s=5.0  # type: ignore[arg-type]
    )  # fmt: skip


@virtually
async def test_an_open_seat_has_a_place_and_takes_chunks_of_the_smaller_size():
    for offered, taken in ((5, 5), (100, 8)):
        lane = await seat_at(Line(Opened(3, 60.0, offered, 2)))
        assert (lane.position, lane.kept_from, lane.max_chunk_tokens, lane.span) == (3, 2, taken, Span(0, 3))
        assert lane.neighbour == Neighbour(HOP.peer.peer_id, HOP.peer.address, SEAT, taken)


@pytest.mark.parametrize("answer", [Opened(33, 60.0, 5), Opened(0, 60.0, 0), Done(0, 0), Token(0, 0, 1)])
@virtually
async def test_what_cannot_be_the_answer_to_an_open_leaves_nothing_behind(answer: Body):
    line = Line(answer)
    with pytest.raises(BadRequest):
        await seat_at(line)
    assert line.ear is None and isinstance(line.sent[-1].body, Close)


@virtually
async def test_a_refusal_and_silence_leave_nothing_behind_either():
    for line, fault in ((Line(Refused("full", 1.0)), Refused), (Line(), Timeout)):
        with pytest.raises(fault):
            await seat_at(line)
        assert line.ear is None and isinstance(line.sent[-1].body, Close)


@virtually
async def test_a_lane_says_how_far_its_seat_is_after_each_fence():
    line = Line(OPENED, Opened(7, 60.0, 5, 9))
    lane = await seat_at(line)
    await lane.advance(3, 5.0)
    assert line.sent[-1].epoch == 3
    assert (lane.position, lane.kept_from) == (7, 7), "nobody has kept what it has not given"
    with pytest.raises(Timeout):
        await lane.advance(4, 5.0)


@virtually
async def test_what_came_before_the_fence_is_dropped_and_what_comes_from_the_future_is_a_lie():
    line, box = Line(OPENED, OPENED), Mailbox()
    lane = await seat_at(line, box)
    await lane.advance(3, 5.0)
    line.say(Done(0, 1), epoch=2)
    line.say(NoSeat("old"), epoch=2)
    assert len(box) == 0
    line.say(Done(1, 2), epoch=3)
    line.say(Done(2, 3), epoch=4)
    assert await box.get(1.0) == (lane, Entry(SEAT, 3, Done(1, 2)))
    _, fault = await box.get(1.0)
    assert isinstance(fault, BadRequest) and "in epoch 4, expected 3" in str(fault)


@virtually
async def test_what_is_old_does_not_disturb_an_agreement():
    line = Line(OPENED)
    lane = await seat_at(line)
    line.answers = [Done(0, 1)]  # of the present epoch: what was asked for is something else
    with pytest.raises(BadRequest, match="with Done, Opened was expected"):
        await lane.advance(1, 5.0)


@virtually
async def test_faults_and_the_end_of_the_link_come_in_their_turn():
    line, box = Line(OPENED), Mailbox()
    lane = await seat_at(line, box)
    line.say(Done(0, 1))
    line.say(NoSeat("expired"))
    lane.fail(DeadLink("gone"))
    kinds = [(await box.get(1.0))[1] for _ in range(3)]
    assert isinstance(kinds[0], Entry) and isinstance(kinds[1], NoSeat) and isinstance(kinds[2], DeadLink)


@virtually
async def test_closing_is_once_and_never_an_error_and_silences_it():
    line, box = Line(OPENED), Mailbox()
    lane = await seat_at(line, box)
    line.say(Done(0, 1))
    ear = line.ear
    lane.close()
    lane.close()
    assert [entry.body for entry in line.sent[1:]] == [Close()] and len(box) == 0
    assert ear is not None
    ear.hear(Entry(SEAT, 0, Done(1, 2)))
    ear.fail(DeadLink("gone"))
    assert len(box) == 0
    dead = Line(OPENED)
    lane = await seat_at(dead)
    dead.dead = True
    with pytest.raises(DeadLink):
        lane.send(Done(0, 0))
    lane.close()


@virtually
async def test_a_token_is_one_of_the_vocabulary_at_the_next_position():
    lane = await seat_at(Line(OPENED))
    lane.check_token(Token(0, 4, VOCAB - 1), 4)
    for token in (Token(0, 5, 1), Token(0, 3, 1), Token(0, 4, VOCAB), Token(0, 4, -1)):
        with pytest.raises(BadRequest, match=rf"token {token.token_id} at position {token.position}, expected"):
            lane.check_token(token, 4)


def rows(count: int, last: float = 1.0, dtype: WireDType = WireDType.F32) -> Hidden:
    numbers = [struct.pack("<f", 3.0e38)] * (count * HIDDEN - 1) + [struct.pack("<f", last)]  # large is not infinite
    return Hidden(dtype, count, HIDDEN, b"".join(number[-dtype.itemsize :] for number in numbers))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", list(WireDType))
@virtually
async def test_numbers_that_are_none_are_the_fault_of_who_sent_them(dtype: WireDType, number: float):
    lane = await seat_at(Line(OPENED), shape=Shape(HIDDEN, VOCAB, dtype))
    assert lane.check_hidden(rows(2, dtype=dtype), 2, 7, 7) == rows(2, dtype=dtype)
    with pytest.raises(BadNumbers, match=r"00000000\[0:3\]"):
        lane.check_hidden(rows(2, number, dtype), 2, 7, 7)


@virtually
async def test_wrong_rows_are_told_with_what_was_expected_and_what_came():
    lane = await seat_at(Line(OPENED))
    good = rows(2)
    for hidden, position, complaint in (
        (None, 7, "a chunk from position 7, expected hidden states from 7"),
        (good, 6, "a chunk from position 6, expected hidden states from 7"),
        (rows(3), 7, r"F32 \[3, 4\] in 48 bytes, expected F32 \[2, 4\]"),
        (rows(2, dtype=WireDType.BF16), 7, r"BF16 \[2, 4\] in 16 bytes, expected F32 \[2, 4\]"),
        (Hidden(WireDType.F32, 2, HIDDEN, good.data[:-1]), 7, "in 31 bytes"),
    ):
        with pytest.raises(Fault, match=complaint):
            lane.check_hidden(hidden, 2, position, 7)
