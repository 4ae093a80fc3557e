"""Everything that knows FastAPI: what its routes read, where a request falls, and how a cache gets into an application.

`Cache.install(app)` is all that most programs need of it; `CacheDep` injects the installed cache.
"""

from tiercel.fastapi._inject import CacheDep
from tiercel.fastapi._install import install

__all__ = ["CacheDep", "install"]
