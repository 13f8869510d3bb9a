"""The courier: takes each job to the site that it belongs to.

Where a job goes is its own next hop, else the channel's relays, else the MX of
its host.  Relays are chosen by weight among the healthy; a job that finds its
relay dead goes to another one.  All jobs whose hosts have the same MX under the
same rules meet at one site, and share its connections.

Source   smtp(8), lmtp(8); RFC 5321 s5.1.
Units    Times are float seconds of the loop's monotonic clock.
State    The sites, and which site a host's jobs go to; both forgotten when
         nothing would be lost, but the sites of the channel's own relays.

Invariants, each a test in tests/channels/test_smtp.py
    P3   Every delivery offered is settled once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from mta.channel.records import AddressFact, Avoid, Dispatch, TlsFact
from mta.machine.credentials import Credentials
from mta.machine.hops import NextHop, parse_next_hop
from mta.machine.net import Endpoint
from mta.machine.outward import Settings
from mta.machine.places import Failure
from mta.machine.reach import LOOKUPS_MAX, Reach, Report
from mta.machine.relays import Relays
from mta.machine.resolve import Resolver
from mta.machine.site import MEMORY, Delivery, Site
from mta.machine.smtp_session import Connection
from mta.machine.targets import Guide, StsSource, Target
from mta.machine.wire import defect
from mta.smtp.states import LIMITS, QUIT
from mta.types import HOST, Host, Outcome, Reply

__all__ = ["Courier", "Settle"]

IDLE_MAX = 200  # connections kept for nobody in particular
FRESH_FOR = 60.0  # how long a host's site stands before the DNS is asked again; it remembers
HOPS_MAX = 10_000

Settle = Callable[[Delivery, tuple[Outcome, ...], str, bool], None]


class Courier:
    """All sites of the program, and what they share."""

    def __init__(
        self,
        settings: Settings,
        resolver: Resolver,
        settle: Settle,
        policies: StsSource | None = None,
        report: Report = lambda fact: None,
        warn: Callable[[str], None] = lambda text: None,
        tell: Callable[[AddressFact], None] = lambda fact: None,
    ) -> None:
        """Deliver by ``settings`` in the running loop; ``settle`` hears of each delivery once.

        ``report`` hears of TLS, ``warn`` of what a person should know, ``tell`` of
        addresses.
        """
        self.settings = settings
        self.settle = settle
        self.loop = asyncio.get_running_loop()
        self.scale = settings.scale
        self.per_host = settings.per_host
        self.limits = {state: limit * settings.scale for state, limit in LIMITS.items()}
        self.connections: set[Connection] = set()  # every one that has a socket
        self.idle: dict[Connection, Site] = {}  # the longest idle first
        self.ending = False
        self.guide = Guide(settings, resolver, policies)
        self._policies, self._report = policies, report
        credentials = Credentials(settings.credentials, warn)
        # All mail waits for the channel's own relays: who probes them are their sites.
        shared = tell if not settings.relays else lambda fact: None
        self._reach = Reach(settings, self.guide, credentials, report, shared)
        self._sites: dict[Target, Site] = {}
        self._ways: dict[tuple[str, str, bool], Site | Search | Pool] = {}
        self._hops: dict[str, NextHop] = {}  # what the texts say
        self._fixed = bool(settings.relays)
        self._pools: dict[Site, Pool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweep()

    def offer(self, delivery: Delivery) -> None:
        """Take ``delivery`` to its site."""
        job = delivery.dispatch
        # Jobs of one relay or next hop go one way, whatever their hosts.
        host = "" if self._fixed or job.next_hop else job.host
        way = self._ways.get((host, job.next_hop, job.requiretls))
        if way is None:
            try:
                way = self._way(job)
            except ValueError as error:
                outcome = Outcome(Reply(451, "4.3.5", Reply.clean(f"next hop {error}")), HOST)
                self.settle(delivery, delivery.all(outcome), "", False)
                return
        way.offer(delivery)

    def avoid(self, told: Avoid) -> None:
        """Heed what deliver says of an address; what is well again is tried at once."""
        address = "]:" in told.what
        if address:
            self._reach.avoid(told, self.loop.time())
        if told.seconds:
            return
        # Which sites a host's mail goes to is known for a while only; to ask costs little.
        for site in self._sites.values():
            if site.dead is not None and (not address or site.dead.relay.endswith(told.what)):
                site.forget()

    def rest(self, connection: Connection, site: Site) -> None:
        """Keep ``connection`` of ``site``, which is idle, and let the longest idle go."""
        self.idle[connection] = site
        if len(self.idle) > IDLE_MAX:
            oldest = next(iter(self.idle))
            self.idle[oldest].retire(oldest)

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run ``work`` beside everything else."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def open(self, site: Site) -> Connection | Failure:
        """Open one connection for ``site``."""
        return await self._reach.open(site, site.target, site.domain)

    def alive(self, site: Site, alive: bool) -> None:
        """``site`` has a connection, or turned out to be dead."""
        pool = self._pools.get(site)
        if pool is not None:
            pool.alive(site, alive)

    def looked(self, domain: Host) -> None:
        """The MX of ``domain`` were looked up; tell if its MTA-STS policy could not be had."""
        trouble = self._policies.failure(domain) if self._policies is not None else ""
        if trouble:
            self._report(TlsFact(domain, f"mta-sts.{domain}", "sts", trouble, "", ""))

    def site(self, target: Target, domain: Host) -> Site:
        """Return the site of ``target``, to which ``domain`` has led now."""
        site = self._sites.get(target)
        if site is None:
            site = self._sites[target] = Site(self, target, domain)
        site.domain = domain
        return site

    async def close(self) -> None:
        """Quit all connections, which are idle by now, and wait for the servers' goodbye."""
        self.ending = True
        for connection, site in list(self.idle.items()):
            site.retire(connection)
        until = self.loop.time() + self.limits[QUIT]
        while (self.connections or self._tasks) and self.loop.time() < until:
            await asyncio.sleep(0.01)

    def _way(self, job: Dispatch) -> Site | Search | Pool:
        """Return where ``job`` goes; ValueError if its next hop makes no sense."""
        hop = self._hops.get(job.next_hop)
        if hop is None:
            if len(self._hops) >= HOPS_MAX:
                self._hops.clear()
            hop = self._hops[job.next_hop] = parse_next_hop(job.next_hop, self.settings.port)
        # A next hop that says no more than its level leaves the rest to the host.
        fixed = self._fixed or hop.endpoint is not None
        key = "" if fixed else job.host, job.next_hop, job.requiretls
        way = self._ways.get(key)
        if way is None:
            way = self._ways[key] = self._new_way(job, hop)
        return way

    def _new_way(self, job: Dispatch, hop: NextHop) -> Site | Search | Pool:
        level = hop.level or self.settings.tls
        if hop.endpoint is not None:
            return self._relay(hop.endpoint, level, job.requiretls)
        weights: dict[Endpoint, int] = {}
        for relay in self.settings.relays:
            weights[relay.endpoint] = weights.get(relay.endpoint, 0) + relay.weight
        if not weights:
            return Search(self, job.host, level, job.requiretls)
        sites = [self._relay(endpoint, level, job.requiretls) for endpoint in weights]
        if len(sites) == 1:
            return sites[0]
        for known in self._pools.values():
            if known.sites() == tuple(sites):
                return known
        pool = Pool(sites, Relays(tuple(weights.values()), self.scale))
        self._pools.update(dict.fromkeys(sites, pool))
        return pool

    def _relay(self, endpoint: Endpoint, level: str, requiretls: bool) -> Site:
        target = self.guide.fixed(endpoint.host, endpoint.port, level, requiretls, True)
        return self.site(target, endpoint.host)

    def _sweep(self) -> None:
        """Twice a second: whatever has waited too long, and sites that nobody needs."""
        now = self.loop.time()
        for connection in [c for c in self.connections if c.deadline < now]:
            site = self.idle.get(connection)
            if site is None:
                connection.expire()
            else:
                site.retire(connection)
        self._ways = {key: way for key, way in self._ways.items() if way.needed(now)}
        kept = {site for way in self._ways.values() for site in way.sites()}
        self._sites = {t: site for t, site in self._sites.items() if site in kept}
        self._pools = {site: pool for site, pool in self._pools.items() if site in kept}
        self.loop.call_later(min(0.5, max(0.01, self.settings.scale)), self._sweep)


