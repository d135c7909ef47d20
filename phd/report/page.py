"""The page: style, heading, and the sections of the stages."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } th, td { padding: .3rem .9rem; border-bottom: 1px solid #ccc; text-align: right }
th:first-child, td:first-child { text-align: left } figure { margin: 0 } img { width: 100%; border-radius: 4px }
.row { display: grid; grid-template-columns: repeat(4, 1fr); gap: .6rem; margin-bottom: .8rem }
figcaption { font-size: 13px; color: #555 } code { background: #f3f3f3; padding: 0 .2rem }
"""


def write_report(out: Path, sections: Sequence[str]) -> Path:
    """Write `report.html`.

    Args:
        out: Folder of the demo.
        sections: HTML of each stage, in order.

    Returns:
        The page.
    """
    page = out / "report.html"
    page.write_text(
        f"<!doctype html><meta charset=utf-8><title>phd demo</title><style>{STYLE}</style>"
        "<h1>phd: one student, distilled on the embedded world</h1>"
        "<p>Rendered scenes and clips, noun phrases, a small SAM 3 trained on them as the teacher, an EfficientViT-B0 "
        "student. Everything here was computed on this machine; no weights were downloaded.</p>" + "\n".join(sections)
    )
    return page


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text."""
    lines = ["<tr>" + "".join(f"<th>{html.escape(head)}" for head in heads) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in row) + "</tr>" for row in rows]
    return "<table>" + "\n".join(lines) + "</table>"


def share(value: float | None, whole: float | None) -> str:
    """How much of the teacher's number, in percent; a dash where one of them is not known or there is no whole."""
    return "-" if value is None or not whole else f"{value / whole:.0%}"


def protocol_details(protocol: Any) -> str:
    """The protocol of an evaluation, folded away."""
    return f"<details><summary>Protocol</summary><pre>{html.escape(json.dumps(protocol, indent=1))}</pre></details>"


def figure(picture: Image.Image, caption: str) -> str:
    """A picture inside the page."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    image = f'<img src="data:image/png;base64,{data}" alt="">'
    return f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>"
