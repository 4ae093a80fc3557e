"""The shop under other caches, each as its documentation says, in an environment of its own.

Each module has what uvicorn makes an application of: `memory()` and `on_redis()`, the shop; `slow_memory()` and
`slow_on_redis()`, what is worth waiting for together; and `memoized()`, a function. `BENCHMARK_REDIS` is the server.
"""
