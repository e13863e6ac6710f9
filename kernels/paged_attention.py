"""Attention over paged FP16 keys and values, and the writing of them: the part of the definition that walks a Seat's
Pages.

For one query row and one head, with the Pages of its Seat in ascending order:

    m = LOWEST, l = 0, acc = 0
    for each Page with a visible token:
        s_t   = lane_sum(q * k_t) * (1 / root(head_dim))        for its 32 tokens
        s_t   = softcap * tanh(s_t / softcap)                   where there is a soft cap
        s_t   = -infinity                                       where t is invisible
        m'    = max(m, the largest s_t)
        alpha = exp(m - m'),  p_t = exp(s_t - m')               p_t is exactly 0 where t is invisible
        l     = l * alpha + lane_sum(p_t)                       lane_sum over the 32 tokens of the Page
        acc   = acc * alpha + lane_sum(p_t * v_t)
        m     = m'
    out = acc / l

Token t is visible to position p when t <= p and, with a window, t > p - window. tanh is ``elementary.tanh``; it
makes +-softcap of an infinite score and leaves NaN as it is.

A Page without a visible token changes nothing: its alpha is exp(0) = 1, its p are 0, and l and acc, sums that start at
+0, are never -0. So skipping such Pages, or padding a Seat with them to the length of its neighbours, cannot change a
bit.

Below, everything but the recurrence of l and acc is computed for many Pages and rows at once. That changes no bit
either: running maxima are exact, and the sums of different Pages do not meet before the recurrence. l travels as one
more channel of acc, whose value is 1 in every token: ``p * 1 = p``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from kernels.elementary import LOWEST, exp, lane_sum, root, tanh
from kernels.types import PAGE_SIZE, BatchRows

_PRODUCTS = 1 << 20  # of q and k, or p and v, held at a time


def write_kv(k: Tensor, v: Tensor, rows: BatchRows, k_pages: Tensor, v_pages: Tensor) -> None:
    """Rounds keys and values [rows, kv_heads, head_dim] f32 to FP16 and puts each row into its slot of the Pages
    [pages, kv_heads, PAGE_SIZE, head_dim].

    An overflow is stored as NaN, so that the row cannot pass as finite.
    """
    page, offset = rows.slots // PAGE_SIZE, rows.slots % PAGE_SIZE
    for new, pages in ((k, k_pages), (v, v_pages)):
        half = new.to(torch.float16)
        pages.transpose(1, 2)[page, offset] = half - (half - half)  # inf - inf is NaN; x - 0 is x, also for -0


def attention(
    q: Tensor, rows: BatchRows, k_pages: Tensor, v_pages: Tensor, window: int | None, softcap: float | None = None
) -> Tensor:
    """Every query row over its own Seat: [rows, heads, head_dim] f32 -> [rows, heads * head_dim]."""
    num_rows, heads, head_dim = q.shape
    kv_heads = k_pages.shape[1]
    grouped = q.view(num_rows, kv_heads, heads // kv_heads, head_dim)
    parts: list[Tensor] = []
    for cut in _cuts(rows, heads * head_dim, window):
        mine = grouped[cut.start : cut.end].view(cut.seats, -1, *grouped.shape[1:])
        step = max(1, _PRODUCTS * kv_heads // (heads * head_dim * cut.hidden.numel()))
        if step >= kv_heads:
            parts.append(_attend(mine, cut, k_pages, v_pages, softcap))
        else:  # a row so long that its heads go one after the other
            some = [slice(at, at + step) for at in range(0, kv_heads, step)]
            pieces = [_attend(mine[:, :, s], cut, k_pages[:, s], v_pages[:, s], softcap) for s in some]
            parts.append(torch.cat(pieces, -1))
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(num_rows, -1)


@dataclass(frozen=True, eq=False)
class _Cut:
    """Rows that are computed together: of one Seat, or one row each of several."""

    start: int
    end: int
    seats: int
    pages: Tensor  # int64 [seats * pages]
    hidden: Tensor  # bool [seats, rows of each, 1, 1, tokens]: what the row must not see
    unwritten: Tensor | None  # bool [seats, pages, 1, PAGE_SIZE, 1]: slots that hold nobody's or another Seat's values


def _cuts(rows: BatchRows, width: int, window: int | None) -> list[_Cut]:
    """The Batch's rows in pieces of bounded memory: from integers alone, once for all Blocks with this window."""
    key = f"reference cuts {width} {window}"
    if key not in rows.prepared:
        rows.prepared[key] = list(_make_cuts(rows, width, window))
    return rows.prepared[key]


