"""The carrier: a channel program that takes jobs to servers, smtp or lmtp, from its first word on.

Source   channel(7), smtp(8), lmtp(8).
"""

from __future__ import annotations

import asyncio
import signal
import sys

from mta.errors import EX_OK, PosthouseError, exit_code
from mta.machine.conversation import ALL, EACH, AsyncConversation
from mta.machine.courier import Courier
from mta.machine.listen import raise_descriptors
from mta.machine.loop import run, spare_collector
from mta.machine.outward import settings
from mta.machine.resolve import Resolver
from mta.machine.site import Delivery
from mta.machine.sts import StsCache
from mta.types import Outcome, Reply

__all__ = ["run_carrier"]

DESCRIPTORS = 8192


async def serve(name: str, lmtp: bool) -> None:
    """Serve deliver on fd 0 until it ends the conversation and all jobs are done."""
    conversation = await AsyncConversation.open()
    options = settings(conversation.opening, lmtp)
    empty = asyncio.Event()
    in_flight = 0

    def settle(delivery: Delivery, outcomes: tuple[Outcome, ...], relay: str, passed: bool) -> None:
        nonlocal in_flight
        tag, recipients = delivery.dispatch.tag, delivery.dispatch.recipients
        delivery.body.close()
        if outcomes.count(outcomes[0]) == len(outcomes):
            conversation.tell(tag, None, outcomes[0], relay, dsn_passed=passed)
        else:
            for recipient, outcome in zip(recipients, outcomes, strict=True):
                conversation.tell(tag, recipient.index, outcome, relay, dsn_passed=passed)
        conversation.done(tag)
        in_flight -= 1
        if not in_flight:
            empty.set()

    def warn(text: str) -> None:
        print(f"{name}: {Reply.clean(text)}", file=sys.stderr, flush=True)

    resolver = Resolver(options.nameservers, options.trust_ad)
    policies = StsCache(resolver, options.ca) if options.mta_sts else None
    told = conversation.tls, warn, conversation.address
    courier = Courier(options, resolver, settle, policies, *told)
    spare_collector()
    jobs = int(conversation.opening.option("jobs", "1"))
    conversation.answer(EACH if lmtp else ALL, jobs, courier.avoid)
    try:
        async for dispatch, body in conversation:
            in_flight += 1
            courier.offer(Delivery(dispatch, body))
        while in_flight:
            empty.clear()
            await empty.wait()
    finally:
        await courier.close()
        await conversation.close()


def run_carrier(name: str, lmtp: bool) -> int:
    """Run the channel program ``name``; return its exit status."""
    raise_descriptors(DESCRIPTORS)  # silent hosts cost little else
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's: deliver has it too, and decides
    try:
        run(serve(name, lmtp))
    except PosthouseError as error:
        print(f"{name}: {Reply.clean(str(error))}", file=sys.stderr)
        return exit_code(error)
    return EX_OK
