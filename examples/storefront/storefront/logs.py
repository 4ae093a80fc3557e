"""The log: one line per request, and the id of the request in every line."""

import logging
import logging.config

from storefront.middleware import REQUEST_ID


class OfRequest(logging.Filter):
    """Adds `request_id` to each record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add it."""
        record.request_id = REQUEST_ID.get()
        return True


def configure() -> None:
    """Have the lines of this program, and those of the cache, written to the standard output."""
    lines = {"level": "INFO", "handlers": ["lines"], "propagate": False}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"request": {"()": OfRequest}},
            "formatters": {"line": {"format": "%(asctime)s %(levelname)s [%(request_id)s] %(name)s: %(message)s"}},
            "handlers": {
                "lines": {
                    "class": "logging.StreamHandler",
                    "stream": "ext://sys.stdout",
                    "formatter": "line",
                    "filters": ["request"],
                }
            },
            "loggers": {"storefront": lines, "tiercel": lines},
        }
    )
