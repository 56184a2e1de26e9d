"""Where the pack and its demo model are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "model" / "demo"
