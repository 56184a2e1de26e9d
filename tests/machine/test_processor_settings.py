"""What is advised for ComfyUI's environment: what is missing there, and what this system knows."""

from __future__ import annotations

from longtake.machine.processor_settings import MEMORY, advised, threads_sleep


def test_all_that_is_missing_is_advised() -> None:
    assert advised({}, glibc=True).split() == [
        "OMP_WAIT_POLICY=PASSIVE",
        "GOMP_SPINCOUNT=2000",
        "MALLOC_MMAP_THRESHOLD_=33554432",
        "MALLOC_TRIM_THRESHOLD_=268435456",
    ]
    chosen = {"GOMP_SPINCOUNT": "1", **MEMORY}
    assert advised(chosen, glibc=True) == "OMP_WAIT_POLICY=PASSIVE"
    assert "OMP_WAIT_POLICY=PASSIVE" in advised({"OMP_WAIT_POLICY": "ACTIVE"}, glibc=True)
    assert "OMP_WAIT_POLICY" not in advised({"OMP_WAIT_POLICY": "passive"}, glibc=True)
    assert "MALLOC" not in advised({}, glibc=False)


def test_threads_sleep_where_the_environment_says_so() -> None:
    assert threads_sleep({"OMP_WAIT_POLICY": "passive"})
    assert not threads_sleep({"OMP_WAIT_POLICY": "ACTIVE"}) and not threads_sleep({})
