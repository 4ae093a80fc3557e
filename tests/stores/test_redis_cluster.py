"""A real cluster of three primaries: the contract, slots that move, a primary that dies."""

import asyncio
from collections.abc import Generator
from itertools import count
from pathlib import Path
from typing import NoReturn

import pytest
from redis_cluster import cluster_of, holder, make, moved, url_of
from redis_server import Server, servers
from test_redis import KEY, Process, answer, answered, until

from tiercel.errors import StoreError
from tiercel.spi import Ask, Parcel, Store
from tiercel.stores.redis import RedisStore
from tiercel.stores.redis._cluster import Cluster
from tiercel.stores.redis._places import MovedError
from tiercel.stores.redis._rows import VARIANTS
from tiercel.testing import StoreContract
from tiercel.testing._contract import parcel

_numbers = count()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[list[Server]]:
    made = [make(Path(tmp_path_factory.mktemp("cluster"))) for _ in range(3)]
    with servers(made):
        cluster_of(made, [])
        yield made


@pytest.mark.realtime
class TestRedisCluster(StoreContract):
    @pytest.fixture
    def place(self, cluster: list[Server]) -> tuple[str, int]:
        return url_of(cluster), next(_numbers)

    def make(self, place: tuple[str, int], namespace: str) -> Store:
        url, number = place
        return RedisStore(url, namespace=f"{number}:{namespace}")


@pytest.mark.realtime
async def test_slots_maymoved_and_nothing_is_found_that_was_cut(cluster: list[Server]) -> None:
    """Those of keys, and that of the log."""
    one, other = Process(url_of(cluster), "moving"), Process(url_of(cluster[::-1]), "moving")
    async with one.running(), other.running():
        await one.put(tags=("a",))
        assert await other.blobs() == [b"blob"]
        for name in (f"tiercel:{{moving:{KEY.hex()}}}", "tiercel:{moving}"):
            source = holder(cluster, name)
            target = next(server for server in cluster if server is not source)
            await asyncio.to_thread(moved, source, target, name)
            found = await answered(other)
            assert found in ([b"blob"], []), "the log is another one after it has moved: then nothing is found"
        await answer(lambda: one.store.append(["a"]))
        assert await answered(other) == []
        await until(lambda: one.store.current() and other.store.current())
        await answer(lambda: one.store.put(KEY, b"", None, None))
        cut = await answer(lambda: other.store.append(["b"]))
        await until(lambda: one.log.position >= cut)


@pytest.mark.realtime
async def test_a_primary_that_dies_is_replaced(tmp_path: Path) -> None:
    """The one that has the log: what it had not passed on is not missed."""
    primaries = [make(tmp_path / f"{number}") for number in range(3)]
    replicas = [make(tmp_path / f"{number}r") for number in range(3)]
    with servers([*primaries, *replicas]):
        await asyncio.to_thread(cluster_of, primaries, replicas)
        one, other = Process(url_of(primaries), "dying"), Process(url_of(primaries[::-1]), "dying")
        async with one.running(), other.running():
            await one.put(tags=("a",))
            assert await other.blobs() == [b"blob"]
            holder(primaries, "tiercel:{dying}").kill()
            assert await answered(other, within=30) == []
            await answer(lambda: one.store.append(["a"]), within=30)
            await until(lambda: one.store.current() and other.store.current(), within=30)
            assert one.log.resets == other.log.resets == 2


@pytest.mark.realtime
async def test_the_one_server_that_the_url_names_dies_and_is_replaced(tmp_path: Path) -> None:
    """While the log, elsewhere, goes on."""
    partly = ("--cluster-require-full-coverage", "no")
    primaries = [make(tmp_path / f"{number}", *partly) for number in range(3)]
    replicas = [make(tmp_path / f"{number}r", *partly) for number in range(3)]
    with servers([*primaries, *replicas]):
        await asyncio.to_thread(cluster_of, primaries, replicas)
        namespace = _apart(primaries, "named")
        named = holder(primaries, f"{{{namespace}:{KEY.hex()}}}")
        one = Process(url_of([named]), namespace)
        async with one.running():
            await one.put()
            named.kill()
            with pytest.raises(StoreError):
                await one.blobs()
            there = one.store._cluster
            assert there is not None
            assert there.address(_shelf(one).encode()) != ("127.0.0.1", named.port)
            await until(lambda: len(there._slots) == 16_384)
            assert await answered(one, within=30) in ([b"blob"], []), "as the replica has it"
            assert one.log.resets == 1


