"""What each verb of the command line does: call the library, print the result."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..decoders.preprocessing import quiet_pillow
from ..descriptors.comparing import PrecisionWarning, Verdict, compare, compare_with_negatives
from ..descriptors.concatenation import concatenate
from ..descriptors.formats.base import SETS
from ..descriptors.formats.table import FORMATS, convert, find_format, open_any, read_descriptors
from ..descriptors.hdf5 import open_hdf5
from ..descriptors.store import Descriptors, open_descriptors
from ..engines.base import engine_file, file_sha256, load_engine
from ..errors import InputError, IscFastError, require
from ..evaluation.metrics import evaluate
from ..extraction.pipeline import extract
from ..matching.index import search
from ..matching.matches import read_matches, read_truth, write_matches
from ..matching.methods import normalize_to_file
from ..matching.smoothing import smooth_to_file
from ..progress import ProgressPrinter, duration
from ..review.page import write_report
from ..runs.challenge import run_challenge
from ..runs.demo import run_demo
from ..runs.doctor import diagnose
from ..runs.tuner import tune
from ..sources.listing import list_images

quiet_pillow()


_MB = 1_000_000


def _given(arguments: Namespace, *names: str) -> dict[str, Any]:
    """The flags that were given; the others keep the library's default."""
    values = vars(arguments)
    return {name: values[name] for name in names if values.get(name) is not None}


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def _tell(verdict: Verdict) -> None:
    """Print what a user should know about two sets that were compared."""
    for remark in verdict.remarks:
        _note(f"{remark.grade.name.lower()}: {remark.words}")


