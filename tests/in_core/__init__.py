"""Tests that run inside or against a real ComfyUI core."""