def _make_cuts(rows: BatchRows, width: int, window: int | None) -> Iterator[_Cut]:
    first = 0
    pending: list[int] = []  # Seats with one row, not yet in a cut
    start = 0

    def flush() -> Iterator[_Cut]:
        if pending:
            chosen = [rows.seats[i] for i in pending]
            yield _cut(rows, start, start + len(chosen), [(seat.pages, seat.position, 1) for seat in chosen], window)
            pending.clear()

    for index, seat in enumerate(rows.seats):
        if seat.count == 1:
            longest = max([seat.position, *(rows.seats[i].position for i in pending)]) + PAGE_SIZE
            if pending and (len(pending) + 1) * longest * width > _PRODUCTS:
                yield from flush()
            if not pending:
                start = first
            pending.append(index)
        else:
            yield from flush()
            step = max(1, _PRODUCTS // (width * (seat.position + seat.count)))
            for offset in range(0, seat.count, step):
                count = min(step, seat.count - offset)
                yield _cut(
                    rows, first + offset, first + offset + count, [(seat.pages, seat.position + offset, count)], window
                )
        first += seat.count
    yield from flush()


def _cut(
    rows: BatchRows, start: int, end: int, members: list[tuple[tuple[int, ...], int, int]], window: int | None
) -> _Cut:
    """``members``: (pages, position, count) of each Seat, all with the same count."""
    count = members[0][2]
    # Pages before the first that any row's window reaches are left out, those after the last row too.
    skipped = [0 if window is None else max(0, position - window + 1) // PAGE_SIZE for _, position, _ in members]
    lists = [
        pages[skip : (position + count - 1) // PAGE_SIZE + 1]
        for (pages, position, _), skip in zip(members, skipped, strict=True)
    ]
    most = max(map(len, lists))
    pages = torch.tensor([[*chosen, *[chosen[0]] * (most - len(chosen))] for chosen in lists], dtype=torch.int64)
    tokens = torch.arange(most * PAGE_SIZE) + torch.tensor(skipped)[:, None] * PAGE_SIZE  # [seats, tokens]
    positions = rows.positions[start:end].view(len(members), count, 1)
    hidden = tokens[:, None, :] > positions
    if window is not None:
        hidden |= tokens[:, None, :] <= positions - window
    unwritten = tokens > positions[:, -1]
    return _Cut(
        start,
        end,
        len(members),
        pages.view(-1),
        hidden[:, :, None, None, :],
        unwritten.view(len(members), most, 1, PAGE_SIZE, 1) if bool(unwritten.any()) else None,
    )


def _attend(q: Tensor, cut: _Cut, k_pages: Tensor, v_pages: Tensor, softcap: float | None) -> Tensor:
    """q [seats, rows, kv_heads, heads of each, head_dim] -> [seats * rows, heads * head_dim].

    Dimensions that are summed over come first, so that each step of lane_sum reads whole contiguous halves.
    """
    seats, rows, kv_heads, _, head_dim = q.shape
    num_pages = len(cut.pages) // seats
    taken = k_pages[cut.pages].view(seats, num_pages, kv_heads, PAGE_SIZE, head_dim)
    k = torch.empty(seats, kv_heads, num_pages, PAGE_SIZE, head_dim).copy_(taken.transpose(1, 2))
    products = q.permute(4, 0, 1, 2, 3).unsqueeze(-1) * k.view(seats, 1, kv_heads, 1, -1, head_dim).movedim(-1, 0)
    scores = lane_sum(products, 0).mul_(_score_scale(head_dim))
    if softcap is not None:
        scores = tanh(scores / softcap).mul_(softcap)
    scores = scores.masked_fill_(cut.hidden, -torch.inf)
    scores = scores.unflatten(-1, (num_pages, PAGE_SIZE))  # [seats, rows, kv_heads, heads of each, pages, PAGE_SIZE]

    running = scores.amax(-1).clamp_(min=LOWEST).cummax(-1).values
    before = torch.cat([running.narrow(-1, 0, 1), running.narrow(-1, 0, num_pages - 1)], -1)  # the first is not used
    powers = exp(torch.cat([scores, before.unsqueeze(-1)], -1).sub_(running.unsqueeze(-1)))
    p, alpha = powers.split([PAGE_SIZE, 1], -1)

    taken = v_pages[cut.pages].view(seats, num_pages, kv_heads, PAGE_SIZE, head_dim)
    if cut.unwritten is not None:
        taken.masked_fill_(cut.unwritten, 0.0)  # 0 * NaN would be NaN
    v = torch.ones(PAGE_SIZE, seats, 1, kv_heads, 1, num_pages, head_dim + 1)
    v.narrow(-1, 0, head_dim).copy_(taken.permute(3, 0, 2, 1, 4).unsqueeze(3).unsqueeze(2))
    sums = lane_sum(p.permute(5, 0, 1, 2, 3, 4).unsqueeze(-1) * v, 0)  # [..., pages, head_dim + 1]

    steps, alphas = sums.unbind(-2), alpha.unbind(-2)
    state = steps[0]
    for step, factor in zip(steps[1:], alphas[1:], strict=True):
        state = (state * factor).add_(step)
    return (state.narrow(-1, 0, head_dim) / state.narrow(-1, head_dim, 1)).reshape(seats * rows, -1)


@cache
def _score_scale(head_dim: int) -> float:
    """1 / root(head_dim), each rounded to binary32."""
    return torch.reciprocal(root(torch.tensor(float(head_dim)))).item()