@contextlib.contextmanager
def _told_in_one_line() -> Iterator[None]:
    """Leave out Python's own form of a warning that `_tell` prints."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)
        yield


@contextlib.contextmanager
def _progress(label: str, unit: str = "images") -> Iterator[ProgressPrinter]:
    printer = ProgressPrinter(label, unit=unit)
    try:
        yield printer
    finally:
        printer.close()


@contextlib.contextmanager
def _named_progress(unit: str = "images") -> Iterator[Callable[[str], ProgressPrinter]]:
    """Printers for the steps of a longer run; each ends its line when it is done or the run breaks off."""
    with contextlib.ExitStack() as stack:
        yield lambda label: stack.enter_context(_progress(label, unit))


def _engine_flags(arguments: Namespace) -> dict[str, Any]:
    """Where an engine runs and how it is loaded, for `extract` and `run_challenge`."""
    return {
        "devices": arguments.device,
        "engine_options": _given(arguments, "threads", "runtime", "provider", "trust_plan"),
    }


def _train(arguments: Namespace) -> int:
    training = require("isc_fast.training.verb", "train")
    with _named_progress("steps") as progress:
        training.train(arguments, progress=progress, note=_note, show=print)
    return 0


def _export(arguments: Namespace) -> int:
    export = require("isc_fast.export", "export")
    options = _given(arguments, "name", "size", "gem_p", "weights_as", "precision", "runtime", "device")
    options |= _given(arguments, "batch", "timing_cache", "version_compatible", "hardware_compatible")
    if arguments.photos:
        options["photos"] = [Path(item.path) for item in list_images(arguments.photos).items]
    with _progress("download", "MB") as printer:
        report = export.export_engine(
            arguments.ckpt,
            arguments.output,
            log=_note,
            progress=lambda done, total: printer(done // _MB, (total or done) // _MB, 0),
            **options,
        )
    print(json.dumps(report.to_dict()) if arguments.json else report)
    return 0


def _tune(arguments: Namespace) -> int:
    found = tune(arguments.engine, log=_note, **_given(arguments, "seconds"))
    if arguments.json:
        rates = [{**asdict(setting), "images_per_s": round(rate, 3)} for setting, rate in found.images_per_s.items()]
        print(json.dumps({"path": str(found.path), "tried": rates}))
    else:
        print(found)
    return 0


def _extract(arguments: Namespace) -> int:
    options = _given(arguments, "ids", "limit", "shard_size", "batch_size", "workers", "decoder")
    with _progress("extract") as printer:
        made = extract(
            arguments.inputs,
            arguments.engine,
            arguments.output,
            overwrite=arguments.overwrite,
            retry_failed=arguments.retry_failed,
            progress=printer,
            **_engine_flags(arguments),
            **options,
        )
    if made.note:
        _note(f"note: {made.note}")
    if made.ignored:
        _note(f"note: {made.ignored} files whose names are no images' were left out")
    for failure in made.failures[:10]:
        _note(f"failed: {failure.path}: {failure.reason}")
    if len(made.failures) > 10:
        _note(f"… and {len(made.failures) - 10} more: isc-fast info {made.path} --failures")
    if arguments.json:
        result = {"path": str(made.path), "descriptors": made.count, "failures": len(made.failures)}
        print(json.dumps({**result, "computed": made.computed, "seconds": round(made.seconds, 3)}))
    elif made.computed:
        rate = f"{made.computed / max(made.seconds, 1e-9):.1f} images/s"
        print(f"{made.path}: {_counts(made.count, len(made.failures))}, {duration(made.seconds)}, {rate}")
    else:
        print(f"{made.path}: {_counts(made.count, len(made.failures))}, complete already")
    return 1 if arguments.strict and made.failures else 0


def _counts(descriptors: int, failed: int) -> str:
    return f"{descriptors} descriptors" + (f", {failed} images failed" if failed else "")


def _negatives(arguments: Namespace) -> int:
    with open_any(arguments.descriptors) as plain:
        smooth_to_file(plain, arguments.output, **_given(arguments, "k", "power", "device"))
        print(f"{arguments.output}: {len(plain)} negatives, smoothed")
    return 0


def _normalize(arguments: Namespace) -> int:
    method = arguments.method or "nes"
    if method != "score" and arguments.role is not None:
        raise InputError("--role belongs to --method score; negative embedding subtraction treats both sides alike")
    if method == "score" and arguments.iterations is not None:
        raise InputError("--iterations belongs to --method nes")
    if method == "score" and arguments.role is None:
        raise InputError("score normalisation treats the two sides differently: give --role query or --role reference")
    options = _given(arguments, "k", "beta", "iterations", "device")
    with contextlib.ExitStack() as stack:
        negatives = None
        if not (method == "score" and arguments.role == "reference"):
            if arguments.negatives is None:
                raise InputError("give --negatives FILE; make one with: isc-fast negatives TRAIN.h5 -o negatives.h5")
            negatives = stack.enter_context(open_any(arguments.negatives))
            if method == "nes" and not negatives.provenance.smoothing:
                _note(f"note: {arguments.negatives} is not smoothed; the published method smooths: isc-fast negatives")
        descriptors = stack.enter_context(open_any(arguments.descriptors))
        with _told_in_one_line():
            normalize_to_file(descriptors, negatives, arguments.output, method=method, **options)
        if negatives is not None:
            _tell(compare_with_negatives(descriptors, negatives))
    print(f"{arguments.output}: normalised by {method}")
    return 0


def _search(arguments: Namespace) -> int:
    options = _given(arguments, "k", "max_pairs", "threshold", "metric", "device")
    with open_any(arguments.queries) as queries, open_any(arguments.references) as references, _told_in_one_line():
        found = search(queries, references, **options)
        sides = f"{len(queries)} queries and {len(references)} references"
        verdict = compare(queries, references)
    write_matches(arguments.output, found)
    _tell(verdict)
    print(f"{arguments.output}: {len(found)} pairs of {sides}")
    return 0


def _evaluate(arguments: Namespace) -> int:
    options = {"protocols": (arguments.protocol,)} if arguments.protocol else {}
    result = evaluate(read_matches(arguments.matches), read_truth(arguments.truth), **options)
    print(json.dumps(result.to_dict()) if arguments.json else result)
    return 0


def _report(arguments: Namespace) -> int:
    def paths(inputs: list[str]) -> dict[str, str]:
        return {item.id: item.path for item in list_images(inputs, **_given(arguments, "ids")).items}

    truth = read_truth(arguments.truth) if arguments.truth else None
    options = _given(arguments, "threshold", "max_rows")
    shown = write_report(
        arguments.output,
        read_matches(arguments.matches),
        queries=paths(arguments.queries),
        references=paths(arguments.references),
        truth=truth,
        **options,
    )
    print(f"{arguments.output}: {shown} pairs")
    return 0


def _convert(arguments: Namespace) -> int:
    files: dict[str, list[str]] = {}
    for entry in arguments.inputs:
        name, equals, file = entry.partition("=")
        named = equals and name in SETS
        files.setdefault(name if named else "", []).append(file if named else entry)

    def read(name: str, file: str) -> Descriptors:
        """The set of that name where the file holds several."""
        several = bool(find_format(file).needs)
        return read_descriptors(file, which=arguments.set or (name if several and name else None))

    sets = {name: concatenate([read(name, file) for file in group]) for name, group in files.items()}
    target = arguments.to or "isc-fast"
    with _told_in_one_line():
        convert(sets, arguments.output, target)
    if FORMATS[target].needs:
        _tell(compare(sets["query"], sets["reference"]))
    print(f"{arguments.output}: {', '.join(f'{len(part)} {name}'.strip() for name, part in sets.items())} as {target}")
    return 0


def _challenge(arguments: Namespace) -> int:
    options = _given(arguments, "sets", "limit", "reference_subset", "ground_truth", "batch_size", "workers", "decoder")
    options |= _given(arguments, "search_device")
    with _named_progress() as progress:
        result = run_challenge(
            arguments.input,
            arguments.engine,
            arguments.output,
            overwrite=arguments.overwrite,
            retry_failed=arguments.retry_failed,
            progress=progress,
            **_engine_flags(arguments),
            **options,
        )
    print(result)
    if result.problems:
        raise IscFastError(f"what was written breaks {len(result.problems)} rules of the challenge, listed above")
    return 0


def _demo(arguments: Namespace) -> int:
    with _named_progress() as progress:
        result = run_demo(progress=progress, **_given(arguments, "output", "engine"))
    print(result)
    return 0


def _doctor(arguments: Namespace) -> int:
    _note("trying out what is installed; this takes some seconds")
    found = diagnose()
    print(json.dumps(found.to_dict()) if arguments.json else found)
    return 0 if found.can_run else 1


def _info(arguments: Namespace) -> int:
    about = _about(arguments.file)
    failures = about.pop("failures", None)
    if arguments.failures:
        if failures is None:
            raise InputError(
                f"{arguments.file} has no ledger of failures; expected descriptors made by isc-fast extract"
            )
        for failure in failures:
            print(json.dumps(asdict(failure)))
        return 0
    if failures is not None:
        about["failures"] = len(failures)
    if arguments.json:
        print(json.dumps(about))
    else:
        for key, value in about.items():
            shown = json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
            print(f"{key:<18} {shown}")
    return 0


def _about(file: str) -> dict[str, Any]:
    """What there is to say of a file; ``failures`` are the rows of its ledger."""
    if Path(file).suffix == ".pt2":
        from ..engines.aoti import read_package

        path = engine_file(file)
        spec, made_for = read_package(path)  # not loaded: that would run what is in it
        made = {"made_for": asdict(made_for)}
        return {"kind": "engine", "path": str(path), "id": file_sha256(path), **asdict(spec), **made}
    if Path(file).suffix == ".plan":
        from ..engines.trt.sidecar import read_sidecar

        path = engine_file(file)
        spec, facts = read_sidecar(path)  # not loaded: that takes the GPU it was made for
        return {"kind": "engine", "path": str(path), "id": facts.plan_sha256, **asdict(spec), "plan": asdict(facts)}
    if file == "demo" or Path(file).suffix == ".onnx":
        engine = load_engine(file)
        return {"kind": "engine", "path": str(engine.path), "id": engine.id, **asdict(engine.spec)}
    if Path(file).suffix in (".csv", ".jsonl"):
        matches = read_matches(file)
        queries = len(set(matches.query_ids))
        return {"kind": "matches", "path": file, "pairs": len(matches), "queries": queries}
    found_format = find_format(file)
    if found_format.name == "isc-fast":
        with open_descriptors(file) as found:
            shape = {"count": len(found), "dim": found.dim, "failures": list(found.failures)}
            return {"kind": "descriptors", "path": file, **shape, **found.meta}
    about: dict[str, Any] = {"kind": "descriptors", "path": file, "dialect": found_format.name}
    if found_format.is_folder:
        found = read_descriptors(file)
        return {**about, "count": len(found), "dim": found.dim}
    with open_hdf5(file) as raw:
        return {**about, **{name: f"{data.dtype} {data.shape}" for name, data in raw.items()}}


HANDLERS: dict[str, Callable[[Namespace], int]] = {
    "train": _train,
    "export": _export,
    "extract": _extract,
    "negatives": _negatives,
    "normalize": _normalize,
    "search": _search,
    "evaluate": _evaluate,
    "report": _report,
    "convert": _convert,
    "challenge": _challenge,
    "demo": _demo,
    "tune": _tune,
    "doctor": _doctor,
    "info": _info,
}
