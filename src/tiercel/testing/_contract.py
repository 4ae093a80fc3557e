"""What every store has to keep to, as tests: `StoreContract`."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import Any

from tiercel._core.events import Event
from tiercel.spi import Ask, Coherent, Cut, Found, Holds, Kept, Parcel, Store, Witnesses

_KEY = b"key"
_LEASE = 5.0


class RecordingLog:
    """A log that remembers what it was told.

    Example:
        >>> log = RecordingLog()
        >>> log.apply([Cut(id=3, tags=("a",))], 3)
        >>> log.position, [cut.tags for cut in log.cuts]
        (3, [('a',)])
    """

    def __init__(self) -> None:
        self.position = 0
        self.floor = 0
        self.cuts: list[Cut] = []
        self.resets = 0

    def apply(self, cuts: Sequence[Cut], position: int, *, since: int | None = None) -> None:
        """Take note."""
        del since
        self.cuts += cuts
        self.position = max(self.position, position)

    def reset(self, position: int) -> None:
        """Begin anew."""
        self.cuts.clear()
        self.position = self.floor = position
        self.resets += 1


class Opened:
    """One process's view of a store, as far as a test wants to know."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.log = RecordingLog()
        self.events: list[Event] = []

    def running(self) -> AbstractAsyncContextManager[None]:
        """Be open while this is entered."""
        return self.store.running(self.log, self.events.append)


def parcel(blob: bytes = b"blob", **more: Any) -> Parcel:
    """One that is fresh for a minute."""
    given: dict[str, Any] = {"born": 0, "fresh_for": 60.0, "retain_for": 60.0, "blob": blob, **more}
    return Parcel(**given)


