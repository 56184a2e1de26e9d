"""Rows of a batch leased to workers that join from anywhere: the driver's side and the worker's."""
