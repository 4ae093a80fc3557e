"""Where requests are looked up that no route says anything of."""

from tiercel._core import keys
from tiercel._core.plan import RouteRules, Target
from tiercel._core.policy import Policy
from tiercel._engine import observed
from tiercel._engine.call import Scope, request_of


class Everywhere:
    """Resolves every request to its URI, for `headers` mode."""

    by_url = True

    def __init__(self, policy: Policy, place: int = 0) -> None:
        self._rules = RouteRules(label="*", policy=policy, declared=False)
        self._place = place

    def __call__(self, scope: Scope) -> Target | None:
        """Where the request is looked up."""
        request = request_of(scope, observed.plain(scope["headers"]), b"")
        # Of `path` and `raw_path` a middleware outside of us may have rewritten one.
        path = scope["path"].encode("utf-8", "surrogatepass")
        return placed(Target(self._rules, keys.primary(keys.of_request(request), path)), self._place)

    def may_store(self, scope: Scope) -> bool:
        """Whatever the responses permit."""
        del scope
        return True

    def version(self) -> object:
        """Nothing that it goes by ever changes."""
        return None


def placed(target: Target, place: int) -> Target:
    """Where applications share a cache, each has keys of its own: `place` says the how manieth it is."""
    return target._replace(primary=keys.primary(target.primary, b"place", b"%d" % place)) if place else target
