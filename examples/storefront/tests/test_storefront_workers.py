"""What the README says about several processes: real ones."""

from contextlib import ExitStack
from pathlib import Path

import httpx
from shop_client import is_hit
from uvicorn_server import serving

from storefront.settings import Settings


def logged_in(shop: httpx.Client) -> dict[str, str]:
    answer = shop.post("/token", data={"username": "alice", "password": "wonderland"})
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def test_a_patch_is_seen_at_once_by_the_next_get_on_every_worker(settings: Settings, tmp_path: Path) -> None:
    shared = settings.model_copy(update={"cache_url": f"local://{tmp_path}/cache"})
    urls = ("/products/1", "/products?limit=1", "/products?page=1&limit=1")
    with ExitStack() as running:
        places = [running.enter_context(serving(shared)) for _ in range(3)]
        shops = [running.enter_context(httpx.Client(base_url=f"{place}/api/v1", timeout=20)) for place in places]
        alice = logged_in(shops[0])
        for round_, writer in enumerate(shops * 3):
            for shop in shops:
                for url in urls:
                    shop.get(url)
                    assert is_hit(shop.get(url))
            assert writer.patch("/products/1", json={"stock": round_}, headers=alice).status_code == 200
            for shop in shops:
                found = [shop.get(url).json() for url in urls]
                assert [each.get("items", [each])[0]["stock"] for each in found] == [round_] * 3
