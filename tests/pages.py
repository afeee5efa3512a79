"""What a page of pairs holds, read without a browser."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class ReadPage:
    """A page: its whole text, its data, and the pictures of its photos."""

    html: str
    data: dict[str, Any]
    pictures: dict[str, Image.Image | None]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The ids of the pairs, in order."""
        ids = self.data["photos"]["id"]
        columns = self.data["pairs"]
        return [(ids[one], ids[other]) for one, other in zip(columns["left"], columns["right"], strict=True)]


def read_page(path: Path) -> ReadPage:
    """Read a page as the script inside it does."""
    html = path.read_text("utf-8")
    data = json.loads(_block(html, "application/json", "data"))
    text, photos = _block(html, "text/plain", "pictures"), data["photos"]
    pictures = {}
    for id_, at, size in zip(photos["id"], photos["at"], photos["size"], strict=True):
        content = base64.b64decode(text[at : at + size])
        pictures[id_] = Image.open(io.BytesIO(content)) if size else None
    return ReadPage(html, data, pictures)


def _block(html: str, kind: str, name: str) -> str:
    found = re.search(rf'<script type="{kind}" id="{name}">(.*?)</script>', html, re.DOTALL)
    assert found
    return found[1]
