"""The registry of domains."""

from __future__ import annotations

import subprocess
import sys

import pytest

from diffaug import DiffAug, backends
from diffaug.backends import Backend, available_backends, get_backend, register


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registrations of the test are forgotten after it."""
    monkeypatch.setattr(backends, "_REGISTRY", dict(backends._REGISTRY))


def test_known_domains() -> None:
    assert {"cells", "dna", "toy", "vision"} <= set(available_backends())
    assert available_backends() == sorted(available_backends())
    for name in available_backends():
        assert issubclass(get_backend(name), Backend)
        assert get_backend(name).name == name


def test_unknown_domain() -> None:
    with pytest.raises(ValueError, match=r"Expected a backend among \['cells', .*'toy'.*\], found 'sounds'"):
        get_backend("sounds")


def test_register_makes_known(own_registry: None) -> None:
    class Sounds(get_backend("toy")):  # type: ignore[misc]
        name = "sounds"

    assert register(Sounds) is Sounds  # usable as a decorator
    assert get_backend("sounds") is Sounds
    assert "sounds" in available_backends()
    assert DiffAug(backend="sounds").config == get_backend("toy").preset("default")


def test_own_registrations_are_forgotten() -> None:
    assert "sounds" not in available_backends()


def test_a_name_is_taken_once(own_registry: None) -> None:
    class Thief(get_backend("toy")):  # type: ignore[misc]
        pass

    with pytest.raises(ValueError, match="Expected a new backend name, found 'toy', which ToyBackend has"):
        register(Thief)
    assert get_backend("toy").__name__ == "ToyBackend"
    register(get_backend("toy"))  # the same again is fine: a module may be loaded twice


def test_built_in_domains_are_imported_on_demand() -> None:
    """And their names are taken before: it must not depend on who comes first."""
    code = (
        "import sys, diffaug.backends as b\n"
        "assert 'diffaug.backends.cells' not in sys.modules\n"
        "assert b.available_backends() == ['cells', 'dna', 'vision']\n"
        "class Mine(b.Backend):\n"
        "    name = 'cells'\n"
        "try:\n"
        "    b.register(Mine)\n"
        "except ValueError as error:\n"
        "    assert 'which diffaug.backends.cells has' in str(error), error\n"
        "else:\n"
        "    raise SystemExit('a built-in name was taken over')\n"
        "assert b.get_backend('cells').__name__ == 'CellsBackend'\n"
        "assert 'diffaug.backends.cells' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_incomplete_domain_cannot_be_made(own_registry: None) -> None:
    class Half(Backend):
        name = "half"

    with pytest.raises(TypeError, match="abstract"):
        Half(None, (3,))  # type: ignore[abstract]


def test_defaults_of_a_domain_do_nothing() -> None:
    """The hooks of the generator's space are the identity, so a simple domain can leave them out."""
    import torch

    toy = get_backend("toy")
    made = toy(toy.Settings(), (4,))
    v = torch.randn(3, 4)
    assert made.to_generator(v, torch.Generator()) is v
    assert made.from_generator(v) is v
    made.calibrate(v)
