"""What tests of plans ask of the processor."""

from __future__ import annotations

import pytest


@pytest.fixture
def products_without_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    """No float32 products by oneDNN, which bring a weight into their own order for each call."""
    monkeypatch.setattr("longtake.machine.products.outdoes_mkl", lambda: False)