class StoreContract(ABC):
    """The contract of `tiercel.spi.Store`: derive from it, say how stores are made, and let pytest collect it.

    Each test gets stores that share one place, as the processes of one service do. What a store has no capability for
    is not asked of it.

    Example:
        >>> from tiercel.spi import Store
        >>> class TestMyStore(StoreContract):
        ...     def make(self, place: object, namespace: str) -> Store:
        ...         return MyStore(place, namespace=namespace)
    """

    @abstractmethod
    def make(self, place: Any, namespace: str) -> Store:
        """One more store at a place; those of one place share what is stored."""

    # -- what is stored ----------------------------------------------------------------------------------------------

    async def test_what_is_put_is_found_by_every_process(self, place: Any) -> None:
        """Whole, with its age."""
        one, other = self._opened(place), self._opened(place)
        async with one.running(), other.running():
            assert await one.store.fetch(Ask(key=_KEY, fields={})) == Found(at=_any)
            given = parcel(bytes(range(256)), tags=("a", "ü\0", ""), cost=0.5, born=one.log.position)
            await one.store.put(_KEY, b"", given, None)
            found = await other.store.fetch(Ask(key=_KEY, fields={}))
            assert [kept.parcel for kept in found.kept] == [given]
            assert 0.0 <= found.kept[0].age < 10.0
            assert not found.kept[0].soft

    async def test_any_size_and_any_bytes_are_kept(self, place: Any) -> None:
        """Nothing, a megabyte, a thousand tags; keys of any bytes."""
        one = self._opened(place)
        async with one.running():
            for key, blob in ((b"", b""), (b"\0", b"\0" * 1_000_000), (b"k" * 10_000, b"\r\n$-1")):
                tags = tuple(f"tag {number}" for number in range(1_000))
                await one.store.put(key, b"", parcel(blob, tags=tags, born=one.log.position), None)
                assert [kept.parcel.blob for kept in await _kept(one, key)] == [blob]

    async def test_variants_stand_beside_each_other_newest_first(self, place: Any) -> None:
        """One is found where each of its selecting fields has that digest, or is absent where it was."""
        one = self._opened(place)
        async with one.running():
            german = parcel(b"de", selecting=((b"accept-language", b"d" * 16),))
            none = parcel(b"none", selecting=((b"accept-language", None),))
            other = parcel(b"other", selecting=((b"x-a", b"a" * 16),))
            for given in (german, none, other):
                await one.store.put(_KEY, b"", given, None)
            for fields, blobs in (
                ({b"accept-language": b"d" * 16}, [b"de"]),
                ({}, [b"none"]),
                ({b"accept-language": b"d" * 16, b"x-a": b"a" * 16}, [b"other", b"de"]),
                ({b"accept-language": b"f" * 16}, []),
            ):
                found = await one.store.fetch(Ask(key=_KEY, fields=fields))
                assert [kept.parcel.blob for kept in found.kept] == blobs
                assert found.names == {b"accept-language", b"x-a"}

    async def test_one_replaces_what_was_born_before_it_and_not_what_was_born_later(self, place: Any) -> None:
        """However late it is written."""
        one = self._opened(place)
        async with one.running():
            older = one.log.position
            newer = await one.store.append(["elsewhere"])
            await one.store.put(_KEY, b"", parcel(b"newer", born=newer), None)
            await one.store.put(_KEY, b"", parcel(b"older", born=older), None)
            assert [kept.parcel.blob for kept in await _kept(one)] == [b"newer"]
            await one.store.put(_KEY, b"", parcel(b"as old", born=newer), None)
            assert [kept.parcel.blob for kept in await _kept(one)] == [b"as old"]

    async def test_a_key_with_64_variants_takes_no_other(self, place: Any) -> None:
        """Nothing that is stored is lost to a newcomer."""
        one = self._opened(place)
        async with one.running():
            for number in range(70):
                await one.store.put(_KEY, b"", _variant(number), None)
            there = [bool(await _kept(one, fields=dict(_fields(number)))) for number in range(70)]
            assert there == [True] * 64 + [False] * 6
            await one.store.put(_KEY, b"", replace(_variant(3), blob=b"again"), None)
            assert [kept.parcel.blob for kept in await _kept(one, fields=dict(_fields(3)))] == [b"again"]

    async def test_what_is_of_no_more_use_is_not_found(self, place: Any) -> None:
        """What is stale but retained is."""
        one = self._opened(place)
        async with one.running():
            await one.store.put(b"gone", b"", parcel(fresh_for=0.05, retain_for=0.05), None)
            await one.store.put(b"stale", b"", parcel(fresh_for=0.05, retain_for=60.0), None)
            await asyncio.sleep(0.1)
            assert await _kept(one, b"gone") == []
            assert (await _kept(one, b"stale"))[0].age >= 0.05

    # -- what is cut -------------------------------------------------------------------------------------------------

    async def test_what_was_cut_is_found_by_nobody_whenever_it_is_written(self, place: Any) -> None:
        """An old value carries its own condemnation."""
        one, other = self._opened(place), self._opened(place)
        async with one.running(), other.running():
            born = one.log.position
            await one.store.put(_KEY, b"", parcel(tags=("a", "b"), born=born), None)
            await one.store.put(b"kept", b"", parcel(tags=("c",), born=born), None)
            await other.store.append(["b"])
            assert await _kept(one) == await _kept(other) == []
            await one.store.put(_KEY, b"", parcel(tags=("a", "b"), born=born), None)
            assert await _kept(one) == await _kept(other) == []
            assert len(await _kept(other, b"kept")) == 1

    async def test_what_is_born_after_the_cut_is_found(self, place: Any) -> None:
        """And counts as cut by the next."""
        one = self._opened(place)
        async with one.running():
            for _ in range(2):
                cut = await one.store.append(["a"])
                await one.store.put(_KEY, b"", parcel(tags=("a",), born=cut), None)
                assert len(await _kept(one)) == 1
            await one.store.append(["a"])
            assert await _kept(one) == []

    async def test_what_was_cut_softly_is_found_as_such(self, place: Any) -> None:
        """Until it is replaced, or cut hard; and a later soft cut does not take a hard one back."""
        one, other = self._opened(place), self._opened(place)
        async with one.running(), other.running():
            await one.store.put(_KEY, b"", parcel(tags=("a",), born=one.log.position), None)
            cut = await one.store.append(["a"], soft=True)
            assert [kept.soft for kept in await _kept(other)] == [True]
            await one.store.put(_KEY, b"", parcel(tags=("a",), born=cut), None)
            assert [kept.soft for kept in await _kept(other)] == [False]
            await one.store.append(["a"])
            await one.store.append(["a"], soft=True)
            assert await _kept(other) == []

    async def test_a_cut_without_tags_is_of_everything_in_the_namespace(self, place: Any) -> None:
        """And of nothing in another, also where one name is the beginning of the other."""
        one, other = self._opened(place, "shop"), self._opened(place, "shop:a")
        async with one.running(), other.running():
            for opened in (one, other):
                await opened.store.put(
                    _KEY, b"", parcel(opened.log.position.to_bytes(16), born=opened.log.position), None
                )
            await one.store.append([])
            assert await _kept(one) == []
            assert len(await _kept(other)) == 1

    async def test_namespaces_share_nothing(self, place: Any) -> None:
        """Neither what is stored, nor cuts, nor leases."""
        one, other = self._opened(place, "a"), self._opened(place, "ab")
        async with one.running(), other.running():
            await one.store.put(b"bkey", b"", parcel(tags=("a",), born=one.log.position), None)
            assert await _kept(other, b"key") == await _kept(other, b"bkey") == []
            await other.store.append(["a"])
            assert len(await _kept(one, b"bkey")) == 1
            assert (await _wanting(one)).lease is not None
            assert (await _wanting(other)).lease is not None

    async def test_ids_increase_over_all_processes(self, place: Any) -> None:
        """In the order in which they are acknowledged."""
        opened = [self._opened(place) for _ in range(3)]
        async with opened[0].running(), opened[1].running(), opened[2].running():
            ids = [await opened[number % 3].store.append([f"{number}"]) for number in range(30)]
            assert ids == sorted(set(ids))
            together = await asyncio.gather(*[one.store.append(["t"]) for one in opened for _ in range(10)])
            assert len(set(together)) == 30
            assert min(together) > ids[-1]

    async def test_a_cut_is_applied_here_before_it_is_acknowledged(self, place: Any) -> None:
        """And what is found says up to which cut that was looked at."""
        one = self._opened(place)
        async with one.running():
            cut = await one.store.append(["a", "b"], soft=True)
            assert one.log.position >= cut
            assert Cut(id=cut, tags=("a", "b"), soft=True) in one.log.cuts
            assert (await one.store.fetch(Ask(key=_KEY, fields={}))).at >= cut

    # -- leases ------------------------------------------------------------------------------------------------------

    async def test_of_all_who_want_a_cold_key_one_gets_the_lease(self, place: Any) -> None:
        """The others are told how long it may take."""
        opened = [self._opened(place) for _ in range(3)]
        async with opened[0].running(), opened[1].running(), opened[2].running():
            found = await asyncio.gather(*[_wanting(one) for one in opened for _ in range(5)])
            assert sum(one.lease is not None for one in found) == 1
            assert all(0.0 < one.wait <= _LEASE for one in found if one.lease is None)

    async def test_lanes_have_leases_of_their_own(self, place: Any) -> None:
        """And a lease for one key is none for another."""
        one = self._opened(place)
        async with one.running():
            for key, lane in ((_KEY, b""), (_KEY, b"a"), (_KEY + b"a", b"")):
                assert (await _wanting(one, key=key, lane=lane)).lease is not None

    async def test_a_lease_ends_with_the_put_that_has_its_token(self, place: Any) -> None:
        """Also where there is nothing to store. Another's token ends nothing."""
        one, other = self._opened(place), self._opened(place)
        async with one.running(), other.running():
            first = (await _wanting(one)).lease
            await other.store.put(_KEY, b"", None, b"x" * 16)
            assert (await _wanting(other)).lease is None
            await one.store.put(_KEY, b"", None, first)
            second = (await _wanting(other)).lease
            assert second not in {None, first}
            await one.store.put(_KEY, b"", None, first)
            assert (await _wanting(one)).lease is None

    async def test_a_lease_ends_by_itself(self, place: Any) -> None:
        """Whoever holds it may have died."""
        one, other = self._opened(place), self._opened(place)
        async with one.running(), other.running():
            assert (await _wanting(one, lease=0.1)).lease is not None
            await asyncio.sleep(0.2)
            assert (await _wanting(other)).lease is not None

    async def test_for_what_is_fresh_there_is_no_lease(self, place: Any) -> None:
        """For what is stale, cut softly, or born too early there is."""
        one = self._opened(place)
        async with one.running():
            born = one.log.position
            await one.store.put(_KEY, b"", parcel(tags=("a",), born=born), None)
            assert (await _wanting(one)).lease is None
            found = await _wanting(one, above=born)
            assert found.lease is not None
            assert found.kept == ()
            await one.store.put(_KEY, b"", None, found.lease)
            await one.store.append(["a"], soft=True)
            found = await _wanting(one)
            assert found.lease is not None
            assert len(found.kept) == 1
            await one.store.put(b"stale", b"", parcel(fresh_for=0.0, retain_for=60.0), None)
            found = await _wanting(one, key=b"stale")
            assert found.lease is not None
            assert len(found.kept) == 1

    async def test_who_draws_an_early_refresh_gets_the_lease_with_what_is_fresh(self, place: Any) -> None:
        """By XFetch, weighed by the cost."""
        one = self._opened(place)
        async with one.running():
            await one.store.put(_KEY, b"", parcel(cost=10.0), None)
            assert (await _wanting(one, early=5.0)).lease is None
            found = await _wanting(one, early=7.0)
            assert found.lease is not None
            assert len(found.kept) == 1

    async def test_who_wants_no_lease_gets_none(self, place: Any) -> None:
        """Looking changes nothing."""
        one = self._opened(place)
        async with one.running():
            assert (await one.store.fetch(Ask(key=_KEY, fields={}))).lease is None
            assert (await _wanting(one)).lease is not None

    # -- capabilities ------------------------------------------------------------------------------------------------

    async def test_a_coherent_store_tells_each_process_of_every_cut_in_order(self, place: Any) -> None:
        """Of those of its own namespace."""
        one, other, stranger = self._opened(place), self._opened(place), self._opened(place, "other")
        if not isinstance(other.store, Coherent):
            return
        async with one.running(), other.running(), stranger.running():
            ids = [await (one, stranger)[number % 2].store.append([f"{number}"]) for number in range(20)]
            await _until(lambda: _is_current(other) and other.log.position >= ids[-2])
            assert [cut.id for cut in other.log.cuts] == ids[::2]
            assert [cut.tags for cut in other.log.cuts] == [(f"{number}",) for number in range(0, 20, 2)]
            at_once = await asyncio.gather(*[one.store.append(["at once"]) for _ in range(10)])
            await _until(lambda: _is_current(other) and other.log.position >= max(at_once))
            assert [cut.id for cut in other.log.cuts[10:]] == sorted(at_once)

    async def test_a_store_that_is_not_open_is_not_to_be_trusted(self, place: Any) -> None:
        """Neither before nor after."""
        one = self._opened(place)
        if not isinstance(one.store, Coherent):
            return
        assert not one.store.current()
        async with one.running():
            await _until(lambda: _is_current(one))
        assert not one.store.current()

    async def test_what_is_held_is_found_by_nobody_whenever_it_was_made(self, place: Any) -> None:
        """Until all who hold it have released it, and it is made anew."""
        one, other = self._opened(place), self._opened(place)
        stores = [store for store in (one.store, other.store) if isinstance(store, Holds)]
        if not stores:
            return
        async with one.running(), other.running():
            for key, tags in ((_KEY, ("a", "b")), (b"kept", ("c",))):
                await one.store.put(key, b"", parcel(tags=tags, born=one.log.position), None)
            for store, token in [(store, await store.hold(["x", "b"], 30.0)) for store in stores]:
                assert await _kept(one) == await _kept(other) == []
                await one.store.put(_KEY, b"", parcel(tags=("a", "b"), born=one.log.position), None)
                assert await _kept(one) == await _kept(other) == []
                await store.release(token, ["x", "b"])
            assert await _kept(one) == await _kept(other) == []
            await other.store.put(_KEY, b"", parcel(tags=("a", "b"), born=other.log.position), None)
            assert len(await _kept(one)) == len(await _kept(one, b"kept")) == 1

    async def test_what_is_held_is_a_record_of_the_log(self, place: Any) -> None:
        """As is its release, which names it; and whoever begins in between is told, too."""
        one, other, late = self._opened(place), self._opened(place), self._opened(place)
        if not isinstance(one.store, Holds):
            return
        async with one.running(), other.running():
            await one.store.append(["before"])
            over, token = await one.store.hold(["over"], 30.0), await one.store.hold(["a", "b"], 30.0)
            hold = one.log.cuts[-1]
            assert hold == Cut(id=one.log.position, tags=("a", "b"), holds=True)
            if isinstance(other.store, Coherent):
                await _until(partial(_is_at, other, hold.id))
                assert other.log.cuts[-1] == hold
            await one.store.release(over, ["over"])
            async with late.running():
                assert late.log.cuts == [hold]
                cut = await one.store.release(token, ["a", "b"])
                for each in (other, late):
                    if isinstance(each.store, Coherent):
                        await _until(partial(_is_at, each, cut))
                        assert each.log.cuts[-1] == Cut(id=cut, tags=("a", "b"), releases=hold.id)

    async def test_what_is_held_is_released_also_if_nobody_does_it(self, place: Any) -> None:
        """Whoever holds it may have died after the commit."""
        one, other = self._opened(place), self._opened(place)
        if not isinstance(one.store, Holds):
            return
        async with other.running():
            async with one.running():
                await one.store.put(_KEY, b"", parcel(tags=("a",), born=one.log.position), None)
                await one.store.hold(["a"], 0.1)
            deadline = asyncio.get_running_loop().time() + 5.0
            while True:
                assert all(kept.parcel.blob == b"new" for kept in await _kept(other))
                await other.store.put(_KEY, b"", parcel(b"new", tags=("a",), born=other.log.position), None)
                if await _kept(other):
                    break
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.01)

    async def test_what_took_longer_than_it_was_held_is_cut_again(self, place: Any) -> None:
        """What was produced after the first cut may have seen the state before the change, too."""
        one = self._opened(place)
        if not isinstance(one.store, Holds):
            return
        async with one.running():
            token = await one.store.hold(["a"], 0.05)
            await asyncio.sleep(0.2)
            await _kept(one)  # by now at the latest it has been cut
            await one.store.put(_KEY, b"", parcel(tags=("a",), born=one.log.position), None)
            await one.store.release(token, ["a"])
            assert await _kept(one) == []

    async def test_a_witness_names_every_process_that_has_applied_a_cut(self, place: Any) -> None:
        """Itself among them."""
        one, other = self._opened(place), self._opened(place)
        if not isinstance(one.store, Witnesses):
            return
        async with one.running(), other.running():
            cut = await one.store.append(["a"])
            assert len(await one.store.applied(cut, 5.0)) == 2

    def _opened(self, place: Any, namespace: str = "contract") -> Opened:
        return Opened(self.make(place, namespace))


class _Any(int):
    """Equal to every id."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int)

    __hash__ = int.__hash__


_any = _Any()


def _fields(number: int) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"x-number", number.to_bytes(16)),)


def _variant(number: int) -> Parcel:
    return parcel(selecting=_fields(number))


async def _kept(opened: Opened, key: bytes = _KEY, *, fields: dict[bytes, bytes] | None = None) -> list[Kept]:
    return list((await opened.store.fetch(Ask(key=key, fields=fields or {}))).kept)


async def _wanting(opened: Opened, *, key: bytes = _KEY, lease: float = _LEASE, **more: Any) -> Found:
    return await opened.store.fetch(Ask(key=key, fields={}, lease=lease, **more))


def _is_current(opened: Opened) -> bool:
    return isinstance(opened.store, Coherent) and opened.store.current()


def _is_at(opened: Opened, cut: int) -> bool:
    return _is_current(opened) and opened.log.position >= cut


async def _until(true: Any) -> None:
    deadline = asyncio.get_running_loop().time() + 5.0
    while not true():
        assert asyncio.get_running_loop().time() < deadline, "it has not come true within 5 s"
        await asyncio.sleep(0.01)
