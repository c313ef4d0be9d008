"""The package's log where nobody set one up: results and notices must be seen in a notebook."""

from __future__ import annotations

import logging
import sys


class UnconfiguredHandler(logging.Handler):
    """What Python's last resort does for warnings, from INFO on: standard error, while nothing else takes the record.

    As soon as the user (or ``diffaug-cells``) gives the log a handler, this one is silent, so that nothing is said twice.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a record through that no other handler will get."""
        return not self._others(logging.getLogger(record.name)) and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line to what is standard error now; a notebook replaces it."""
        try:
            level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
            sys.stderr.write(f"diffaug: {level}{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001  (as every handler of the standard library: a log must not end a training)
            self.handleError(record)

    def _others(self, logger: logging.Logger | None) -> bool:
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return True
            logger = logger.parent if logger.propagate else None
        return False


def set_up() -> None:
    """Show the package's log from INFO on, unless its level or a handler of it was set before."""
    logger = logging.getLogger("diffaug")
    if logger.level != logging.NOTSET or logger.handlers:
        return
    logger.addHandler(UnconfiguredHandler())
    logger.setLevel(logging.INFO)
