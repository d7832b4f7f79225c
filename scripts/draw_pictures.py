"""Draw the pictures of docs/concepts into docs/images: ``python scripts/draw_pictures.py``.

Each is a narrow SVG with a ground of its own, so that it reads on a phone, and on a dark and a light page. It follows
the reader's colours. Nothing but text, boxes and arrows; a test holds the files equal to what this script writes.
"""

import html
from collections.abc import Callable
from pathlib import Path

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
WIDTH = 520
_STYLE = """
    .ground { fill: #ffffff; stroke: #d5d9e0; }
    .box { fill: #f1f4f9; stroke: #8592a6; }
    .strong { fill: #dfe9fb; stroke: #3f6fc4; }
    .sealed { fill: #fbeed3; stroke: #b07d1c; }
    .faint { fill: none; stroke: #a9b3c1; stroke-dasharray: 5 4; }
    .line { fill: none; stroke: #55617a; stroke-width: 1.6; }
    .head { fill: #55617a; }
    text { font: 15px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #1c2430; }
    .code { font-family: ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; font-size: 14px; }
    .note { font-size: 13.5px; fill: #4a566b; }
    .title { font-weight: 600; }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #161b24; stroke: #38414f; }
      .box { fill: #222a37; stroke: #76849b; }
      .strong { fill: #1d3157; stroke: #7aa2ee; }
      .sealed { fill: #3d3116; stroke: #d9a441; }
      .faint { stroke: #5d6879; }
      .line { stroke: #a9b5c9; }
      .head { fill: #a9b5c9; }
      text { fill: #e8ecf3; }
      .note { fill: #aeb9cb; }
    }
"""


class Picture:
    """An SVG of a fixed width, drawn from top to bottom."""

    def __init__(self, description: str, height: int) -> None:
        self._height = height
        self._description = description
        self._parts: list[str] = []

    def box(self, x: float, y: float, width: float, height: float, *lines: str, kind: str = "box") -> None:
        """Draw a box with lines of text in its middle; a line in backquotes is code, the first may be bold (``*``)."""
        self._parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="7"/>')
        top = y + height / 2 - (len(lines) - 1) * 9.5 + 5
        for number, line in enumerate(lines):
            self.text(x + width / 2, top + number * 19, line, anchor="middle")

    def text(self, x: float, y: float, line: str, *, anchor: str = "start", kind: str = "") -> None:
        """Write one line."""
        if line.startswith("`"):
            kind, line = "code", line.strip("`")
        elif line.startswith("*"):
            kind, line = "title", line.strip("*")
        elif line.startswith("_"):
            kind, line = "note", line.strip("_")
        name = f' class="{kind}"' if kind else ""
        self._parts.append(f'<text{name} x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(line)}</text>')

    def arrow(self, *points: tuple[float, float]) -> None:
        """Draw a line through points, with a head at its end."""
        path = " L".join(f"{x} {y}" for x, y in points)
        self._parts.append(f'<path class="line" d="M{path}" marker-end="url(#head)"/>')

    @property
    def svg(self) -> str:
        """The whole file."""
        body = "\n  ".join(self._parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self._height}" role="img">\n'
            f"  <title>{html.escape(self._description)}</title>\n"
            f"  <style>{_STYLE}  </style>\n"
            '  <defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            'orient="auto-start-reverse"><path class="head" d="M0 0 L10 5 L0 10 z"/></marker></defs>\n'
            f'  <rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{self._height - 1}" rx="10"/>\n'
            f"  {body}\n</svg>\n"
        )


def layers() -> Picture:
    """Eight layers, and the value of one setting in four of them."""
    picture = Picture("Layers: each one changes what the layers below it say. The highest one wins.", 416)
    rows = [
        ("changes at run time (overlay)", "12", "strong"),
        ("services: of dev-secrets.yaml", "", "sealed"),
        ("services: of dev.yaml", "", "box"),
        ("services: of base.yaml", "10", "box"),
        ("defaults: of dev-secrets.yaml", "", "sealed"),
        ("defaults: of dev.yaml", "8", "box"),
        ("defaults: of base.yaml", "", "box"),
        ("defaults of the schema", "5", "box"),
    ]
    picture.text(20, 34, "*layer*")
    picture.text(300, 34, "*says*", anchor="middle")
    for number, (name, value, kind) in enumerate(rows):
        y = 46 + number * 45
        picture.box(20, y, 245, 37, name, kind=kind)
        if value:
            picture.text(300, y + 24, f"`{value}`", anchor="middle")
    picture.arrow((323, 64), (346, 64))
    picture.box(348, 36, 152, 64, "*the service gets*", "`max_sessions: 12`", kind="strong")
    picture.arrow((490, 395), (490, 130))
    picture.text(478, 280, "_higher layers_", anchor="end")
    picture.text(478, 298, "_win_", anchor="end")
    return picture


