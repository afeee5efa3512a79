"""The typed record: every attribute that files of earlier versions hold is read, and written again to the byte."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from isc_fast import normalize_scores, smooth_negatives, subtract_negatives
from isc_fast.assets import DEMO_NEGATIVES
from isc_fast.descriptors.concatenation import concatenate
from isc_fast.descriptors.provenance import (
    EngineFacts,
    ExtractionFacts,
    Normalization,
    PlanFacts,
    Provenance,
    Smoothing,
)
from isc_fast.descriptors.store import FORMAT_VERSION, Descriptors, load_descriptors, open_descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.engines.spec import EngineSpec
from isc_fast.errors import FormatError

SAMPLES: dict[str, str] = json.loads(Path(__file__).with_name("attributes.json").read_text("utf-8"))
"""The attribute ``isc_fast`` of files that isc-fast 0.1.0 wrote, by what was done."""


def meta_of(name):
    return {key: value for key, value in json.loads(SAMPLES[name]).items() if key != "version"}


def attribute(meta):
    return json.dumps({**meta, "version": FORMAT_VERSION}, sort_keys=True)


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_read_is_written_to_the_byte(tmp_path, name):
    record = Provenance.read(meta_of(name))
    assert attribute(record.write()) == SAMPLES[name]
    assert Provenance.read(record.write()) == record
    made = Descriptors(np.zeros((1, 2), np.float32), ["a"], record.write())
    write_descriptors(tmp_path / "a.h5", made)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file.attrs["isc_fast"] == SAMPLES[name]
    copied = load_descriptors(tmp_path / "a.h5")
    assert copied.provenance == record


def rows(seed, count, prefix, meta):
    vectors = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return Descriptors(vectors, [f"{prefix}{row}" for row in range(count)], meta)


def derived():
    """Every set of the samples that is computed from another one, computed now, as it was when the samples were made."""
    meta = meta_of("extraction")
    q, r, t, z = (rows(1, 3, "q", meta), rows(2, 4, "r", meta), rows(3, 12, "t", meta), rows(4, 2, "z", meta))
    smoothed = Descriptors(t.vectors, t.ids, smooth_negatives(t).meta)  # its numbers do not depend on the machine
    by_score = normalize_scores(q, r, t, k=2, beta=0.75)
    newer = {"licence": {"a": "ü"}, "other": 1}
    return {
        "smoothed": smooth_negatives(t, k=4, power=2),
        "nes": subtract_negatives(q, smoothed),
        "nes with plain negatives": subtract_negatives(q, t, k=3, beta=0.5, iterations=2),
        "score query": by_score[0],
        "score reference": by_score[1],
        "put together": concatenate([q, z]),
        "put together, normalised": concatenate([subtract_negatives(q, t), subtract_negatives(z, t)]),
        "newer, smoothed": smooth_negatives(Descriptors(t.vectors, t.ids, {**meta, **newer})),
    }


def test_what_is_computed_from_a_set_says_what_it_said_before():
    for name, made in derived().items():
        assert attribute(made.meta) == SAMPLES[name], name


def test_an_extraction_says_what_it_said_before():
    meta = meta_of("extraction")
    spec = EngineSpec.from_json(json.dumps(meta["engine"]))
    plan = PlanFacts(meta["plan"]["id"], 2, 2)
    record = Provenance.of_extraction(meta["engine_id"], spec.to_dict(), "pillow", plan)
    assert attribute(record.write()) == SAMPLES["extraction"]
    part = json.loads(SAMPLES["part"])
    assert attribute(Provenance(plan_id=part["plan_id"], shard=1).write()) == SAMPLES["part"]
    assert record.extraction == ExtractionFacts(meta["engine_id"], "demo", "pillow", meta["plan"]["id"], 2, 2)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in ("extraction", "newer")])
def test_what_is_no_plain_extraction_says_so(name):
    assert Provenance.read(meta_of(name)).extraction is None


def test_facts_are_typed():
    with open_descriptors(DEMO_NEGATIVES) as found:
        record = found.provenance
    assert record.engine_id is not None
    assert record.engine is not None
    assert (record.engine.name, record.engine.precision, record.engine.runtime) == ("demo", "fp32", "onnxruntime")
    assert record.engine.arithmetic == "fp32 with weights in fp16"
    engine = {name: value for name, value in record.engine.write().items() if name not in ("runtime", "accuracy")}
    older = Provenance.read({**record.write(), "engine": engine}).engine
    assert older is not None
    assert (older.runtime, older.arithmetic) == (None, "fp32 with weights in fp16"), (
        "it lacks the facts that came later"
    )
    assert record.smoothing == Smoothing(k=10, power=3, source=record.smoothing.source)
    assert (record.decoder, record.plan, record.normalization) == ("turbo", None, None)
    stamp = Provenance.read(meta_of("nes")).normalization
    assert stamp is not None
    assert (stamp.method, stamp.k, stamp.beta, stamp.iterations, stamp.role) == ("nes", 10, 0.35, 1, None)
    assert stamp.smoothing is not None
    assert str(stamp) == f"nes (k=10, beta=0.35, iterations=1, negatives {stamp.negatives[:12]})"


def test_what_a_newer_version_says_survives_and_counts():
    meta = meta_of("newer")
    record = Provenance.read(meta)
    assert record.other == {"licence": {"a": "ü"}, "other": 1, "normalization": None}
    assert record.engine is not None
    assert record.engine.other["colour"] == [1, 2.5, None]
    normalised = record.normalized(Normalization(method="nes", k=10)).write()
    assert normalised["licence"] == {"a": "ü"}
    assert "plan" not in normalised
    assert record.engine.network["colour"] == [1, 2.5, None], "a fact that nobody knows may change the network"


def test_engines_of_one_network_differ_in_harmless_facts_only():
    spec = EngineSpec("v107", "arch", 512, 512, 256, 3.0, checkpoint_sha256="c")
    network = EngineFacts.read(spec.to_dict()).network
    assert set(network) == {"arch", "height", "width", "dim", "gem_p", "preprocessing", "checkpoint_sha256"}


@pytest.mark.parametrize("name", ["engine_id", "engine", "normalization", "smoothing"])
@pytest.mark.parametrize("value", [["text"], 5, True])
def test_a_form_that_nobody_understands_is_refused_where_it_counts(name, value):
    odd = Descriptors(np.zeros((1, 2), np.float32), ["a"], {name: value})  # may be opened, copied, written
    with pytest.raises(FormatError, match=f"these descriptors say {name} = "):
        _ = odd.provenance


def test_null_and_nothing_are_no_facts():
    assert not Provenance.read({"engine": None, "smoothing": {}, "normalization": None}).stamped
    assert not Provenance.read({"plan_id": "x", "decoder": "turbo"}).stamped
    assert Provenance.read({"engine_id": "e"}).stamped
