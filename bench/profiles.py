"""What a wide colour profile does to descriptors, if it is ignored and if it is converted to sRGB.

    python bench/profiles.py

The demo's references are stored anew in Display P3, Adobe RGB, ProPhoto RGB and linear sRGB, as an editor would: other numbers
for the same colours, and a profile that says so. The queries stay as they are. Each row describes these references twice with
the engine in the package: by their numbers alone, as isc-fast reads them, and converted to sRGB by their profile. It prints the
cosine with the descriptors of the sRGB references, and how well the search finds the demo's edited copies. The last line is JSON.
"""

from __future__ import annotations

import io
import json
import struct
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

import isc_fast
from isc_fast.assets import DEMO_ENGINE, DEMO_NEGATIVES, demo_photos
from isc_fast.decoders.rules import fit, load_rgb
from isc_fast.runs.demo import make_collection

Matrix = npt.NDArray[np.float64]
D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
PROFILES = {  # primaries, white point, exponent; None is the curve of sRGB
    "Display P3": (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), D65, None),
    "Adobe RGB": (((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), D65, 563 / 256),
    "ProPhoto RGB": (((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), D50, 1.8),
    "linear sRGB": (SRGB, D65, 1.0),
}


def _xyz(point: tuple[float, float]) -> Matrix:
    x, y = point
    return np.array([x / y, 1, (1 - x - y) / y])


def _to_d50(primaries: tuple[tuple[float, float], ...], white: tuple[float, float]) -> Matrix:
    """RGB → XYZ under D50, by Bradford's adaptation."""
    columns = np.stack([_xyz(point) for point in primaries], axis=1)
    matrix = columns * np.linalg.solve(columns, _xyz(white))
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    scale = np.diag((bradford @ _xyz(D50)) / (bradford @ _xyz(white)))
    adapted: Matrix = np.linalg.inv(bradford) @ scale @ bradford @ matrix
    return adapted


def _linear(values: Matrix, exponent: float | None) -> Matrix:
    if exponent is not None:
        return values**exponent
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _coded(values: Matrix, exponent: float | None) -> Matrix:
    values = np.clip(values, 0, 1)
    if exponent is not None:
        return values ** (1 / exponent)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def _fixed(values: Matrix) -> bytes:
    return b"".join(struct.pack(">i", round(float(value) * 65536)) for value in np.ravel(values))


def icc(name: str) -> bytes:
    """An ICC profile of three primaries and one curve."""
    primaries, white, exponent = PROFILES[name]
    matrix = _to_d50(primaries, white)
    table = np.round(_linear(np.linspace(0, 1, 1024), exponent) * 65535).astype(">u2")
    curve = b"curv" + struct.pack(">II", 0, len(table)) + table.tobytes()
    text = name.encode() + b"\0"
    described = b"desc" + struct.pack(">II", 0, len(text)) + text + bytes(78)
    parts = {
        b"desc": described,
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + _fixed(_xyz(D50)),
    }
    for channel, letter in enumerate((b"r", b"g", b"b")):
        parts[letter + b"XYZ"] = b"XYZ " + bytes(4) + _fixed(matrix[:, channel])
        parts[letter + b"TRC"] = curve
    at, entries, body = 128 + 4 + 12 * len(parts), b"", b""
    for tag, data in parts.items():
        data += bytes(-len(data) % 4)
        entries += struct.pack(">4sII", tag, at + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _fixed(_xyz(D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(parts)) + entries + body


def stored_in(photo: Image.Image, name: str) -> Image.Image:
    """The numbers of a profile for the colours of an sRGB photo."""
    primaries, white, exponent = PROFILES[name]
    change = np.linalg.solve(_to_d50(primaries, white), _to_d50(SRGB, D65))
    light = _linear(np.asarray(photo) / 255, None) @ change.T
    return Image.fromarray(np.round(_coded(light, exponent) * 255).astype(np.uint8))


def converted(photo: Image.Image, profile: bytes) -> Image.Image:
    """The photo in sRGB, as its profile says."""
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    made = ImageCms.profileToProfile(photo, source, target, ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB")
    assert made is not None
    return made


def main() -> None:
    """Print a row for each profile."""
    engine = isc_fast.load_engine(DEMO_ENGINE)
    negatives = isc_fast.read_descriptors(DEMO_NEGATIVES)
    rows: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_collection(folder, demo_photos())
        truth = isc_fast.read_truth(folder / "ground_truth.csv")
        isc_fast.extract(folder / "queries", engine, folder / "queries.h5", decoder="pillow")
        queries = isc_fast.subtract_negatives(isc_fast.read_descriptors(folder / "queries.h5"), negatives)
        paths = sorted((folder / "references").iterdir())
        photos = [load_rgb(str(path)) for path in paths]

        def described(images: list[Image.Image]) -> npt.NDArray[np.float32]:
            pixels = np.stack([fit(image, engine.spec.input) for image in images])
            return np.concatenate([engine.run(pixels[at : at + 8]) for at in range(0, len(pixels), 8)])

        def measured(vectors: npt.NDArray[np.float32]) -> dict[str, float]:
            cosines = (vectors * plain).sum(axis=1)
            found = isc_fast.Descriptors(vectors, [path.stem for path in paths], references.meta)
            kit = isc_fast.evaluate(isc_fast.search(queries, isc_fast.subtract_negatives(found, negatives)), truth)[
                "kit"
            ]
            shown = {"cosine_worst": float(cosines.min()), "cosine_mean": float(cosines.mean()), "uap": kit.micro_ap}
            return {**shown, "recall_at_p90": kit.recall_at_p90 or 0.0, "recall_at_1": kit.recall_at_rank[1]}

        isc_fast.extract(folder / "references", engine, folder / "references.h5", decoder="pillow")
        references = isc_fast.read_descriptors(folder / "references.h5")
        plain = described(photos)
        rows["sRGB"] = {"as it is": measured(plain)}
        for name in PROFILES:
            profile = icc(name)
            wide = [stored_in(photo, name) for photo in photos]
            rows[name] = {"ignored": measured(described(wide))}
            began = time.perf_counter()
            narrow = [converted(photo, profile) for photo in wide]
            pixels = sum(photo.width * photo.height for photo in wide)
            seconds = time.perf_counter() - began
            rows[name]["converted"] = measured(described(narrow)) | {"ms_per_megapixel": seconds / pixels * 1e9}
    for name, ways in rows.items():
        for way, figures in ways.items():
            print(f"{name:<14}{way:<11}" + "".join(f"{key} {value:<9.4f}" for key, value in figures.items()))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