@pytest.mark.realtime
@pytest.mark.parametrize("kind", ["unknown-endpoint", "hostname"])
async def test_a_server_that_does_not_say_its_name_has_the_one_by_which_it_was_asked(
    cluster: list[Server], kind: str
) -> None:
    one = Process(url_of(cluster), f"nameless {kind}")
    try:
        for server in cluster:
            server.ask("CONFIG", "SET", "cluster-preferred-endpoint-type", kind)
        async with one.running():
            there = one.store._cluster
            assert there is not None
            for slots in (there._slots, {}):  # as it was learnt, and as it is corrected
                there._slots = slots
                for number in range(30):
                    await one.store.put(b"%d" % number, b"", _small(one), None)
                assert {host for host, _ in there._slots.values()} == {"127.0.0.1"}
    finally:
        for server in cluster:
            server.ask("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")


@pytest.mark.parametrize("said", ["3999 :6381", "3999 ?:6381"])
async def test_what_is_left_out_of_an_address_is_not_this_host(said: str) -> None:
    there = Cluster([("10.1.2.3", 7000)], _never, "", _never)
    there.moved(MovedError(said), ("10.1.2.3", 7000))
    assert there._slots == {3999: ("10.1.2.3", 6381)}


@pytest.mark.realtime
async def test_what_has_been_cut_does_not_count_among_the_variants_of_a_key(cluster: list[Server]) -> None:
    one = Process(url_of(cluster), "variants")
    async with one.running():
        for number in range(VARIANTS):
            await one.put(b"%d" % number, selecting=((b"x-a", b"%d" % number),), tags=("a" if number else "b",))
        await one.put(b"other", selecting=((b"x-b", b"b"),))
        assert not (await one.store.fetch(Ask(key=KEY, fields={b"x-b": b"b"}))).kept
        await one.store.append(["a"])
        await one.put(b"other", selecting=((b"x-b", b"b"),))
        for fields, blob in (({b"x-b": b"b"}, b"other"), ({b"x-a": b"0"}, b"0")):
            found = await one.store.fetch(Ask(key=KEY, fields=fields))
            assert [kept.parcel.blob for kept in found.kept] == [blob]
        assert holder(cluster, _shelf(one)).ask("HLEN", _shelf(one)) == b":2"


@pytest.mark.realtime
async def test_what_was_found_before_another_log_began_is_not_judged_by_it(cluster: list[Server]) -> None:
    one = Process(url_of(cluster), _apart(cluster, "former"))
    async with one.running():
        await one.put(tags=("a",))
        keys, log = holder(cluster, _shelf(one)), holder(cluster, one.store._control.decode())
        keys.freeze()
        try:
            asked = asyncio.ensure_future(one.found())
            await asyncio.sleep(0)
            log.ask("DEL", one.store._control.decode())
            await until(lambda: one.log.resets == 2)
        finally:
            keys.thaw()
        with pytest.raises(StoreError, match="another log has begun before the answer came"):
            await asked


@pytest.mark.realtime
async def test_keys_are_spread_over_the_servers(cluster: list[Server]) -> None:
    one = Process(url_of(cluster), "spread")
    async with one.running():
        for number in range(60):
            await one.store.put(b"%d" % number, b"", _small(one), None)
        held = [int(server.ask("DBSIZE")[1:]) for server in cluster]
        assert min(held) > 0
        assert all([(await one.store.fetch(Ask(key=b"%d" % number, fields={}))).kept for number in range(60)])


@pytest.mark.realtime
async def test_nobody_of_a_cluster_answers() -> None:
    one = Process("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    with pytest.raises(StoreError, match="nobody says who has which slot"):
        async with one.running():
            pytest.fail("it is not open")


@pytest.mark.realtime
async def test_a_server_that_is_in_no_cluster_is_not_believed(cluster: list[Server], tmp_path: Path) -> None:
    alone = make(tmp_path)
    with servers([alone]):
        one = Process(url_of([alone]))
        with pytest.raises(StoreError, match=r"nobody says who has which slot\. .* knows of no slots"):
            async with one.running():
                pytest.fail("it is not open")
        one = Process(url_of([alone, *cluster]))
        async with one.running():
            await one.put()
            assert await one.blobs() == [b"blob"]


def _apart(made: list[Server], name: str) -> str:
    """A namespace whose log is in another server than the key."""
    names = (f"{name} {number}" for number in count())
    return next(one for one in names if holder(made, f"{{{one}}}") is not holder(made, f"{{{one}:{KEY.hex()}}}"))


def _shelf(process: Process) -> str:
    return process.store._shelf(KEY)[0].decode()


def _never(*given: object) -> NoReturn:
    pytest.fail(f"{given}")


def _small(process: Process) -> Parcel:
    return parcel(b"x", born=process.log.position)
