"""A share of `make torture`: each kind of injury once. The long form is ``python tests/torture/torture.py``."""

from __future__ import annotations

from random import Random

import pytest
from injuries import INJURIES, NEEDS_NAMESPACES, has_namespaces
from scene import Scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Scene:
    pytest.importorskip("onnxruntime")
    return Scene.make(tmp_path_factory.mktemp("torture") / "scene")


@pytest.mark.parametrize("name", INJURIES)
def test_a_run_survives(scene, name):
    if name in NEEDS_NAMESPACES and not has_namespaces():
        pytest.skip("this user may not make namespaces")
    INJURIES[name](scene, Random(name))
