from benchmarks import settings_doc


def test_the_page_matches_the_declarations() -> None:
    assert settings_doc.TARGET.read_text(encoding="utf-8") == settings_doc.document()
