"""A store that many machines share: a folder, or what fsspec opens, and one process's use of it."""