class Search:
    """The way of a host's jobs: they wait here until its MX are known, then go to that site."""

    def __init__(self, courier: Courier, host: Host, level: str, requiretls: bool) -> None:
        self._courier = courier
        self._host, self._level, self._requiretls = host, level, requiretls
        self._waiting: list[Delivery] = []
        self._asking = False
        self._found: Site | Outcome | None = None
        self._until = 0.0

    def needed(self, now: float) -> bool:
        """False if nothing would be lost by forgetting what was found."""
        if isinstance(self._found, Site):
            return self._asking or self._found.needed(now)
        return self._asking or now < self._until

    def sites(self) -> tuple[Site, ...]:
        """Return the site where the jobs go."""
        return (self._found,) if isinstance(self._found, Site) else ()

    def offer(self, delivery: Delivery) -> None:
        """Take ``delivery`` to the site, or answer with the reason why there is none."""
        if self._courier.loop.time() < self._until:
            self._give(delivery)
            return
        self._waiting.append(delivery)
        if not self._asking:
            self._asking = True
            self._courier.spawn(self._find())

    def _give(self, delivery: Delivery) -> None:
        if isinstance(self._found, Site):
            self._found.offer(delivery)
        elif self._found is not None:
            self._courier.settle(delivery, delivery.all(self._found), "", False)

    async def _find(self) -> None:
        courier = self._courier
        found: Target | Outcome
        try:
            async with asyncio.timeout(LOOKUPS_MAX):
                found = await courier.guide.find(
                    self._host, self._level, self._requiretls, courier.loop.time()
                )
        except TimeoutError:
            found = Outcome(Reply(421, "4.4.3", "name service: timed out"), HOST)
        except Exception as error:  # a defect of ours must not leave jobs waiting for ever
            found = defect(error)
        span = MEMORY if isinstance(found, Outcome) else FRESH_FOR
        self._found = found if isinstance(found, Outcome) else courier.site(found, self._host)
        self._until = courier.loop.time() + span * courier.scale
        self._asking = False
        courier.looked(self._host)
        waiting, self._waiting = self._waiting, []
        for delivery in waiting:
            self._give(delivery)


class Pool:
    """The way of jobs that several relays may take: it hands them round, and past dead ones."""

    def __init__(self, sites: list[Site], relays: Relays) -> None:
        self._sites = sites
        self._relays = relays

    def needed(self, now: float) -> bool:
        """The channel's relays are its own for good, and so is what is known of their health."""
        return True

    def sites(self) -> tuple[Site, ...]:
        """Return the sites of the relays."""
        return tuple(self._sites)

    def offer(self, delivery: Delivery) -> None:
        """Take ``delivery`` to a relay."""
        delivery.elsewhere = self
        self.again(delivery)

    def again(self, delivery: Delivery) -> bool:
        """Take ``delivery`` to a relay where it was not yet; False if there is none."""
        index = self._relays.choose(self._sites[0].loop.time(), delivery.tried)
        if index is None:
            return False
        delivery.tried |= 1 << index
        self._sites[index].offer(delivery)
        return True

    def alive(self, site: Site, alive: bool) -> None:
        """Learn that ``site`` has a connection, or turned out to be dead."""
        index = self._sites.index(site)
        if alive:
            self._relays.worked(index)
        else:
            self._relays.failed(index, site.loop.time())
