from benchmarks import models_doc
from pipelines import EXTRAS, REGISTRY


def test_the_page_matches_the_registry() -> None:
    text = models_doc.TARGET.read_text(encoding="utf-8")
    assert text == models_doc.document()
    assert all(f"`{name}`" in text for name in (*REGISTRY, *EXTRAS))
