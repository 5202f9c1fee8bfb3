"""One meter of what several models have spent on one request, for its reply."""

import copy
from collections import Counter
from collections.abc import Sequence

from app.metering.meter import GuestSpending, Meter


def joined(meters: Sequence[tuple[str, Meter]], own: Meter) -> Meter:
    """Return a meter with what all of these have counted together. Nothing can be reserved of it.

    Args:
        meters: each with the name of its model, in the order in which they ran.
        own: the one of the model whose answer is given. What the others have cost is that of `guests`.

    """
    whole = copy.copy(own)
    whole.started = meters[0][1].started
    every = [meter for _, meter in meters]
    whole.tokens, whole.flops, whole.saved, whole.branches = (
        sum((getattr(meter, kind) for meter in every), Counter[str]()) for kind in ("tokens", "flops", "saved", "branches")
    )
    seconds: dict[str, float] = {}
    for meter in every:
        for phase, duration in meter.seconds.items():
            seconds[phase] = seconds.get(phase, 0.0) + duration
    if "first_token" in own.seconds:
        seconds["first_token"] = own.started - whole.started + own.seconds["first_token"]
    else:
        seconds.pop("first_token", None)
    whole.seconds = seconds
    whole.guests = {}
    for name, meter in meters:
        if meter is not own:
            _add(whole.guests, name, GuestSpending(meter.tokens, meter.flops))
            for guest in meter.guests.values():  # they are told apart below
                whole.guests[name].tokens.subtract(guest.tokens)
                whole.guests[name].flops.subtract(guest.flops)
        for guest_name, guest in meter.guests.items():
            _add(whole.guests, guest_name, guest)
    return whole


def _add(guests: dict[str, GuestSpending], name: str, spent: GuestSpending) -> None:
    sums = guests.setdefault(name, GuestSpending())
    sums.tokens.update(spent.tokens)
    sums.flops.update(spent.flops)
