"""What a user sees who never set up a log, as in a notebook."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from diffaug import _log


@contextmanager
def unconfigured() -> Iterator[None]:
    """Python as it starts. Pytest gives the root logger handlers at the start of each test, after its fixtures."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = before


@pytest.fixture
def fresh() -> Iterator[logging.Logger]:
    """The package's logger as it is before the import."""
    logger = logging.getLogger("diffaug")
    before, logger.handlers = logger.handlers, []
    level, propagates = logger.level, logger.propagate
    logger.setLevel(logging.NOTSET)
    yield logger
    logger.handlers, logger.propagate = before, propagates
    logger.setLevel(level)


def test_results_and_notices_are_seen_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    with unconfigured():
        logging.getLogger("diffaug.tl._fit").info("lambda is %s", 0.5)
        logging.getLogger("diffaug._model").warning("few views")
        logging.getLogger("diffaug._model").debug("details")
    assert capsys.readouterr() == ("", "diffaug: lambda is 0.5\ndiffaug: warning: few views\n")


def test_nothing_is_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """A handler anywhere on the way has the record; above a logger that does not propagate none is on the way."""
    seen: list[str] = []

    class Mine(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    mine, logger = Mine(), logging.getLogger("diffaug.tl._fit")
    with unconfigured():
        for place in (logging.getLogger(), logging.getLogger("diffaug"), logger):
            place.addHandler(mine)
            logger.info("once")
            place.removeHandler(mine)
        assert seen == ["once"] * 3
        assert capsys.readouterr() == ("", "")
        logger.info("now here")
    assert capsys.readouterr().err == "diffaug: now here\n"
    assert len(seen) == 3


def test_the_users_settings_stay(fresh: logging.Logger) -> None:
    fresh.setLevel(logging.ERROR)
    _log.set_up()
    assert (fresh.level, fresh.handlers) == (logging.ERROR, [])
    fresh.setLevel(logging.NOTSET)
    handler = logging.NullHandler()
    fresh.addHandler(handler)
    _log.set_up()
    assert (fresh.level, fresh.handlers) == (logging.NOTSET, [handler])
    fresh.removeHandler(handler)
    _log.set_up()
    _log.set_up()
    assert fresh.level == logging.INFO
    assert [type(h) for h in fresh.handlers] == [_log.UnconfiguredHandler]


def test_a_level_silences_it(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("diffaug")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with unconfigured():
            logging.getLogger("diffaug.tl._fit").info("silent")
    finally:
        logger.setLevel(before)
    assert capsys.readouterr() == ("", "")
