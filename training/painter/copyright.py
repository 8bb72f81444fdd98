"""Which licence and author a file has, by a package's copyright file (DEP 5) or a README in the same form."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Stanza:
    """One paragraph: which files it is of, under which licence, by whom."""

    patterns: tuple[str, ...]
    licence: str
    author: str
    comment: str

    def covers(self, path: str) -> bool:
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in self.patterns)


def stanzas(text: str) -> list[Stanza]:
    """All paragraphs that name files, in their order. A field goes on until the next one, indented or not."""
    found = []
    for paragraph in re.split(r"\n[ \t]*\n", text.replace("\r", "")):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            start = re.match(r"(Copyright|License|Files|Comments?|Source):(.*)", line)
            if start:
                name = start[1]
                fields[name] = start[2].strip()
            elif name:
                fields[name] = f"{fields[name]}\n{line.strip()}".strip()
        licence, *rest = fields.get("License", "").splitlines() or [""]
        fields.setdefault("Files", "\n".join(rest))  # some READMEs list files right below the licence
        if fields["Files"] and licence:
            author = "; ".join(fields.get("Copyright", "").splitlines())
            comment = " ".join(fields.get(key, "") for key in ("Source", "Comment", "Comments")).strip()
            found.append(Stanza(tuple(fields["Files"].split()), licence, author, comment))
    return found


def of(path: str, known: list[Stanza]) -> Stanza | None:
    """The last paragraph that covers a path, as DEP 5 has it; None where none does."""
    covering = [stanza for stanza in known if stanza.covers(path)]
    return covering[-1] if covering else None
