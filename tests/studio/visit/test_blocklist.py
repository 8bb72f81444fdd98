from pathlib import Path

import pytest

from pipelines import Settings, SettingsError
from studio.visit.blocklist import Blocklist, read_blocklist

WORDS = Blocklist(["gore", "Bad Thing", "", "  ", "Élan"])


@pytest.mark.parametrize(
    "prompt", ["gore", "a GORE, please", "bad   thing", "bad-thing!", "so_gore_indeed", "elan", "ｇｏｒｅ", "(gore:1.3)"]
)
@pytest.mark.parametrize("field", ["prompt", "prompt_b", "negative"])
def test_listed_words_are_refused_in_every_prompt(prompt: str, field: str) -> None:
    with pytest.raises(SettingsError, match="holds a word") as caught:
        WORDS.check(Settings().patched({field: prompt}))
    assert caught.value.field == field and "gore" not in str(caught.value).lower()


@pytest.mark.parametrize("prompt", ["", "gorgeous", "a gored bull", "bad", "thing bad", "oil painting"])
def test_other_words_pass(prompt: str) -> None:
    WORDS.check(Settings().patched({"prompt": prompt}))
    Blocklist().check(Settings().patched({"prompt": "gore"}))


def test_a_file_holds_one_entry_a_line(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# a list\ngore  # blood\n\nbad thing\n", encoding="utf-8")
    assert len(read_blocklist(path)) == 2
    path.write_text("# nothing\n")
    with pytest.raises(ValueError, match="no words"):
        read_blocklist(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError):
        read_blocklist(path)