def overlay() -> Picture:
    """Files and overlay, laid on one another."""
    picture = Picture(
        "The overlay holds what was changed at run time. It lies over the files and hides nothing else.", 410
    )
    picture.box(20, 20, 150, 58, "*patch, set*", "over MQTT, HTTP")
    picture.box(185, 20, 150, 58, "*unset*", "takes one back")
    picture.box(350, 20, 150, 58, "*an edit*", "of a file")
    picture.arrow((95, 78), (95, 108))
    picture.arrow((260, 78), (260, 108))
    picture.arrow((425, 78), (425, 222))
    picture.box(20, 110, 330, 76, "*overlay*", "`max_sessions: 12`", kind="strong")
    picture.box(20, 224, 480, 76, "*files and schema*", "`max_sessions: 10   timeout_seconds: 30`")
    picture.arrow((260, 300), (260, 334))
    picture.box(
        20,
        336,
        480,
        56,
        "`max_sessions: 12   timeout_seconds: 30`",
        "_the overlay hides the 10; the 30 still comes from the file_",
        kind="strong",
    )
    return picture


def revisions() -> Picture:
    """Revisions of one service, and the numbers of the whole home."""
    picture = Picture(
        "Revisions count the changes of one service. Epoch and sequence order everything in the home.", 400
    )
    last = 3
    picture.text(20, 36, "*revisions of voice_router*")
    for number, (name, note) in enumerate([("1", "file"), ("2", "patch"), ("3", "a mistake"), ("4", "rollback to 2")]):
        x = 20 + number * 122
        picture.box(x, 50, 92, 46, f"*{name}*", kind="strong" if number == last else "box")
        picture.text(x + 46, 114, f"_{note}_", anchor="middle")
        if number < last:
            picture.arrow((x + 92, 73), (x + 121, 73))
    picture.arrow((188, 130), (188, 146), (432, 146), (432, 124))
    picture.text(310, 166, "_the content of 2 comes again, as 4_", anchor="middle")
    picture.text(20, 212, "*what subscribers compare: (epoch, sequence)*")
    pairs = ["(1, 40)", "(1, 41)", "(1, 42)", "(2, 43)"]
    for number, name in enumerate(pairs):
        x = 20 + number * 122
        picture.box(x, 226, 104, 42, f"`{name}`", kind="strong" if number == last else "box")
        if number < last:
            picture.arrow((x + 104, 247), (x + 121, 247))
    picture.box(206, 296, 212, 58, "*an older database*", "a backup was restored", kind="faint")
    picture.arrow((418, 325), (438, 325), (438, 270))
    picture.text(20, 384, "_the epoch goes up, so that everybody follows the restored state_")
    return picture


def secrets() -> Picture:
    """The way of a secret from a person to the service."""
    picture = Picture("A secret is sealed from the person who types it to the service that needs it.", 470)
    picture.box(20, 20, 210, 58, "*you type a secret*", "`aliciacfg seal`")
    picture.box(290, 20, 210, 58, "*daemon's public key*", "seals, never opens")
    picture.arrow((290, 49), (232, 49))
    picture.arrow((125, 78), (125, 116))
    picture.box(20, 118, 480, 58, "*dev-secrets.yaml, or a write*", "`token: sealed:v1:9f2c…`", kind="sealed")
    picture.arrow((260, 176), (260, 214))
    picture.box(
        20,
        216,
        480,
        76,
        "*daemon*",
        "opens with keys.json, checks, seals again to store",
        "_database, history and backups hold sealed values only_",
        kind="strong",
    )
    picture.arrow((125, 292), (125, 330))
    picture.arrow((395, 292), (395, 330))
    picture.box(20, 332, 210, 58, "*everybody sees*", "`token: ***`")
    picture.box(290, 332, 210, 58, "*sealed to the service*", "`token: sealed:v1:41d7…`", kind="sealed")
    picture.arrow((395, 390), (395, 414))
    picture.box(290, 416, 210, 38, "the service opens it")
    picture.text(20, 440, "_if it registered a key: recipient new_")
    return picture


def delivery() -> Picture:
    """The way of a change from its writer to the services."""
    picture = Picture("A change is stored first, then published until the broker holds it.", 470)
    picture.box(20, 20, 150, 58, "*a writer*", "patch, file edit")
    picture.arrow((170, 49), (208, 49))
    picture.box(210, 20, 290, 58, "*daemon*", "checks the whole configuration")
    picture.arrow((355, 78), (355, 112))
    picture.box(
        210, 114, 290, 76, "*one transaction on disk*", "the revision, and a note", "“still to publish”", kind="strong"
    )
    picture.arrow((210, 140), (95, 140), (95, 80))
    picture.text(22, 160, "_the answer_")
    picture.arrow((355, 190), (355, 224))
    picture.box(210, 226, 290, 58, "*broker*", "retained: alicia/config/update/…")
    picture.arrow((500, 255), (512, 255), (512, 152), (502, 152))
    picture.text(22, 216, "_the message comes back:_")
    picture.text(22, 234, "_the note is removed_")
    picture.arrow((280, 284), (280, 330), (95, 330), (95, 356))
    picture.arrow((355, 284), (355, 356))
    picture.box(20, 358, 150, 58, "*a service*", "that runs: at once")
    picture.box(210, 358, 290, 58, "*a service that starts later*", "gets the retained message")
    picture.text(20, 446, "_no message is lost: what was not published is published again_")
    return picture


PICTURES: dict[str, Callable[[], Picture]] = {
    "layers": layers,
    "overlay": overlay,
    "revisions": revisions,
    "secrets": secrets,
    "delivery": delivery,
}


def main() -> None:
    """Write all pictures."""
    IMAGES.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (IMAGES / f"{name}.svg").write_text(draw().svg)


if __name__ == "__main__":
    main()
